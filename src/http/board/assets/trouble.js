// What keeps Andon from seeing the machines or storing what they say: what, since when, and what to do. One banner over the whole
// page, for as long as it lasts. Pure but for [`drawTrouble`].

import { clock, duration, millis } from "./format.js";

/** Draws what is wrong by `status` (an answer of /api/v1/status, or null) into the banner; hides it if nothing is. */
export function drawTrouble(banner, status, now) {
  const troubles = status === null ? [] : troublesOf(status, now);
  const texts = troubles.map(({ title, help }) => [title, help]);
  const key = JSON.stringify(texts);
  if (banner.dataset.key !== key) {
    banner.dataset.key = key;
    banner.replaceChildren(...texts.flatMap(([title, help]) => [paragraph(title), paragraph(help)]));
  }
  banner.hidden = troubles.length === 0;
}

function paragraph(text) {
  const element = document.createElement("p");
  element.textContent = text;
  return element;
}

/** The worst first: `{ title, help }` each. */
export function troublesOf(status, now) {
  const since = (part) => (part.since ? ` since ${clock(millis(part.since), now)}` : "");
  const because = (part) => (part.reason ? ` (${part.reason})` : "");
  return [brokerTrouble(status, since, because), databaseTrouble(status, since, because)].filter(Boolean);
}

const UNSEEN = "The tiles show what was known last.";

function brokerTrouble({ broker, journal, store }, since, because) {
  switch (broker?.state) {
    case "away":
      return {
        title: `No connection to the broker${since(broker)}: the machines cannot be seen`,
        help: `Is the broker running, and can this computer reach ${broker.uri}? Andon tries again by itself${because(broker)}. ${UNSEEN}`,
      };
    case "holding":
      return {
        title: `The journal is full${since(broker)}: the machines cannot be seen`,
        help: `Andon has left the broker, which keeps their messages. ${roomIn(journal, store)} ${UNSEEN}`,
      };
    case "restricted":
      return {
        title: `The broker refuses a subscription${since(broker)}: some machines cannot be seen`,
        help: `Let Andon read that topic in the broker's access list${because(broker)}.`,
      };
    default:
      return null;
  }
}

/** How a full journal gets room again. */
function roomIn(journal, store) {
  if (journal?.reason === "disk_full") return "Free space on the disk that holds the journal.";
  if (store?.state === "away") return "It gets room as soon as the database takes the readings.";
  return "The database takes the readings more slowly than they come: give it more power, or raise journal.max_bytes.";
}

function databaseTrouble({ store, journal, broker }, since, because) {
  if (store?.state !== "away") return null;
  return {
    title: `The database is away${since(store)}: nothing is stored${broker?.state === "connected" ? ", the machines are live" : ""}`,
    help: `Is it running, and can this computer reach it? Andon tries again by itself${because(store)}. ${keeping(journal)}`,
  };
}

function keeping(journal) {
  if (!journal) return "";
  if (journal.state !== "accepting") return "The journal is full; what it holds is safe, and goes in as soon as the database is back.";
  const room = journal.time_to_full_seconds;
  const until = Number.isFinite(room) ? `, for ${duration(room * 1_000)} more as it looks` : "";
  return `Until then the journal keeps everything${until}; nothing is lost.`;
}
