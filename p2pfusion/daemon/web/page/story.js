// What the daemon has told so far: the present as it is, the past by number.
//
// A daemon that was started again has forgotten its rounds, and this page has not. If it
// is another peer, or in another swarm, the story begins anew.

const ROUNDS_KEPT = 1000;
const EVENTS_KEPT = 200;
const GATE = "layer ";

export class Story {
  constructor() {
    this.view = null;
    this.forget();
  }

  forget() {
    this.rounds = new Map();
    this.windows = new Map();
    this.events = [];
    this.losses = new Map();
    this.order = [];
  }

  /** Up to where the past is known. */
  cursors() {
    const last = (numbers) => Math.max(-1, ...numbers);
    return {
      round: last(this.rounds.keys()),
      window: last(this.windows.keys()),
      event: this.events.length ? this.events.at(-1).number : 0,
    };
  }

  /** One more answer; whether there may be more to ask for at once. */
  take(view) {
    if (this.view && identity(view) !== identity(this.view)) this.forget();
    this.view = view;
    for (const row of view.rounds) this.rounds.set(row.number, row);
    for (const row of view.windows) this.windows.set(row.number, row.masks);
    const after = this.cursors().event;
    const events = view.events.filter((event) => event.number > after);
    this.events = [...this.events, ...events].slice(-EVENTS_KEPT);
    for (const { kind, details } of events) {
      if (kind === "round-sealed" && "round" in details) {
        this.losses.set(details.round, details.loss);
      }
    }
    for (const known of [this.rounds, this.windows, this.losses]) trim(known);
    const strangers = view.peers.map((peer) => peer.id)
      .filter((peer) => !this.order.includes(peer));
    this.order.push(...strangers.sort());
    return [view.rounds, view.windows].some((rows) => rows.length >= view.at_once);
  }

  /** Rounds that are known, oldest first, at most so many. */
  lastRounds(count) {
    const numbers = [...this.rounds.keys()].sort((a, b) => a - b).slice(-count);
    return numbers.map((number) => this.rounds.get(number));
  }

  name(peer) {
    return this.view.peers.find((row) => row.id === peer)?.name ?? peer.slice(0, 6);
  }

  /** The class that gives a peer its colour, the same as long as the page is open. */
  colourOf(peer) {
    return `--peer-${Math.max(0, this.order.indexOf(peer)) % 8}`;
  }

  /** Axes as pictures: each a list of cells, which name a bit of a mask. All gates are
   * one picture, since a gate is a single cell. */
  pictures() {
    const kept = Math.max(0, ...[...this.windows.values()].map(
      (masks) => Object.values(masks)[0]?.length ?? 0));
    const axes = this.view.axes.slice(0, kept).map((axis, index) => ({ ...axis, index }));
    const widths = axes.filter((axis) => !axis.name.startsWith(GATE));
    const gates = axes.filter((axis) => axis.name.startsWith(GATE));
    const layers = { name: "layers", cells: gates.map(
      (gate) => ({ axis: gate.index, bit: 0, label: gate.name })) };
    return [...widths.map(picture), ...(gates.length ? [layers] : [])];
  }
}

function picture({ name, size, cell_size: step, index }) {
  const cells = [];
  for (let start = 0; start < size; start += step) {
    const stop = Math.min(start + step, size) - 1;
    const label = start === stop ? `index ${start}` : `indices ${start}\u2013${stop}`;
    cells.push({ axis: index, bit: cells.length, label });
  }
  return { name: `${name} (${size})`, cells };
}

function identity(view) {
  return `${view.status.self.id} ${view.status.swarm?.id}`;
}

function trim(known) {
  while (known.size > ROUNDS_KEPT) known.delete(known.keys().next().value);
}
