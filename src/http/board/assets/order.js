// Reorders the children of an element with as few moves as possible: one machine that comes back among thousands is one
// move. Knows nothing about machines.

/** Returns the indices of a longest increasing subsequence of `positions`; -1 is no position. */
export function longestIncreasing(positions) {
  const ends = []; // ends[n]: index of the lowest end of a run of length n + 1
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
 * Makes `wanted` the children of `list`, in this order. Returns false if `isOver()` stopped it early; call it again then.
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
  const stays = longestIncreasing(rest.map((item) => positions.get(item) ?? -1));
  const staying = new Set([...stays].map((place) => rest[place]));
  const unwanted = new Set(positions.keys());
  for (const item of rest) unwanted.delete(item);
  // Remove all at once, because every frame in between would compute the layout again.
  for (const item of unwanted) item.remove();
  // Skip items that will move, until it is their turn.
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
