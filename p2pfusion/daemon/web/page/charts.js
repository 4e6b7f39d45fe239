// What every picture over rounds has: axes, their marks, and where a round is.

import { svg } from "./dom.js";

const LEFT = 52;
const RIGHT = 10;
const TOP = 14;
const BOTTOM = 24;
const COLUMN = 7;

/** How many rounds there is room for. */
export function columns(width) {
  return Math.max(10, Math.floor((width - LEFT - RIGHT) / COLUMN));
}

/** 1, 2 or 5 times a power of ten: at least this, for the marks of an axis. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((digit) => digit * power >= value * 0.999999);
}

/** Axes and their marks; `top` and `bottom` are the values that must be inside. */
export function frame({ width, height, rounds, words, format, top, bottom = 0 }) {
  const span = top - bottom > 0 ? top - bottom : 1;
  const step = roundUp(span / 4);
  const low = Math.floor(bottom / step + 1e-9) * step;
  const high = Math.max(low + step, Math.ceil(top / step - 1e-9) * step);
  const first = rounds[0].number;
  const count = Math.max(10, rounds.at(-1).number - first + 1);
  const each = (width - LEFT - RIGHT) / count;
  const bar = Math.max(1, each - (each > 4 ? 1.5 : 0));
  const left = (number) => LEFT + (number - first) * each;
  const y = (value) =>
    TOP + (height - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  const made = svg("svg", { width, height, role: "img", "aria-label": words });
  for (let value = low; value <= high + step / 2; value += step) {
    made.append(
      svg("line", { x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value), class: "grid" }),
      svg("text", { x: LEFT - 6, y: y(value) + 4, class: "tick end" },
        format(Math.abs(value) < step / 1e6 ? 0 : value)));
  }
  const last = first + count - 1;
  for (const number of marks(first, last, Math.max(2, Math.floor(width / 90)))) {
    made.append(svg("text", { x: left(number) + each / 2, y: height - 8, class: "tick" },
      String(number)));
  }
  return { svg: made, y, bar, left, x: (number) => left(number) + each / 2,
    add: (...parts) => made.append(...parts) };
}

/** Round numbers that stand below, about so many. */
export function marks(first, last, count) {
  const step = Math.max(1, roundUp((last - first + 1) / count));
  const found = [];
  for (let number = Math.ceil(first / step) * step; number <= last; number += step) {
    found.push(number);
  }
  return found;
}
