// All tiles: created once and reused, kept in order, and drawn only near the visible area.
//
// Works a few milliseconds per frame, so that thousands of machines never freeze the page. An invisible tile costs only
// its changes of state.

import { bringIntoOrder } from "./order.js";
import { Tile } from "./tile.js";

/** Milliseconds of drawing per frame. */
const BUDGET_MS = 8;
/** Tiles placed per frame. Style and layout take far longer than placing them. */
const PLACED_MAX = 250;
/** Tiles this near to the visible area are drawn in advance; in screen heights. */
const NEAR = 0.5;

export class Tiles {
  #tiles = new Map();
  #dirty = new Set();
  #visible = new Set();
  #frame = null;
  #order = [];
  /** Updates of machines since the order was set. */
  #updates = new Map();
  #orderDirty = false;
  #lookDirty = false;
  #budgetEnds = 0;

  /** `frame` and `inside` are the templates of a tile; `visible(id)` is called when a curve becomes visible; `path(id)`
   *  returns a curve; `now()` is the server's clock. */
  constructor(list, { frame, inside, visible, path, now }) {
    Object.assign(this, { list, frame, inside, visible, path, now });
    addEventListener("scroll", () => this.#lookSoon(), { passive: true });
    setInterval(() => this.#tick(), 1_000);
  }

  /** Shows these machines, in order, in rows of `columns`. They may be fewer than all. */
  show(machines, columns) {
    this.#order = machines;
    this.#updates.clear();
    this.columns = columns;
    this.gap = parseFloat(getComputedStyle(this.list).rowGap) || 0;
    if (this.size !== this.list.dataset.size) {
      this.size = this.list.dataset.size;
      this.#visible.forEach((id) => this.#draw(id));
      this.visibleCurves.forEach((id) => this.visible(id));
    }
    this.#orderDirty = true;
    this.#lookSoon();
  }

  /** Updates one machine. */
  touch(machine) {
    this.#updates.set(machine.machine_id, machine);
    const tile = this.#tiles.get(machine.machine_id);
    if (!tile) return;
    const isChanged = tile.machine.status !== machine.status;
    tile.machine = machine;
    if (isChanged || tile.isVisible) this.#draw(machine.machine_id);
  }

  forget(ids) {
    for (const id of ids) {
      const tile = this.#tiles.get(id);
      if (!tile) continue;
      tile.item.remove();
      this.#tiles.delete(id);
      this.#visible.delete(id);
    }
  }

  /** Redraws the curve of a machine. */
  redrawTrend(id) {
    this.#tiles.get(id)?.drawCurve(this.#pathOf(id));
  }

  redrawTrends() {
    for (const id of this.#visible) this.redrawTrend(id);
  }

  /** Returns the machines whose curves are visible. */
  get visibleCurves() {
    return this.size === "full" ? [...this.#visible] : [];
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

  /** Places existing tiles at once and creates the missing ones over several frames, from the first on. */
  #arrange() {
    const items = [];
    let [made, placed] = [0, 0];
    for (const listed of this.#order) {
      const machine = this.#updates.get(listed.machine_id) ?? listed;
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
   * Finds the visible tiles. All rows have equal height, so arithmetic is enough; observers and events of thousands of
   * elements would dominate the cost of a scroll.
   */
  #look() {
    this.#lookDirty = false;
    const first = this.list.firstElementChild?.getBoundingClientRect();
    const row = first ? first.height + this.gap : Infinity;
    const [above, below] = [-NEAR * innerHeight, (1 + NEAR) * innerHeight];
    const top = first?.top ?? 0;
    const rows = [Math.max(0, Math.floor((above - top) / row)), Math.max(0, Math.ceil((below - top) / row))];
    const near = new Set(this.#order.slice(...rows.map((each) => each * this.columns)).map((machine) => machine.machine_id));
    for (const id of this.#visible) {
      if (near.has(id)) continue;
      this.#visible.delete(id);
      this.#tiles.get(id)?.leave();
    }
    for (const id of near) {
      if (this.#visible.has(id) || !this.#tiles.has(id)) continue;
      this.#visible.add(id);
      this.#tiles.get(id).enter();
      this.#dirty.add(id);
      if (this.size === "full") this.visible(id);
    }
  }

  /** Ages grow by themselves. Only visible ones are redrawn. */
  #tick() {
    for (const id of this.#visible) this.#tiles.get(id)?.drawAge(this.size, this.now());
  }
}
