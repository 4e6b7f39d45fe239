// Asks once a second for what is new, and draws it; goes on asking when nobody answers.

import { drawCurves, drawTraffic } from "./curves.js";
import { by, show } from "./dom.js";
import { drawEvents, drawState } from "./now.js";
import { ask, takeToken } from "./link.js";
import { drawRounds } from "./rounds.js";
import { Story } from "./story.js";
import { drawSwarm } from "./swarm.js";
import { Windows } from "./windows.js";

const EVERY_MS = 1000;
const SLOWEST_MS = 5000;

const NO_TOKEN = "This page needs the token of its daemon. Run `p2pfusion web` on the " +
  "machine where the daemon runs, and open the link that it prints.";

const story = new Story();
const windows = new Windows(story);
let wait = EVERY_MS;
let timer = 0;

async function turn() {
  clearTimeout(timer);
  let more = false;
  try {
    const view = await answer();
    if (view) {
      const before = story.view?.status.daemon.version;
      if (before && before !== view.status.daemon.version) location.reload();
      more = story.take(view);
      draw();
    }
  } finally {
    clearTimeout(timer);
    // A tab that nobody sees asks again when it is seen.
    if (!document.hidden) timer = setTimeout(turn, more ? 0 : wait);
  }
}

/** What is new; null, and said, if nobody tells. */
async function answer() {
  try {
    const view = await ask(story.cursors());
    wait = EVERY_MS;
    say("");
    return view;
  } catch (error) {
    wait = Math.min(2 * wait, SLOWEST_MS);
    say(trouble(error));
    return null;
  }
}

function trouble(error) {
  if (error.status === 401) return NO_TOKEN;
  const why = error.status ? `the daemon does not answer (${error.message})`
    : "nobody answers at this address";
  const since = story.view ? "; what is shown is what it said last" : "";
  return `Connection lost: ${why}. Trying again${since}.`;
}

function say(words) {
  by("notice").hidden = !words;
  show(by("notice"), words);
  document.body.classList.toggle("stale", Boolean(words));
}

function draw() {
  if (!story.view) return;
  by("main").hidden = false;
  drawState(story);
  drawSwarm(story);
  windows.draw();
  drawRounds(story);
  drawCurves(story);
  drawTraffic(story);
  drawEvents(story);
}

takeToken();
addEventListener("hashchange", () => { takeToken(); turn(); });
document.addEventListener("visibilitychange", () => { if (!document.hidden) turn(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
new ResizeObserver(draw).observe(by("main"));
turn();
