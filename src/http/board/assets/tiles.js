// The tiles: one element per machine, made once and used again, changed only where something changed.
//
// Texts of machines enter the page as text alone. Work is done in slices between two frames, so that thousands of
// machines never freeze the page.

import { MEASUREMENTS, WORDS, clock, duration, machineUrl, millis, number, shortDuration } from "./format.js";

/** Tiles made or changed between two frames. */
const SLICE = 150;
const EXTRAS_MAX = 3;
/** Characters of a name that a tile of each size has room for. */
const NAME_CHARACTERS = { full: 17, compact: 13, mini: 10 };
/** How long a machine that has just gone offline draws attention. */
const CHANGED_MS = 6_000;

export class Tiles {
  #tiles = new Map();
  #dirty = new Set();
  #inSight = new Set();
  #frame = null;
  #order = [];
  #orderDirty = false;

  /** `seen(id)` is told when a tile comes into sight; `path(id)` gives its curve; `now()` is the server's clock. */
  constructor(list, template, { seen, path, now }) {
    Object.assign(this, { list, template, seen, path, now });
    this.observer = new IntersectionObserver((entries) => this.#sighted(entries), { rootMargin: "100px" });
    setInterval(() => this.#tick(), 1_000);
  }

  /** The machines to show, in order; `visible` may be fewer than there are. */
  show(machines) {
    this.#order = machines;
    if (this.size !== this.list.dataset.size) {
      this.size = this.list.dataset.size;
      this.#tiles.forEach((_, id) => this.#dirty.add(id));
    }
    this.#orderDirty = true;
    this.#soon();
  }

  /** One machine has news. */
  touch(machine) {
    const tile = this.#tiles.get(machine.machine_id);
    if (!tile) return;
    tile.machine = machine;
    this.#dirty.add(machine.machine_id);
    this.#soon();
  }

  forget(ids) {
    for (const id of ids) {
      const tile = this.#tiles.get(id);
      if (!tile) continue;
      this.observer.unobserve(tile.item);
      tile.item.remove();
      this.#tiles.delete(id);
      this.#inSight.delete(id);
    }
  }

  /** Draws the curve of a machine anew. */
  redrawTrend(id) {
    const tile = this.#tiles.get(id);
    if (tile) setAttribute(tile.curve, "d", this.path(id));
  }

  redrawTrends() {
    for (const id of this.#inSight) this.redrawTrend(id);
  }

  /** All tiles that are in sight, for a curve that is to be asked for again. */
  get inSight() {
    return [...this.#inSight];
  }

  #soon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#work();
    });
  }

  #work() {
    if (this.#orderDirty) {
      if (!this.#arrange()) return this.#soon();
      this.#orderDirty = false;
    }
    let left = SLICE;
    for (const id of this.#dirty) {
      if (left-- === 0) return this.#soon();
      this.#dirty.delete(id);
      const tile = this.#tiles.get(id);
      if (tile) this.#draw(tile);
    }
  }

  /** Puts the elements in order, at most a slice of them; false if there is more to do. */
  #arrange() {
    let moved = 0;
    let next = this.list.firstElementChild;
    for (const machine of this.#order) {
      let tile = this.#tiles.get(machine.machine_id);
      if (!tile) {
        tile = this.#make(machine);
      }
      if (tile.machine !== machine) {
        tile.machine = machine;
        this.#dirty.add(machine.machine_id);
      }
      if (tile.item === next) {
        next = next.nextElementSibling;
      } else {
        if (moved++ === SLICE) return false;
        this.list.insertBefore(tile.item, next);
      }
    }
    if (next) {
      const rest = document.createRange();
      rest.setStartBefore(next);
      rest.setEndAfter(this.list.lastElementChild);
      rest.deleteContents(); // the elements are kept in #tiles, for when they are asked for again
    }
    return true;
  }

