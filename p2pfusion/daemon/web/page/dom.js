// Elements from plain values. A text is a text node and never markup: names and reasons
// are the words of other peers.

const SVG = "http://www.w3.org/2000/svg";

function build(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : String(value));
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An element of HTML; children are elements or texts. */
export function html(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** An element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

/** The element with this id. */
export function by(id) {
  return document.getElementById(id);
}

/** Puts these in, unless they are there already: what somebody reads or marks stays. */
export function show(place, ...children) {
  const next = place.cloneNode(false);
  next.append(...children.filter((child) => child !== null && child !== undefined));
  if (!place.isEqualNode(next)) {
    place.replaceChildren(...next.childNodes);
  }
}

/** A table: `heads` are texts, cells are texts or elements, numbers stand right. */
export function table(heads, rows) {
  const cell = (value) =>
    html("td", { class: typeof value === "number" ? "number" : null },
      typeof value === "number" ? String(value) : value);
  return html("table", {},
    html("thead", {}, html("tr", {},
      ...heads.map((head) => html("th", { scope: "col" }, head)))),
    html("tbody", {},
      ...rows.map((row) => html("tr", {}, ...row.map(cell)))));
}

/** A value of the style sheet, for canvases, which know no classes. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
