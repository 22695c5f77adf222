// The size of the tiles: as large as the screen allows, so that a board of twelve can be read from across the hall, and a
// board of hundreds still shows every machine. Pure arithmetic; sizes in CSS pixels, tile sizes in em, gaps and lines of
// the page in rem (keep equal to andon.css).

/** The sizes of a tile: `wide` and `high` in em, `least` is the smallest readable em. */
const SIZES = [
  { name: "full", wide: 19, high: 9.6, gap: 0.7, least: 14 },
  { name: "compact", wide: 12.5, high: 5.7, gap: 0.7, least: 13 },
  { name: "mini", wide: 9, high: 2.9, gap: 0.3, least: 11 },
];
const EM_MAX = 46;
const HIGHER_MAX = 1.35;
/** The sizes on a board that scrolls. */
const SCROLLING = { name: "full", em: 16 };
const SCROLLING_MANY = { name: "compact", em: 15 };
const MANY = 120;
const MORE_LINE = 3.2;

/** Returns the largest layout of `count` tiles that fits `width` × `height`, or null. */
function largestThatFits(count, width, height, rem, sizes) {
  for (const size of sizes) {
    let best = null;
    const gap = size.gap * rem;
    const columnsMax = Math.max(1, Math.min(count, Math.floor((width + gap) / (size.least * size.wide + gap))));
    for (let columns = 1; columns <= columnsMax; columns += 1) {
      const rows = Math.ceil(count / columns);
      const byWidth = ((width + gap) / columns - gap) / size.wide;
      const byHeight = ((height + gap) / rows - gap) / size.high;
      const em = Math.floor(Math.min(byWidth, byHeight, EM_MAX) * 4) / 4;
      if (em < size.least || (best && em <= best.em)) continue;
      // Spare height makes the tiles higher, up to a limit.
      const high = Math.min(((height + gap) / rows - gap) / em, size.high * HIGHER_MAX);
      best = { name: size.name, em, high: Math.max(high, size.high), columns, count };
    }
    if (best) return best;
  }
  return null;
}

/** Returns the layout for a screen that scrolls, or, in a kiosk, does not. `rem` is in pixels. */
export function layout(count, width, height, rem, kiosk) {
  const phone = width < 620;
  if (phone && !kiosk) return { name: "full", em: 16, high: SIZES[0].high, columns: 1, count };
  const fits = largestThatFits(Math.max(count, 1), width, height, rem, kiosk ? SIZES : SIZES.slice(0, 2));
  if (fits) return fits;
  const size = kiosk ? { name: "mini", em: SIZES[2].least } : count > MANY ? SCROLLING_MANY : SCROLLING;
  const { wide, high, gap: gapInRem } = SIZES.find((each) => each.name === size.name);
  const gap = gapInRem * rem;
  const columns = Math.max(1, Math.floor((width + gap) / (size.em * wide + gap)));
  // In a kiosk a line below the tiles counts the others.
  const room = kiosk ? height - MORE_LINE * rem : height;
  const rows = Math.max(1, Math.floor((room + gap) / (size.em * high + gap)));
  return { ...size, high, columns, count: kiosk ? Math.min(count, columns * rows) : count };
}
