// Bringing the children of an element into an order with as few moves as possible: one machine that comes back among
// thousands is one move. Knows nothing of machines.

/** The places in `positions` of a longest increasing run, not necessarily of neighbours; -1 is no position. */
export function longestRun(positions) {
  const ends = []; // ends[n]: the place that ends the run of length n + 1 whose last position is lowest
  const before = new Array(positions.length);
  positions.forEach((position, place) => {
    if (position < 0) return;
    let [low, high] = [0, ends.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (positions[ends[middle]] < position) low = middle + 1;
      else high = middle;
    }
    before[place] = low > 0 ? ends[low - 1] : undefined;
    ends[low] = place;
  });
  const run = new Set();
  for (let place = ends.at(-1); place !== undefined; place = before[place]) run.add(place);
  return run;
}

/**
 * Makes the children of `list` be `wanted`, in this order. Returns false if `isOver()` said so before everything was
 * done; then it is to be called again.
 */
export function bringIntoOrder(list, wanted, isOver) {
  let next = list.firstElementChild;
  let done = 0;
  while (next && wanted[done] === next) {
    next = next.nextElementSibling;
    done += 1;
  }
  if (done === wanted.length && !next) return true;
  const rest = wanted.slice(done);
  const positions = new Map();
  for (let child = next; child; child = child.nextElementSibling) positions.set(child, positions.size);
  const stays = longestRun(rest.map((item) => positions.get(item) ?? -1));
  const staying = new Set([...stays].map((place) => rest[place]));
  const unwanted = new Set(positions.keys());
  for (const item of rest) unwanted.delete(item);
  // All at once: each frame in between would lay out the rest anew.
  for (const item of unwanted) item.remove();
  // Those that move are skipped where they stand, until it is their turn.
  next = done > 0 ? wanted[done - 1].nextElementSibling : list.firstElementChild;
  const skip = () => {
    while (next && !staying.has(next)) next = next.nextElementSibling;
  };
  skip();
  for (const item of rest) {
    if (item === next) {
      next = next.nextElementSibling;
      skip();
    } else {
      list.insertBefore(item, next);
      if (isOver()) return false;
    }
  }
  return true;
}
