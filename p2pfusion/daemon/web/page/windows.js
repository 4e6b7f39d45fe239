// The heat map: which part of an axis was trained in which round, and by whom.
//
// The first strip counts the peers that trained a place; then each peer has a strip of
// its own, in its colour, this one first. Who was to train and was missing is faint.

import { by, colour, html, show } from "./dom.js";
import { plural } from "./words.js";

const STRIPS = 12;
const COLUMN = 6;
const COLUMNS = 200;
const CELL = 10;
const HIGHEST = 64;
const LOW = 32;
const FEW = 6;
const FAINT = 0.3;

export class Windows {
  constructor(story) {
    this.story = story;
    this.strips = [];
    this.at = null;
    const place = by("windows");
    place.addEventListener("pointermove", (event) => this.point(event));
    place.addEventListener("keydown", (event) => this.step(event));
    by("axis").addEventListener("change", () => { this.at = null; this.draw(); });
  }

  draw() {
    const { story } = this;
    const pictures = story.pictures();
    const axis = by("axis");
    const chosen = Number(axis.value) || 0;
    show(axis, ...pictures.map((each, index) => html("option", { value: index }, each.name)));
    axis.value = String(chosen);
    axis.parentElement.hidden = !pictures.length;
    this.picture = pictures[chosen] ?? pictures[0];
    if (!this.picture) {
      this.empty();
      return;
    }
    const known = [...story.windows.keys()];
    const last = Math.max(...known);
    const width = Math.max(60, by("windows").clientWidth - 112);
    const room = Math.min(COLUMNS, Math.floor(width / COLUMN));
    this.count = Math.min(room, Math.max(20, last - Math.min(...known) + 1));
    this.first = Math.max(Math.min(...known), last - this.count + 1);
    const peers = this.peers();
    const totals = this.totals();
    const most = Math.max(1, ...totals.flat());
    this.build(["", ...peers.slice(0, STRIPS)]);
    const height = Math.min(this.picture.cells.length * CELL,
      peers.length > FEW ? LOW : HIGHEST);
    for (const { peer, canvas } of this.strips) {
      this.paint(canvas, width, height, peer ? this.story.colourOf(peer) : "--heat",
        peer ? this.strengths(peer) : totals.map((cells) => cells.map((n) => n / most)));
    }
    const rest = peers.length - STRIPS;
    this.axis.textContent = [
      `rounds ${this.first} to ${this.first + this.count - 1}`,
      `darkest in the first strip: ${plural(most, "peer")}`,
      ...(rest > 0 ? [`${plural(rest, "more peer")} count there and have no strip`] : []),
    ].join(" \u00b7 ");
    this.read();
  }

  empty() {
    this.strips = [];
    this.peerKey = null;
    show(by("windows"), html("p", { class: "empty" },
      `No round has begun yet: ${this.story.view.status.state.text}.`));
    show(by("windows-readout"));
  }

  /** Who trains in the rounds that are shown, this peer first. */
  peers() {
    const found = new Set();
    for (let number = this.first; number < this.first + this.count; number += 1) {
      Object.keys(this.story.windows.get(number) ?? {}).forEach((peer) => found.add(peer));
    }
    const { id } = this.story.view.status.self;
    return [id, ...this.story.order.filter((peer) => peer !== id)]
      .filter((peer) => found.has(peer));
  }

  /** For each round that is shown, how many peers trained each cell. */
  totals() {
    return this.eachRound((masks, missing) => {
      const there = Object.entries(masks).filter(([peer]) => !missing.has(peer));
      return this.picture.cells.map((cell) =>
        there.reduce((count, [, mask]) => count + has(mask, cell), 0));
    });
  }

  /** The same for one peer: how strongly each cell is drawn. */
  strengths(peer) {
    return this.eachRound((masks, missing) => {
      const strength = missing.has(peer) ? FAINT : 1;
      return this.picture.cells.map((cell) =>
        peer in masks ? strength * has(masks[peer], cell) : 0);
    });
  }

