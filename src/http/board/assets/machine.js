// The page of one machine: keeps state and newest values live, and reloads the charts from time to time.
// The server renders everything. This script replaces parts of the page with newly rendered ones.

import { MEASUREMENTS, WORDS, clock, duration, millis, number, wasKnownAs } from "./format.js";
import { Stream } from "./stream.js";
import { drawTrouble } from "./trouble.js";

const root = document.documentElement;
const element = (id) => document.getElementById(id);
const machineId = element("machine").dataset.machine;
const REFRESH_MS = 30_000;

/** Replaces the named parts with newly rendered ones. Opened tables stay open. */
async function refresh(ids) {
  const response = await fetch(location.href, { signal: AbortSignal.timeout(15_000) });
  if (!response.ok) throw new Error(`page: ${response.status}`);
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const id of ids) {
    const [here, fresh] = [element(id), page.getElementById(id)];
    if (!here || !fresh) continue;
    const open = [...here.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, index) => (details.open = open[index] ?? false));
    // Not while the keyboard focus or a text selection is in it.
    const busy = here.contains(document.activeElement) || (getSelection()?.toString() && here.contains(getSelection().anchorNode));
    if (!busy) here.replaceWith(document.adoptNode(fresh));
  }
}

function received(name, data) {
  if (name === "machine" && data.machine_id === machineId) drawState(data);
  if (name === "status") drawTrouble(element("trouble"), data, Date.parse(data.now));
}

function drawState(machine) {
  const now = element("now");
  if (now.dataset.state !== machine.status) {
    now.dataset.state = machine.status;
    element("spoken").textContent = `${machineId} is ${WORDS[machine.status]?.toLowerCase()}.`;
    // A change adds an event and a new span to the timeline.
    setTimeout(() => refresh(["latest", "history"]).catch(() => {}), 1_500);
  }
  element("state").querySelector(".word").textContent = WORDS[machine.status] ?? machine.status;
  element("flapping").hidden = !machine.flapping;
  element("refused").hidden = machine.unknown_reason !== "filter_refused";
  // For an unknown machine, `status_since` is the start of the last known status.
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

/** The loaded page is up to date; after a reconnect it is not. */
let isFresh = true;
async function load() {
  if (!isFresh) await refresh(["now", "latest", "history"]);
  isFresh = false;
}

new Stream("/api/v1/stream", { load, received, changed: linkChanged });
setInterval(() => {
  if (root.dataset.link === "live" && !document.hidden) refresh(["latest", "history"]).catch(() => {});
}, REFRESH_MS);
