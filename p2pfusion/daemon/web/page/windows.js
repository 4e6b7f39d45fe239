// The heat map: which part of an axis was trained in which round, and by whom.
//
// The first strip counts the peers that trained a place; then each peer has a strip of
// its own, in its colour. Who was to train and was missing is drawn faintly.

import { by, colour, html, show } from "./dom.js";
import { plural } from "./words.js";

const STRIPS = 12;
const COLUMN = 6;
const COLUMNS = 200;
const CELL = 10;
const HIGHEST = 64;

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
    this.build(["", ...peers.slice(0, STRIPS)]);
    this.strips.forEach((strip) => this.paint(strip, width, peers));
    this.axis.textContent = `round ${this.first} to ${this.first + this.count - 1}` +
      (peers.length > STRIPS ? ` \u00b7 ${plural(peers.length - STRIPS, "more peer")} count in the first strip` : "");
    this.read();
  }

  empty() {
    this.strips = [];
    this.peerKey = null;
    show(by("windows"), html("p", { class: "empty" },
      `No round has begun yet: ${this.story.view.status.state.text}.`));
    show(by("windows-readout"));
  }

  /** Who trains in the rounds that are shown, in the order in which they were met. */
  peers() {
    const found = new Set();
    for (let number = this.first; number < this.first + this.count; number += 1) {
      Object.keys(this.story.windows.get(number) ?? {}).forEach((peer) => found.add(peer));
    }
    return this.story.order.filter((peer) => found.has(peer));
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

  paint(strip, width, peers) {
    const { cells } = this.picture;
    const height = Math.min(HIGHEST, cells.length * CELL);
    const scale = devicePixelRatio || 1;
    Object.assign(strip.canvas, { width: width * scale, height: height * scale });
    Object.assign(strip.canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = strip.canvas.getContext("2d");
    // Whole pixels, so that faint cells neither overlap nor leave a gap.
    const x = (column) => Math.round((column * width * scale) / this.count);
    const y = (row) => Math.round((row * height * scale) / cells.length);
    pen.fillStyle = colour("--untrained");
    pen.fillRect(0, 0, x(this.count), y(cells.length));
    pen.fillStyle = colour(strip.peer ? this.story.colourOf(strip.peer) : "--heat");
    for (let column = 0; column < this.count; column += 1) {
      const number = this.first + column;
      if (!this.story.windows.has(number)) continue;
      cells.forEach((cell, row) => {
        pen.globalAlpha = this.strength(strip.peer, cell, number, peers.length);
        pen.fillRect(x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row));
      });
    }
    if (!this.at) return;
    const [column, row] = [this.at.number - this.first, this.at.row];
    pen.globalAlpha = 1;
    pen.strokeStyle = colour("--ink");
    pen.lineWidth = 2 * scale;
    pen.strokeRect(x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row));
  }

  strength(peer, cell, number, count) {
    const who = this.trained(cell, number);
    if (!peer) {
      const there = who.filter(({ missing }) => !missing).length;
      return there / Math.max(1, count);
    }
    const own = who.find((each) => each.peer === peer);
    return own ? (own.missing ? 0.3 : 1) : 0;
  }

  /** Who was to train this cell in this round, and whether it is known to be missing. */
  trained(cell, number) {
    const masks = this.story.windows.get(number) ?? {};
    const missing = this.story.rounds.get(number)?.missing ?? [];
    return Object.entries(masks)
      .filter(([, mask]) => (mask[cell.axis] >>> cell.bit) & 1)
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
