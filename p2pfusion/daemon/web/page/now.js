// What the peer does now, what is wrong, and what has happened.

import { by, html, show } from "./dom.js";
import { duration, percent, plural, UNKNOWN } from "./words.js";

const LEVELS = { info: "Note", warn: "Warning", error: "Error" };
const WAITS_SHOWN = 6;
const EVENTS_SHOWN = 40;

export function drawState(story) {
  const { status } = story.view;
  const { self, swarm, state, security } = status;
  document.title = `${self.name}: ${state.text}`;
  by("swarm-name").textContent = swarm ? swarm.name : "No swarm yet";
  by("about").textContent = swarm ? `${swarm.method} on ${swarm.model}` : "";
  by("who").textContent = [
    `seen from ${self.name} (${self.role})`,
    security.encrypted ? "encrypted" : "NOT ENCRYPTED",
    `up ${duration(status.daemon.uptime_s)}`,
  ].join(" \u00b7 ");
  by("footer").textContent = `p2pfusion ${status.daemon.version} \u00b7 peer ${self.id}`;
  show(by("state"),
    html("p", { class: "sentence" }, sentence(state.text)),
    state.advice ? html("p", {}, `What to do: ${state.advice}`) : null,
    progress(status),
    html("div", { class: "columns" },
      health(status.health), waits(status.round.waiting_for)));
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function progress({ swarm, round }) {
  if (!swarm || round.number === null) return null;
  const text = `Round ${round.number} of ${swarm.rounds}`;
  return html("p", { class: "progress" },
    html("progress", { max: swarm.rounds, value: round.number, "aria-label": text }),
    html("span", { class: "number" },
      `${text} \u00b7 ${percent(round.number / swarm.rounds)}`));
}

function waits(list) {
  if (!list.length) return null;
  const words = ({ peer, reason, gives_up_in_s: left }) =>
    `${peer}: ${reason}` + (left === null ? "" : `, for ${duration(left)} more at most`);
  const rest = list.length - WAITS_SHOWN;
  return html("div", {},
    html("h3", {}, "Waits for"),
    html("ul", { class: "plain" },
      ...list.slice(0, WAITS_SHOWN).map((wait) => html("li", {}, words(wait))),
      rest > 0 ? html("li", { class: "quiet" }, `and ${plural(rest, "more peer")}`) : null));
}

function health(list) {
  return html("div", {},
    html("h3", {}, "Health"),
    list.length ? html("ul", { class: "plain" }, ...list.map(trouble))
      : html("p", { class: "good" }, "\u2713 Nothing is wrong here."));
}

function trouble({ level, message, hint }) {
  return html("li", { class: level },
    html("strong", {}, `${LEVELS[level] ?? level}: `), message,
    hint ? html("span", { class: "quiet" }, ` \u2014 ${hint}`) : null);
}

export function drawEvents(story) {
  const rows = story.events.slice(-EVENTS_SHOWN).reverse();
  const line = ({ at, text }) => html("li", {},
    html("time", { datetime: at }, clock(at)), ` ${text}`);
  show(by("events"), rows.length
    ? html("ol", { class: "plain events" }, ...rows.map(line))
    : html("p", { class: "empty" }, "Nothing yet."));
}

function clock(at) {
  const when = new Date(at);
  return Number.isNaN(when.valueOf()) ? UNKNOWN : when.toLocaleTimeString();
}
