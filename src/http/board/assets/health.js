// How Andon itself is, as its own status says it: broker, database, journal, parts. Nothing is assumed: what the status
// does not say is shown as unknown.

import { duration } from "./format.js";

/** Pending records that are only what is just on its way. */
const PENDING_USUAL = 5_000;
const PENDING_AGE_USUAL_S = 10;

/** Draws `status` (an answer of /api/v1/status, or null) into the list. */
export function drawHealth(list, status) {
  for (const [part, describe] of Object.entries(PARTS)) {
    const element = list.querySelector(`[data-part="${part}"]`);
    const { state, text } = status === null ? { state: "unknown", text: "not known" } : describe(status);
    element.dataset.state = state;
    const value = element.querySelector("dd");
    if (value.textContent !== text) value.textContent = text;
  }
}

const good = (text) => ({ state: "online", text });
const doubtful = (text) => ({ state: "unknown", text });
const bad = (text) => ({ state: "offline", text });

const PARTS = {
  broker({ broker }) {
    if (broker?.connected) return good("connected");
    return broker?.holding ? bad("left, journal full") : bad("not connected");
  },
  database({ store }) {
    if (store?.available) return good("storing");
    return store?.available === false ? bad("away, journal keeps all") : doubtful("not known");
  },
  journal({ journal, ledger }) {
    const pending = journal?.pending ?? ledger?.pending;
    if (!Number.isFinite(pending)) return doubtful("not known");
    const age = journal?.oldest_pending_age_seconds ?? 0;
    const text = pending === 0 ? "nothing pending" : `${grouped.format(pending)} pending${age >= 1 ? `, ${duration(age * 1000)}` : ""}`;
    if (journal?.space && journal.space !== "free") return bad(`full, ${text}`);
    return pending > PENDING_USUAL || age > PENDING_AGE_USUAL_S ? doubtful(text) : good(text);
  },
  actors({ actors }) {
    if (!Array.isArray(actors)) return doubtful("not known");
    const down = actors.filter((actor) => actor.phase !== "running").map((actor) => actor.name);
    const restarts = actors.reduce((sum, actor) => sum + (actor.restarts ?? 0), 0);
    if (down.length) return bad(`${down.join(", ")} not running`);
    return good(`${actors.length} running${restarts ? `, ${restarts} restarts` : ""}`);
  },
};
const grouped = new Intl.NumberFormat("en-GB");
