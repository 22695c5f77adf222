// Andon's own state: broker, database, journal, parts. Whatever the status does not contain is shown as unknown.

import { duration } from "./format.js";

/** Up to this many pending messages, and up to this age, the backlog is normal. */
const PENDING_USUAL = 5_000;
const PENDING_AGE_USUAL_S = 10;

/** Draws `status` (an answer of /api/v1/status, or null) into the list. */
export function drawHealth(list, status) {
  for (const [part, describe] of Object.entries(PARTS)) {
    const element = list.querySelector(`[data-part="${part}"]`);
    const { state, text, reason } = status === null ? doubtful("not known") : describe(status);
    element.dataset.state = state;
    element.title = reason ?? "";
    const value = element.querySelector("dd");
    if (value.textContent !== text) value.textContent = text;
  }
}

const good = (text) => ({ state: "online", text });
const doubtful = (text, reason) => ({ state: "unknown", text, reason });
const bad = (text, reason) => ({ state: "offline", text, reason });

const PARTS = {
  broker({ broker }) {
    switch (broker?.state) {
      case "connected":
        return good("connected");
      case "connecting":
        return doubtful("connecting");
      case "restricted":
        return bad("refuses a subscription", broker.reason);
      case "holding":
        return bad("disconnected, it keeps the messages", broker.reason);
      case "away":
        return bad("not connected", broker.reason);
      default:
        return doubtful("not known");
    }
  },
  database({ store, journal }) {
    switch (store?.state) {
      case "works":
        return good("storing");
      case "opening":
        return doubtful("opening");
      case "away":
        // A full journal does not keep all: the rest stays with the broker.
        return bad(journal?.state === "accepting" ? "away, journal keeps all" : "away, journal full", store.reason);
      default:
        return doubtful("not known");
    }
  },
  journal({ journal }) {
    if (!journal) return doubtful("not known");
    const { pending, oldest_pending_age_seconds: age } = journal;
    const since = age >= 1 ? `, oldest ${duration(age * 1000)}` : "";
    const text = pending === 0 ? "nothing pending" : `${grouped.format(pending)} pending${since}`;
    if (journal.state === "stalled") return bad(`disk stalled for ${journal.stalled_seconds} s, ${text}`);
    if (journal.state !== "accepting") return bad(`${journal.state}, ${text}`);
    return pending > PENDING_USUAL || age > PENDING_AGE_USUAL_S ? doubtful(text) : good(text);
  },
  actors({ actors }) {
    if (!Array.isArray(actors)) return doubtful("not known");
    const down = actors.filter((actor) => actor.state !== "running");
    if (down.length) {
      return bad(`${down.map((actor) => actor.name).join(", ")} not running`, down[0].last_exit);
    }
    const restarts = actors.reduce((sum, actor) => sum + actor.restarts, 0);
    const text = `${actors.length} running${restarts ? `, ${restarts} ${restarts === 1 ? "restart" : "restarts"}` : ""}`;
    return good(text);
  },
};
const grouped = new Intl.NumberFormat("en-GB");
