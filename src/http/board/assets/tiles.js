// All tiles: made once and used again, brought into order, and drawn where somebody can see them.
//
// Work is done between two frames, for a few milliseconds each, so that thousands of machines never freeze the page.
// What is out of sight costs nothing but a change of its state.

import { bringIntoOrder } from "./order.js";
import { Tile } from "./tile.js";

/** Milliseconds of drawing between two frames. */
const BUDGET_MS = 8;
/** Tiles put into place between two frames: what follows, styles and layout, takes far longer than the putting. */
const PLACED_MAX = 250;
/** Tiles this near to the screen are drawn, in case it is scrolled; in heights of the screen. */
const NEAR = 0.5;

export class Tiles {
  #tiles = new Map();
  #dirty = new Set();
  #inSight = new Set();
  #frame = null;
  #order = [];
  /** What has come about machines since they were brought into this order. */
  #news = new Map();
  #orderDirty = false;
  #lookDirty = false;
  #budgetEnds = 0;

  /** `frame` and `inside` are the templates of a tile; `seen(id)` is told when a curve comes into sight; `path(id)` gives a
   *  curve; `now()` is the server's clock. */
  constructor(list, { frame, inside, seen, path, now }) {
    Object.assign(this, { list, frame, inside, seen, path, now });
    addEventListener("scroll", () => this.#lookSoon(), { passive: true });
    setInterval(() => this.#tick(), 1_000);
  }

  /** The machines to show, in order, in rows of `columns`; they may be fewer than there are. */
  show(machines, columns) {
    this.#order = machines;
    this.#news.clear();
    this.columns = columns;
    this.gap = parseFloat(getComputedStyle(this.list).rowGap) || 0;
    if (this.size !== this.list.dataset.size) {
      this.size = this.list.dataset.size;
      this.#inSight.forEach((id) => this.#draw(id));
      this.curvesInSight.forEach((id) => this.seen(id));
    }
    this.#orderDirty = true;
    this.#lookSoon();
  }

  /** One machine has news. */
  touch(machine) {
    this.#news.set(machine.machine_id, machine);
    const tile = this.#tiles.get(machine.machine_id);
    if (!tile) return;
    const isChanged = tile.machine.status !== machine.status;
    tile.machine = machine;
    if (isChanged || tile.isInSight) this.#draw(machine.machine_id);
  }

  forget(ids) {
    for (const id of ids) {
      const tile = this.#tiles.get(id);
      if (!tile) continue;
      tile.item.remove();
      this.#tiles.delete(id);
      this.#inSight.delete(id);
    }
  }

  /** Draws the curve of a machine anew. */
  redrawTrend(id) {
    this.#tiles.get(id)?.drawCurve(this.#pathOf(id));
  }

  redrawTrends() {
    for (const id of this.#inSight) this.redrawTrend(id);
  }

  /** The tiles whose curves are in sight. */
  get curvesInSight() {
    return this.size === "full" ? [...this.#inSight] : [];
  }

  #pathOf(id) {
    return this.size === "full" ? this.path(id) : "";
  }

  #draw(id) {
    this.#dirty.add(id);
    this.#soon();
  }

  #soon() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#budgetEnds = performance.now() + BUDGET_MS;
      this.#work();
    });
  }

  #isOver() {
    return performance.now() >= this.#budgetEnds;
  }

  #work() {
    if (this.#orderDirty) this.#orderDirty = !this.#arrange();
    if (this.#lookDirty) this.#look();
    if (this.#orderDirty) return this.#lookSoon();
    for (const id of this.#dirty) {
      if (this.#isOver()) return this.#soon();
      this.#dirty.delete(id);
      this.#tiles.get(id)?.draw(this.size, this.now(), this.#pathOf(id));
    }
  }

  /** What is first is shown first: tiles that exist are put in place while others are still to be made. */
  #arrange() {
    const items = [];
    let [made, placed] = [0, 0];
    for (const listed of this.#order) {
      const machine = this.#news.get(listed.machine_id) ?? listed;
      let tile = this.#tiles.get(machine.machine_id);
      if (!tile) {
        made += 1;
        if (made > PLACED_MAX) continue;
        tile = this.#make(machine);
      } else if (tile.machine !== machine) {
        this.touch(machine);
      }
      items.push(tile.item);
    }
    return bringIntoOrder(this.list, items, () => (placed += 1) > PLACED_MAX) && made <= PLACED_MAX;
  }

  #make(machine) {
    const tile = new Tile(machine, this.frame, this.inside);
    this.#tiles.set(machine.machine_id, tile);
    return tile;
  }

  #lookSoon() {
    this.#lookDirty = true;
    this.#soon();
  }

  /**
   * Which tiles are in sight. All rows are equally high, so that this is arithmetic; observers and events of thousands of
   * elements cost more on each frame of a scroll than everything else.
   */
  #look() {
    this.#lookDirty = false;
    const first = this.list.firstElementChild?.getBoundingClientRect();
    const row = first ? first.height + this.gap : Infinity;
    const [above, below] = [-NEAR * innerHeight, (1 + NEAR) * innerHeight];
    const top = first?.top ?? 0;
    const rows = [Math.max(0, Math.floor((above - top) / row)), Math.max(0, Math.ceil((below - top) / row))];
    const near = new Set(this.#order.slice(...rows.map((each) => each * this.columns)).map((machine) => machine.machine_id));
    for (const id of this.#inSight) {
      if (near.has(id)) continue;
      this.#inSight.delete(id);
      this.#tiles.get(id)?.leave();
    }
    for (const id of near) {
      if (this.#inSight.has(id) || !this.#tiles.has(id)) continue;
      this.#inSight.add(id);
      this.#tiles.get(id).enter();
      this.#dirty.add(id);
      if (this.size === "full") this.seen(id);
    }
  }

  /** Ages grow by themselves; only those in sight are worth the work. */
  #tick() {
    for (const id of this.#inSight) this.#tiles.get(id)?.drawAge(this.size, this.now());
  }
}
