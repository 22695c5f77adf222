// One machine's page: keeps the state and the newest values live, and fetches the charts anew from time to time.
// The server draws everything; here parts of a freshly drawn page take the place of old ones.

import { MEASUREMENTS, WORDS, clock, duration, millis, number, wasKnownAs } from "./format.js";
import { Stream } from "./stream.js";
import { drawTrouble } from "./trouble.js";

const root = document.documentElement;
const element = (id) => document.getElementById(id);
const machineId = element("machine").dataset.machine;
const REFRESH_MS = 30_000;

/** Takes the named parts out of a freshly drawn page. A table that somebody has opened stays open. */
async function refresh(ids) {
  const response = await fetch(location.href, { signal: AbortSignal.timeout(15_000) });
  if (!response.ok) throw new Error(`page: ${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const [here, fresh] = [element(id), page.getElementById(id)];
    if (!here || !fresh) continue;
    const open = [...here.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, index) => (details.open = open[index] ?? false));
    // Not while somebody is in it with the keyboard or has selected text.
    const busy = here.contains(document.activeElement) || (getSelection()?.toString() && here.contains(getSelection().anchorNode));
    if (!busy) here.replaceWith(document.adoptNode(fresh));
  }
}

function heard(name, data) {
  if (name === "machine" && data.machine_id === machineId) drawState(data);
  if (name === "status") drawTrouble(element("trouble"), data, Date.parse(data.now));
}

function drawState(machine) {
  const now = element("now");
  if (now.dataset.state !== machine.status) {
    now.dataset.state = machine.status;
    element("spoken").textContent = `${machineId} is ${WORDS[machine.status]?.toLowerCase()}.`;
    // A change makes an event and a new piece of the band.
    setTimeout(() => refresh(["latest", "history"]).catch(() => {}), 1_500);
  }
  element("state").querySelector(".word").textContent = WORDS[machine.status] ?? machine.status;
  element("flapping").hidden = !machine.flapping;
  element("refused").hidden = machine.unknown_reason !== "filter_refused";
  // Nothing is known to have been unknown since then: it is what was known last that began then.
  const known = machine.status === "unknown" ? wasKnownAs(machine) : null;
  element("since-what").textContent = known ? `Was ${known} since` : "Since";
  drawTime(element("since"), machine.status_since);
  drawTime(element("heard"), machine.last_seen_at);
  for (const { name } of MEASUREMENTS) {
    const value = element("latest").querySelector(`[data-value="${name}"] b`);
    if (value && Number.isFinite(machine.latest?.[name])) value.textContent = number(machine.latest[name]);
  }
}

function drawTime(place, text) {
  const at = millis(text);
  place.textContent = at === null ? "–" : `${clock(at, Date.now())} (${duration(Date.now() - at)} ago)`;
}

let lostAt = null;
function linkChanged(state, reason) {
  if (state === "lost" && root.dataset.link !== "lost") lostAt = Date.now();
  root.dataset.link = state;
  element("alarm").hidden = state !== "lost";
  if (state === "lost") {
    drawTrouble(element("trouble"), null, Date.now());
    element("alarm-text").textContent = `No connection to Andon since ${clock(lostAt, Date.now())}. ${reason}`;
  }
}

/** The page that has just been loaded is fresh; after a break it is not. */
let isFresh = true;
async function load() {
  if (!isFresh) await refresh(["now", "latest", "history"]);
  isFresh = false;
}

new Stream("/api/v1/stream", { load, heard, changed: linkChanged });
setInterval(() => {
  if (root.dataset.link === "live" && !document.hidden) refresh(["latest", "history"]).catch(() => {});
}, REFRESH_MS);