  #make(machine) {
    const item = this.template.content.firstElementChild.cloneNode(true);
    const part = (name) => item.querySelector(`.${name}`);
    const link = part("tile");
    const tile = { machine, item, link, word: part("word"), since: part("since"), name: part("name") };
    Object.assign(tile, { flapping: part("flapping"), note: part("note"), extras: part("extras") });
    Object.assign(tile, { values: part("values"), curve: item.querySelector("path"), state: null });
    part("only-spoken").textContent = machine.machine_id;
    link.title = machine.machine_id;
    link.setAttribute("href", machineUrl(machine.machine_id));
    item.dataset.machine = machine.machine_id;
    this.#tiles.set(machine.machine_id, tile);
    this.observer.observe(item);
    this.#draw(tile);
    return tile;
  }

  #draw(tile) {
    const { machine } = tile;
    if (tile.state !== machine.status) {
      const worse = tile.state !== null && machine.status === "offline";
      tile.link.dataset.state = machine.status;
      tile.word.textContent = WORDS[machine.status] ?? machine.status;
      tile.state = machine.status;
      tile.link.classList.toggle("changed", worse);
      if (worse) setTimeout(() => tile.link.classList.remove("changed"), CHANGED_MS);
    }
    if (tile.flapping.hidden === Boolean(machine.flapping)) tile.flapping.hidden = !machine.flapping;
    setText(tile.name, shortened(machine.machine_id, NAME_CHARACTERS[this.size] ?? Infinity));
    this.#drawSince(tile);
    this.#drawValues(tile);
    setText(tile.note, note(machine, this.now(), this.size !== "full"));
    if (this.#inSight.has(machine.machine_id)) this.redrawTrend(machine.machine_id);
  }

  #drawSince(tile) {
    const since = millis(tile.machine.status_since);
    if (since === null || tile.machine.status === "unknown") return setText(tile.since, "");
    const age = this.now() - since;
    setText(tile.since, this.size === "full" ? `for ${duration(age)}` : shortDuration(age));
  }

  #drawValues(tile) {
    const latest = tile.machine.latest;
    const known = MEASUREMENTS.filter(({ name }) => Number.isFinite(latest?.[name]));
    const text = known.map(({ name, unit }) => `${number(latest[name])}\u00a0${unit}`).join("|");
    if (tile.valuesText !== text) {
      tile.valuesText = text;
      tile.values.replaceChildren(...known.map(({ name, unit }) => valueElement(number(latest[name]), unit, name)));
    }
    setText(tile.extras, numericExtras(latest?.extra).join("   "));
  }

  #sighted(entries) {
    for (const entry of entries) {
      const id = entry.target.dataset.machine;
      if (entry.isIntersecting) {
        this.#inSight.add(id);
        this.#dirty.add(id);
        this.seen(id);
      } else {
        this.#inSight.delete(id);
      }
    }
    this.#soon();
  }

  /** Ages grow by themselves; only those in sight are worth the work. */
  #tick() {
    for (const id of this.#inSight) {
      const tile = this.#tiles.get(id);
      if (!tile) continue;
      this.#drawSince(tile);
      setText(tile.note, note(tile.machine, this.now(), this.size !== "full"));
    }
  }
}

/** Both ends of a long name: machines of a line often differ in the end alone. */
function shortened(name, most) {
  const characters = [...name];
  if (characters.length <= most) return name;
  const end = Math.ceil((most - 1) * 0.6);
  return `${characters.slice(0, most - 1 - end).join("")}…${characters.slice(-end).join("")}`;
}

/** What is worth saying about a machine that is not simply online. */
function note(machine, now, isNarrow) {
  const heard = millis(machine.last_seen_at);
  if (machine.status === "online") return "";
  if (machine.status === "never_seen") return isNarrow ? "Never spoke" : "Expected, but never spoke";
  if (heard === null) return "";
  return isNarrow ? `Heard ${shortDuration(now - heard)} ago` : `Last heard ${clock(heard, now)}`;
}

/** `name value` of the first few numbers among what a machine sends beyond the usual. */
function numericExtras(extra) {
  if (extra === null || typeof extra !== "object" || Array.isArray(extra)) return [];
  const numbers = Object.entries(extra).filter(([, value]) => Number.isFinite(value));
  return numbers.slice(0, EXTRAS_MAX).map(([name, value]) => `${name} ${number(value)}`);
}

function valueElement(value, unit, name) {
  const span = document.createElement("span");
  const strong = document.createElement("b");
  strong.textContent = value;
  span.append(strong, `\u00a0${unit}`);
  span.title = name;
  return span;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}