  eachRound(told) {
    return Array.from({ length: this.count }, (_, column) => {
      const number = this.first + column;
      const missing = this.story.rounds.get(number)?.missing ?? [];
      return told(this.story.windows.get(number) ?? {}, new Set(missing.map((row) => row.peer)));
    });
  }

  /** The strips' elements, made anew only when there are other peers. */
  build(peers) {
    const key = peers.map((peer) => peer && `${peer} ${this.story.name(peer)}`).join("\n");
    if (key === this.peerKey) return;
    this.peerKey = key;
    this.strips = peers.map((peer) => ({ peer, canvas: html("canvas", {}) }));
    this.axis = html("p", { class: "quiet rounds-axis" });
    by("windows").replaceChildren(...this.strips.map(({ peer, canvas }) =>
      html("div", { class: "strip" },
        html("span", { class: "name" },
          peer ? html("span", { class: `swatch of${this.story.colourOf(peer)}` }) : null,
          peer ? this.story.name(peer) : "all together"),
        canvas)), this.axis);
  }

  paint(canvas, width, height, name, strengths) {
    const { cells } = this.picture;
    const scale = devicePixelRatio || 1;
    Object.assign(canvas, { width: width * scale, height: height * scale });
    Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = canvas.getContext("2d");
    // Whole pixels, so that faint cells neither overlap nor leave a gap.
    const x = (column) => Math.round((column * width * scale) / this.count);
    const y = (row) => Math.round((row * height * scale) / cells.length);
    const box = (column, row) =>
      [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)];
    pen.fillStyle = colour("--untrained");
    pen.fillRect(0, 0, x(this.count), y(cells.length));
    pen.fillStyle = colour(name);
    strengths.forEach((each, column) => each.forEach((strength, row) => {
      pen.globalAlpha = strength;
      pen.fillRect(...box(column, row));
    }));
    if (!this.at) return;
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--ink");
    pen.lineWidth = 2 * scale;
    pen.strokeRect(...box(this.at.number - this.first, this.at.row));
  }

  /** Who was to train this cell in this round, and whether it is known to be missing. */
  trained(cell, number) {
    const masks = this.story.windows.get(number) ?? {};
    const missing = this.story.rounds.get(number)?.missing ?? [];
    return Object.entries(masks)
      .filter(([, mask]) => has(mask, cell))
      .map(([peer]) => ({ peer, missing: missing.some((row) => row.peer === peer) }));
  }

  // --- Reading a place ---------------------------------------------------------------

  point(event) {
    if (!(event.target instanceof HTMLCanvasElement) || !this.picture) return;
    const box = event.target.getBoundingClientRect();
    this.move(this.first + Math.floor(((event.clientX - box.left) / box.width) * this.count),
      Math.floor(((event.clientY - box.top) / box.height) * this.picture.cells.length));
  }

  step(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    if (!step || !this.picture) return;
    event.preventDefault();
    const at = this.at ?? { number: this.first + this.count - 1, row: 0 };
    this.move(at.number + step[0], at.row + step[1]);
  }

  move(number, row) {
    const inside = (value, first, count) => Math.max(first, Math.min(first + count - 1, value));
    this.at = { number: inside(number, this.first, this.count),
      row: inside(row, 0, this.picture.cells.length) };
    this.draw();
  }

  read() {
    if (!this.at) {
      show(by("windows-readout"));
      return;
    }
    const { number } = this.at;
    const cell = this.picture.cells[this.at.row];
    const who = this.trained(cell, number).map(({ peer, missing }) =>
      this.story.name(peer) + (missing ? " (missing)" : ""));
    const words = !this.story.windows.has(number) ? "not known here"
      : who.length ? who.join(", ") : "nobody";
    show(by("windows-readout"), `Round ${number}, ${cell.label}: ${words}`);
  }
}

/** 1 if the mask has the cell, else 0. */
function has(mask, cell) {
  return (mask[cell.axis] >>> cell.bit) & 1;
}
