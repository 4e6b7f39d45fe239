// Loss, accuracy and traffic over the rounds.

import { columns, frame } from "./charts.js";
import { by, html, show, svg } from "./dom.js";
import { number, percent, plural, size } from "./words.js";

const HEIGHT = 200;
const OTHERS = 7;

export function drawCurves(story) {
  const { self } = story.view.status;
  const rounds = story.lastRounds(Infinity);
  const own = new Map([...story.losses, ...rounds.map((r) => [r.number, r.loss])]);
  const lines = [{ peer: self.id, points: points(own), own: true }];
  const others = story.order.filter((id) => id !== self.id);
  for (const peer of others.slice(0, OTHERS)) {
    const losses = rounds.map((r) => [r.number, r.offers[peer]?.loss]);
    lines.unshift({ peer, points: points(new Map(losses)), own: false });
  }
  curve(story, "loss", lines, number, "The first loss is known when this peer has trained.",
    others.length - OTHERS);
  const accuracies = points(new Map(rounds.map((r) => [r.number, r.accuracy])));
  curve(story, "accuracy", [{ peer: self.id, points: accuracies, own: true }], percent,
    "Not measured here. A profile with [data] validation keeps some of its data for that.");
}

function points(values) {
  return [...values].filter(([, value]) => Number.isFinite(value))
    .sort(([a], [b]) => a - b);
}

function curve(story, id, lines, format, otherwise, leftOut = 0) {
  const place = by(id);
  const drawn = lines.filter((line) => line.points.length);
  if (!drawn.length) {
    show(place, html("p", { class: "empty" }, otherwise));
    return;
  }
  const all = drawn.flatMap((line) => line.points);
  const numbers = all.map(([at]) => at);
  const values = all.map(([, value]) => value);
  const ends = [Math.min(...numbers), Math.max(...numbers)];
  const latest = drawn.at(-1).points.at(-1);
  const chart = frame({ width: place.clientWidth, height: HEIGHT, format,
    rounds: ends.map((at) => ({ number: at })), top: Math.max(...values),
    bottom: Math.min(id === "loss" ? 0 : Infinity, ...values),
    words: `${id} from round ${ends[0]} to ${ends[1]}, ${format(latest[1])} at the end` });
  for (const line of drawn) {
    chart.add(svg("path", { d: path(line.points, chart),
      class: `curve ${line.own ? "own" : ""} of${story.colourOf(line.peer)}` },
    svg("title", {}, story.name(line.peer))));
  }
  const [at, value] = latest;
  chart.add(svg("circle", { cx: chart.x(at), cy: chart.y(value), r: 3.5,
    class: `dot of${story.colourOf(drawn.at(-1).peer)}` }));
  show(place, chart.svg, html("ul", { class: "legend" },
    ...[...drawn].reverse().map((line) => html("li", {},
      html("span", { class: `swatch of${story.colourOf(line.peer)}`, "aria-hidden": "true" }),
      `${story.name(line.peer)}: ${format(line.points.at(-1)[1])}`)),
    leftOut > 0 ? html("li", {}, `and ${plural(leftOut, "peer")} not drawn`) : ""));
}

/** A line with a gap where rounds are not known; a single one is a dot. */
function path(points, chart) {
  let before = NaN;
  return points.map(([at, value]) => {
    const next = at === before + 1;
    before = at;
    const place = `${chart.x(at).toFixed(1)} ${chart.y(value).toFixed(1)}`;
    return next ? `L${place}` : `M${place}h.01`;
  }).join("");
}

export function drawTraffic(story) {
  const place = by("traffic");
  const { traffic } = story.view.status;
  const rounds = story.lastRounds(columns(place.clientWidth));
  const totals = html("p", {},
    `${size(traffic.sent_bytes)} sent and ${size(traffic.received_bytes)} received in all`,
    traffic.sub_model_bytes === null ? "" : `; it trains ${size(traffic.sub_model_bytes)} ` +
      `of a model of ${size(traffic.full_model_bytes)}`, ".");
  if (!rounds.length) {
    show(place, totals, html("p", { class: "empty" }, "Per round it is shown from the first round on."));
    return;
  }
  const sent = Math.max(1, ...rounds.map((r) => r.sent_bytes));
  const received = Math.max(1, ...rounds.map((r) => r.received_bytes));
  const chart = frame({ width: place.clientWidth, height: HEIGHT, rounds,
    top: sent, bottom: -received, format: (value) => size(Math.abs(value)),
    words: "Bytes sent (up) and received (down) in each round" });
  for (const round of rounds) {
    const bar = (value, key) => svg("rect", { x: chart.left(round.number), width: chart.bar,
      y: Math.min(chart.y(0), chart.y(value)), class: `bytes ${key}`,
      height: Math.abs(chart.y(value) - chart.y(0)) });
    chart.add(svg("g", {},
      svg("title", {}, `Round ${round.number}: ${size(round.sent_bytes)} sent, ` +
        `${size(round.received_bytes)} received`),
      bar(round.sent_bytes, "sent"), bar(-round.received_bytes, "received")));
  }
  show(place, totals, chart.svg, html("ul", { class: "legend" },
    ...["sent", "received"].map((key) => html("li", {},
      html("span", { class: `swatch bytes ${key}`, "aria-hidden": "true" }),
      `${key} per round (${key === "sent" ? "up" : "down"})`))));
}
