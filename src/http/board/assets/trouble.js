// The banner for what keeps Andon from seeing machines or storing readings: what, since when, and what to do.
// Pure except for `drawTrouble`.

import { clock, duration, millis } from "./format.js";

/** Draws the troubles in `status` (an answer of /api/v1/status, or null) into the banner. Hides it if there are none. */
export function drawTrouble(banner, status, now) {
  const troubles = status === null ? [] : troublesOf(status, now);
  const key = JSON.stringify(troubles);
  // Screen readers announce every change of an alert, so change it only if the text differs.
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
    if (name === "reason") element.title = text; // narrow screens truncate it
    return element;
  });
}

/** Returns the troubles, worst first, each as `{ title, help, reason }`. */
export function troublesOf(status, now) {
  const since = (part) => (part.since ? ` since ${clock(millis(part.since), now)}` : "");
  return [brokerTrouble(status, since), databaseTrouble(status, since)].filter(Boolean);
}

/** A forecast beyond a month is not worth showing. */
const ROOM_WORTH_SAYING_S = 30 * 86_400;
const LAST_KNOWN = "Their tiles show the last known state.";

function brokerTrouble({ broker, journal, store }, since) {
  switch (broker?.state) {
    case "away":
      return {
        title: `No connection to the broker${since(broker)}: the machines cannot be seen`,
        help: `${LAST_KNOWN} Check that the broker is running and that this computer can reach it. This message then disappears by itself.`,
        reason: [broker.uri, broker.reason].filter(Boolean).join(": "),
      };
    case "holding":
      return {
        title: `The journal is full${since(broker)}: the machines cannot be seen`,
        help: `${LAST_KNOWN} Andon has disconnected from the broker, which keeps their messages. ${roomIn(journal, store)}`,
      };
    case "restricted":
      return {
        title: `The broker refuses a subscription${since(broker)}: some machines cannot be seen`,
        help: "Allow Andon to read that topic in the broker's access list.",
        reason: broker.reason,
      };
    default:
      return null;
  }
}

/** Says how a full journal gets room again. */
function roomIn(journal, store) {
  if (journal?.reason === "disk_full") return "Free space on the disk that holds the journal.";
  if (store?.state === "away") return "The journal gets room when the database is back.";
  return "The database stores readings more slowly than they arrive: give it more resources, or raise journal.max_bytes.";
}

function databaseTrouble({ store, journal, broker }, since) {
  if (store?.state !== "away") return null;
  const live = broker?.state === "connected" ? ", the machines are live" : "";
  return {
    title: `The database is away${since(store)}: nothing is stored${live}`,
    help: `Check that it is running and that this computer can reach it. ${keeping(journal)}`,
    reason: store.reason,
  };
}

function keeping(journal) {
  if (!journal) return "";
  if (journal.state !== "accepting") return "Nothing is lost: the journal keeps what has arrived, and the broker keeps the rest.";
  const room = journal.time_to_full_seconds;
  const until = Number.isFinite(room) && room <= ROOM_WORTH_SAYING_S ? `, with room for about ${duration(room * 1_000)} more` : "";
  return `Nothing is lost: until the database is back, the journal keeps everything${until}.`;
}
