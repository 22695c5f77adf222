// What keeps Andon from seeing the machines or storing what they say: what, since when, and what to do. One banner over the whole
// page, for as long as it lasts. Pure but for [`drawTrouble`].

import { clock, duration, millis } from "./format.js";

/** Draws what is wrong by `status` (an answer of /api/v1/status, or null) into the banner; hides it if nothing is. */
export function drawTrouble(banner, status, now) {
  const troubles = status === null ? [] : troublesOf(status, now);
  const key = JSON.stringify(troubles);
  // It is an alert: what has not changed is not read out again.
  if (banner.dataset.key !== key) {
    banner.dataset.key = key;
    banner.replaceChildren(...troubles.flatMap(paragraphs));
  }
  banner.hidden = troubles.length === 0;
}

function paragraphs({ title, help, reason }) {
  const texts = [["title", title], ["help", help], ["reason", reason]].filter(([, text]) => text);
  return texts.map(([name, text]) => {
    const element = document.createElement("p");
    element.className = name;
    element.textContent = text;
    if (name === "reason") element.title = text; // it is cut where it has no room
    return element;
  });
}

/** The worst first: `{ title, help, reason }` each. */
export function troublesOf(status, now) {
  const since = (part) => (part.since ? ` since ${clock(millis(part.since), now)}` : "");
  return [brokerTrouble(status, since), databaseTrouble(status, since)].filter(Boolean);
}

/** A forecast for longer than a month helps nobody. */
const ROOM_WORTH_SAYING_S = 30 * 86_400;
const LAST_KNOWN = "What you see of them is what was known last.";

function brokerTrouble({ broker, journal, store }, since) {
  switch (broker?.state) {
    case "away":
      return {
        title: `No connection to the broker${since(broker)}: the machines cannot be seen`,
        help: `${LAST_KNOWN} Check that the broker runs and that this computer reaches it; then this goes away by itself.`,
        reason: [broker.uri, broker.reason].filter(Boolean).join(": "),
      };
    case "holding":
      return {
        title: `The journal is full${since(broker)}: the machines cannot be seen`,
        help: `${LAST_KNOWN} Andon has left the broker, which keeps their messages. ${roomIn(journal, store)}`,
      };
    case "restricted":
      return {
        title: `The broker refuses a subscription${since(broker)}: some machines cannot be seen`,
        help: "Let Andon read that topic in the broker's access list.",
        reason: broker.reason,
      };
    default:
      return null;
  }
}

/** How a full journal gets room again. */
function roomIn(journal, store) {
  if (journal?.reason === "disk_full") return "Free space on the disk that holds the journal.";
  if (store?.state === "away") return "The journal gets room when the database is back.";
  return "The database takes the readings more slowly than they come: give it more power, or raise journal.max_bytes.";
}

function databaseTrouble({ store, journal, broker }, since) {
  if (store?.state !== "away") return null;
  const live = broker?.state === "connected" ? ", the machines are live" : "";
  return {
    title: `The database is away${since(store)}: nothing is stored${live}`,
    help: `Check that it runs and that this computer reaches it. ${keeping(journal)}`,
    reason: store.reason,
  };
}

function keeping(journal) {
  if (!journal) return "";
  if (journal.state !== "accepting") return "Nothing is lost: the journal keeps what has come, the broker the rest.";
  const room = journal.time_to_full_seconds;
  const until = Number.isFinite(room) && room <= ROOM_WORTH_SAYING_S ? `, with room for about ${duration(room * 1_000)} more` : "";
  return `Nothing is lost: until it is back the journal keeps everything${until}.`;
}
