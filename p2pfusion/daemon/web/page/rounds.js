// Rounds: how long each took and with what, and who was missing, and why.

import { columns, frame } from "./charts.js";
import { by, html, show, svg, table } from "./dom.js";
import { duration, number, plural, size, UNKNOWN } from "./words.js";

const HEIGHT = 220;
const ROWS = 12;
const LABEL_COLUMNS = 6;
const PHASES = [
  ["train", "training"],
  ["offers", "waiting for the others\u2019 training"],
  ["exchange", "exchange"],
];

export function drawRounds(story) {
  const rounds = story.lastRounds(columns(by("timeline").clientWidth));
  if (!rounds.length) {
    const none = html("p", { class: "empty" },
      `No round is over yet: ${story.view.status.state.text}.`);
    show(by("timeline"), none);
    show(by("rounds"), none.cloneNode(true));
    return;
  }
  show(by("timeline"), timeline(rounds, by("timeline").clientWidth), legend(rounds));
  show(by("rounds"), table(
    ["Round", "Took", "Trained", "Missing", "Loss", "Sent"],
    rounds.slice(-ROWS).reverse().map((round) => [
      round.number,
      duration(round.seconds),
      plural(round.contributors.length, "peer"),
      missing(round),
      number(round.loss),
      size(round.sent_bytes),
    ])));
}

function missing({ missing: rows }) {
  if (!rows.length) return "nobody";
  const words = rows.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
  return html("span", { class: "bad long" }, `\u2715 ${words}`);
}

function timeline(rounds, width) {
  const words = `Durations of rounds ${rounds[0].number} to ${rounds.at(-1).number}`;
  const top = highest(rounds.map((round) => round.seconds));
  const chart = frame({ width, height: HEIGHT, rounds, words, format: duration, top });
  let labelled = -Infinity;
  for (const round of rounds) {
    let below = 0;
    const parts = [svg("title", {}, told(round))];
    for (const [key] of PHASES) {
      const above = Math.min(top, below + Math.max(0, round.phases[key] ?? 0));
      parts.push(svg("rect", { x: chart.left(round.number), y: chart.y(above),
        width: chart.bar, height: chart.y(below) - chart.y(above), class: `phase ${key}` }));
      below = above;
    }
    const mark = (y, style, words) => parts.push(
      svg("text", { x: chart.x(round.number), y: chart.y(below) + y, class: style }, words));
    if (round.missing.length) mark(-3, "mark bad", "\u2715");
    if (round.seconds > 1.01 * top) {
      // The words reach over the next few columns.
      const words = `\u2191 ${duration(round.seconds)}`;
      if (round.number > labelled + LABEL_COLUMNS) {
        mark(12, "mark cut", words);
        labelled = round.number;
      }
    }
    chart.add(svg("g", {}, ...parts));
  }
  return chart.svg;
}

/** Where the picture ends: a round that took many times as long is cut off, and says
 * so, since nothing could be seen of the others beside it. */
function highest(seconds) {
  const sorted = [...seconds].sort((a, b) => a - b);
  return Math.min(sorted.at(-1), 4 * sorted[Math.floor(sorted.length / 2)]);
}

function told(round) {
  const phases = PHASES.map(([key, words]) => `${words} ${duration(round.phases[key])}`);
  const names = round.missing.map(({ name, reason }) => `${name} (${reason})`);
  const without = names.length ? `, without ${names.join(", ")}` : "";
  return `Round ${round.number}: ${phases.join(", ")}${without}`;
}

function legend(rounds) {
  const found = rounds.filter((round) => round.missing.length).length;
  return html("ul", { class: "legend" },
    ...PHASES.map(([key, words]) => html("li", {},
      html("span", { class: `swatch phase ${key}`, "aria-hidden": "true" }), words)),
    html("li", {}, html("span", { class: "bad" }, "\u2715 "),
      found ? `${plural(found, "round")} without somebody` : "nobody was missing"));
}
