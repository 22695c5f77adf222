// One tile. Its frame (state and name) always exists and is up to date. Its content is created when the tile comes near
// the visible area and removed when it leaves, so nothing old remains and thousands of tiles cost little.
//
// Text from machines enters the page as text only.

import { MEASUREMENTS, WORDS, clock, duration, machineUrl, millis, number, shortDuration, wasKnownAs } from "./format.js";

const EXTRAS_MAX = 3;
/** Under these names `extra` keeps the original of an unusable value. `_bytes` is the size of an `extra` that is too large
 *  for a list. */
const ORIGINALS = new Set(["temperature", "humidity", "vibration", "timestamp", "_bytes"]);
/** Characters of a name that fit each size, and the factor for smaller letters. */
const NAME_CHARACTERS = { full: 17, compact: 13, mini: 10 };
const LONG_NAME = 1.5;
/** How long a tile that has just gone offline is animated. */
const CHANGED_MS = 6_000;

export class Tile {
  #state = null;
  /** The content; null while the tile is not near the visible area. */
  #inside = null;

  constructor(machine, frame, inside) {
    this.machine = machine;
    this.item = frame.content.firstElementChild.cloneNode(true);
    this.template = inside;
    this.link = this.item.firstElementChild;
    this.word = this.item.querySelector(".word");
    this.link.querySelector("bdi").textContent = machine.machine_id;
    this.link.title = machine.machine_id;
    this.link.setAttribute("href", machineUrl(machine.machine_id));
    this.item.dataset.machine = machine.machine_id;
    this.drawState();
  }

  get isVisible() {
    return this.#inside !== null;
  }

  enter() {
    if (this.#inside) return;
    const inside = this.template.content.cloneNode(true);
    const part = (name) => inside.querySelector(`.${name}`);
    this.#inside = { flapping: part("flapping"), since: part("since"), name: part("name"), values: part("values") };
    Object.assign(this.#inside, { note: part("note"), extras: part("extras"), curve: inside.querySelector("path") });
    const [top, ...rest] = inside.children;
    this.link.querySelector(".top").append(...top.children);
    this.link.append(...rest);
    this.item.classList.add("near");
  }

  leave() {
    if (!this.#inside) return;
    const top = this.link.querySelector(".top");
    while (top.children.length > 1) top.lastElementChild.remove();
    while (this.link.children.length > 2) this.link.lastElementChild.remove();
    this.#inside = null;
    this.item.classList.remove("near");
  }

  drawState() {
    const { status } = this.machine;
    if (this.#state === status) return;
    const worse = this.#state !== null && status === "offline";
    this.link.dataset.state = status;
    this.word.textContent = WORDS[status] ?? status;
    this.#state = status;
    this.link.classList.toggle("changed", worse);
    if (worse) setTimeout(() => this.link.classList.remove("changed"), CHANGED_MS);
  }

  /** Draws the content, if it exists. `path` is the curve. */
  draw(size, now, path) {
    this.drawState();
    if (!this.#inside) return;
    const { machine } = this;
    const { flapping, name, extras } = this.#inside;
    if (flapping.hidden === Boolean(machine.flapping)) flapping.hidden = !machine.flapping;
    const room = NAME_CHARACTERS[size] ?? Infinity;
    const isLong = machine.machine_id.length > room;
    name.classList.toggle("long", isLong);
    setText(name, shortened(machine.machine_id, isLong ? Math.floor(room * LONG_NAME) : room));
    this.#drawValues();
    setText(extras, numericExtras(machine.latest?.extra).join("   "));
    this.drawAge(size, now);
    this.drawCurve(path);
  }

  /** Draws the ages, which grow by themselves. */
  drawAge(size, now) {
    if (!this.#inside) return;
    const since = millis(this.machine.status_since);
    const isNarrow = size !== "full";
    const age = now - since;
    const known = this.machine.status === "unknown" ? wasKnownAs(this.machine) : null;
    if (known) setText(this.#inside.since, size === "compact" ? "" : `was ${known}`);
    else if (since === null || this.machine.status === "unknown") setText(this.#inside.since, "");
    else setText(this.#inside.since, isNarrow ? shortDuration(age) : `for ${duration(age)}`);
    setText(this.#inside.note, note(this.machine, known, now, isNarrow));
  }

  drawCurve(path) {
    const curve = this.#inside?.curve;
    if (curve && curve.getAttribute("d") !== path) curve.setAttribute("d", path);
  }

  /** Reuses the elements while the set of measurements stays the same. */
  #drawValues() {
    const latest = this.machine.latest;
    const known = MEASUREMENTS.filter(({ name }) => Number.isFinite(latest?.[name]));
    const { values } = this.#inside;
    const names = known.map(({ name }) => name).join();
    if (values.dataset.names !== names) {
      values.dataset.names = names;
      values.replaceChildren(...known.map(({ name, unit }) => valueElement(name, unit)));
    }
    known.forEach(({ name }, index) => setText(values.children[index].firstElementChild, number(latest[name])));
  }
}

/** Keeps both ends of a long name, because machines of a line often differ only at the end. */
function shortened(name, most) {
  const characters = [...name];
  if (characters.length <= most) return name;
  const end = Math.ceil((most - 1) * 0.6);
  return `${characters.slice(0, most - 1 - end).join("")}…${characters.slice(-end).join("")}`;
}

/** Returns the note of a machine that is not online. `known` is the last known status of an unknown one. */
function note(machine, known, now, isNarrow) {
  const heard = millis(machine.last_seen_at);
  if (machine.status === "online") return "";
  if (machine.status === "never_seen") return isNarrow ? "Never heard" : "Expected, but never heard from";
  if (heard === null) return "Not heard yet";
  if (!isNarrow) return `Last heard ${clock(heard, now)}`;
  return `${known ? `Was ${known},` : "Heard"} ${shortDuration(now - heard)} ago`;
}

/** Returns `name value` of the first few numeric `extra` fields. */
function numericExtras(extra) {
  if (extra === null || typeof extra !== "object" || Array.isArray(extra)) return [];
  const numbers = Object.entries(extra).filter(([name, value]) => !ORIGINALS.has(name) && Number.isFinite(value));
  return numbers.slice(0, EXTRAS_MAX).map(([name, value]) => `${name} ${number(value)}`);
}

function valueElement(name, unit) {
  const span = document.createElement("span");
  span.append(document.createElement("b"), `\u00a0${unit}`);
  span.title = name;
  return span;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
