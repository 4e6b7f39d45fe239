// The members: as a picture with the links of this peer, and as a table.

import { by, html, show, svg, table } from "./dom.js";
import { duration, percent, size, UNKNOWN } from "./words.js";

const NAME_WIDTH = 55;
const MANY = 60;
const DOT = 14;
const HEIGHT = 320;
const HEIGHT_ALONE = 120;
const GONE = /^(left|leaves|out |put out|declared)/;

/** What a state is like, as a class and a sign: colour alone says nothing. */
function kind(peer) {
  if (GONE.test(peer.state)) return { name: "gone", sign: "\u2013" };
  if (!peer.online) return { name: "bad", sign: "\u2715" };
  if (peer.state.includes("suspected")) return { name: "warned", sign: "!" };
  return { name: "good", sign: "\u2713" };
}

export function drawSwarm(story) {
  const { peers } = story.view;
  if (!peers.length) {
    const none = html("p", { class: "empty" }, "This peer is in no swarm yet.");
    show(by("map"), none);
    show(by("members"), none.cloneNode(true));
    return;
  }
  const drawn = peers.length > MANY ? crowd : picture;
  show(by("map"), drawn(story, by("map").clientWidth),
    peers.length > 1 ? null
      : html("p", { class: "empty" }, "Alone so far: invite others with ",
        html("code", {}, "p2pfusion invite create"), "."));
  show(by("members"), table(
    ["Name", "State", "Round", "Trains", "Ping", "Sent", "Received"],
    peers.map((peer) => [
      html("span", { class: "name" }, swatch(story, peer.id), peer.name),
      html("span", { class: `${kind(peer).name}${long(peer.state)}` },
        `${kind(peer).sign} ${peer.state === "self" ? "this peer" : peer.state}`),
      peer.round ?? UNKNOWN,
      percent(peer.split_fraction),
      peer.state === "self" ? UNKNOWN : duration(peer.rtt_s),
      size(peer.sent_bytes),
      size(peer.received_bytes),
    ])));
}

function long(words) {
  return words.length > 14 ? " long" : "";
}

/** The square that shows the colour of a peer. */
export function swatch(story, peer) {
  return html("span", { class: `swatch of${story.colourOf(peer)}`, "aria-hidden": "true" });
}

function picture(story, width) {
  const { peers } = story.view;
  const height = peers.length > 1 ? HEIGHT : HEIGHT_ALONE;
  const places = peers.map((_, index) => place(index, peers.length, width, height));
  const named = peers.length <= width / NAME_WIDTH;
  const radius = named ? 17 : 7;
  const words = peers.map((peer) => `${peer.name}: ${peer.state}`).join("; ");
  return svg("svg", { width, height, role: "img", "aria-label": words },
    ...peers.slice(1).map((peer, index) => link(peer, places[0], places[index + 1])),
    ...peers.map((peer, index) => node(story, peer, places[index], radius, named)));
}

/** Too many for links: one dot each, in the order of the table. */
function crowd(story, width) {
  const { peers } = story.view;
  const across = Math.max(1, Math.floor(width / DOT));
  const height = Math.ceil(peers.length / across) * DOT;
  const online = peers.filter((peer) => peer.online).length;
  return svg("svg", { width, height, role: "img",
    "aria-label": `${online} of ${peers.length} members are online` },
  ...peers.map((peer, index) => svg("circle", {
    cx: (index % across) * DOT + DOT / 2, cy: Math.floor(index / across) * DOT + DOT / 2,
    r: kind(peer).name === "good" ? 4 : 6, class: `node ${kind(peer).name}` },
  svg("title", {}, `${peer.name}: ${peer.state}`))));
}

/** This peer is in the middle, the others in an ellipse around it. */
function place(index, count, width, height) {
  const middle = { x: width / 2, y: height / 2 };
  if (index === 0) return middle;
  const others = count - 1;
  // Nobody straight below, where the name of this peer is.
  const first = others === 1 ? Math.PI / 2 : others % 2 ? 0 : Math.PI / others;
  const turn = (2 * Math.PI * (index - 1)) / others - Math.PI / 2 + first;
  return {
    x: middle.x + (width / 2 - 60) * Math.cos(turn),
    y: middle.y + (height / 2 - 64) * Math.sin(turn),
  };
}

function link(peer, from, to) {
  return svg("line", { x1: from.x, y1: from.y, x2: to.x, y2: to.y,
    class: `link ${kind(peer).name}` });
}

function node(story, peer, { x, y }, radius, named) {
  const { name, sign } = kind(peer);
  const whole = 2 * Math.PI * (radius + 5);
  // Above what is above the middle, so that no link runs through a name.
  const top = y < HEIGHT / 2 - 5 ? -radius - 26 : radius + 21;
  const label = (line, text, style) => svg("text", { y: top + 14 * line, class: style }, text);
  return svg("g", { transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` },
    svg("title", {}, `${peer.name}: ${peer.state}, trains ${percent(peer.split_fraction)}`),
    svg("circle", { r: radius + 5, class: "ring" }),
    svg("circle", { r: radius + 5, class: `ring share of${story.colourOf(peer.id)}`,
      transform: "rotate(-90)",
      "stroke-dasharray": `${(whole * peer.split_fraction).toFixed(1)} ${whole.toFixed(1)}` }),
    svg("circle", { r: radius, class: `node ${name}` }),
    named ? svg("text", { class: "sign", y: 5 }, sign) : null,
    named ? label(0, short(peer.name), "label") : null,
    named ? label(1, short(peer.state === "self" ? "this peer" : peer.state), "quiet")
      : null);
}

function short(text) {
  return text.length > 15 ? `${text.slice(0, 14)}\u2026` : text;
}
