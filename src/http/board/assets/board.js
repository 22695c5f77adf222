// The board: connects the parts. The model holds the state, the stream changes it, and tiles, counts, changes and health
// are drawn from it.

import { Changes } from "./changes.js";
import { clock } from "./format.js";
import { drawHealth } from "./health.js";
import { Model } from "./model.js";
import { Stream } from "./stream.js";
import { layout } from "./tile_layout.js";
import { Tiles } from "./tiles.js";
import { Trends } from "./trend.js";
import { drawTrouble } from "./trouble.js";

const root = document.documentElement;
const element = (id) => document.getElementById(id);
const kiosk = "kiosk" in root.dataset;
const CLOCK_TOLERANCE_MS = 2_000;
const MACHINES_PER_PAGE = 1_000;

let clockOffset = 0; // the server's clock minus ours, in milliseconds
let lostAt = null;
const now = () => Date.now() + clockOffset;

const model = new Model();
const trends = new Trends("/board/trends", now, (id) => tiles.redrawTrend(id));
const tiles = new Tiles(element("tiles"), {
  frame: element("tile"),
  inside: element("tile-inside"),
  visible: (id) => trends.request(id),
  path: (id) => trends.path(id),
  now,
});
const changes = new Changes(element("changes"), element("no-changes"), element("spoken"), element("change"), now);

async function getJson(url) {
  const response = await fetch(url, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
  return response.json();
}

/** Handles a status. It also carries the server's time; a difference within the network delay is ignored. */
function receivedStatus(status) {
  const difference = Date.parse(status.now) - Date.now();
  clockOffset = Math.abs(difference) > CLOCK_TOLERANCE_MS ? difference : 0;
  drawHealth(element("health"), status);
  drawTrouble(element("trouble"), status, now());
  // The database is back: read what could not be read before.
  if (changes.isIncomplete && status.store?.state === "works") readChanges();
}

/** Reads the newest changes from the database. While it is away, the live ones are all there is. */
async function readChanges() {
  changes.isIncomplete = false;
  try {
    changes.replace((await getJson("/board/events?limit=30")).events);
  } catch {
    changes.markIncomplete();
  }
}

/** Reads every machine, page by page. The stream brings what changes meanwhile. */
async function allMachines() {
  const machines = [];
  for (let cursor = ""; cursor !== null; ) {
    const page = await getJson(`/board/machines?limit=${MACHINES_PER_PAGE}${cursor}`);
    machines.push(...page.machines);
    cursor = page.next ? `&cursor=${page.next}` : null;
  }
  return machines;
}

async function load() {
  const [machines, status] = await Promise.all([allMachines(), getJson("/api/v1/status"), readChanges()]);
  tiles.forget(model.replace(machines));
  trends.forget();
  tiles.visibleCurves.forEach((id) => trends.request(id));
  receivedStatus(status);
  drawMachines();
}

let redrawTimer = null;
function received(name, data) {
  if (name === "status") {
    receivedStatus(data);
  } else if (name === "event") {
    changes.add(data);
  } else if (name === "forgotten") {
    model.forget(data.machine_id);
    tiles.forget([data.machine_id]);
    drawMachines();
  } else if (name === "machine") {
    const moved = model.update(data);
    trends.add(data);
    const machine = model.machines.get(data.machine_id);
    tiles.touch(machine);
    // When the link comes back many machines change at once. Redraw once for all of them.
    if (moved) redrawTimer ??= setTimeout(() => ((redrawTimer = null), drawMachines()), 100);
  }
}

function drawMachines() {
  const ordered = model.ordered();
  const shape = fit(ordered.length);
  const shown = ordered.slice(0, shape.count);
  tiles.show(shown, shape.columns);
  const more = ordered.length - shown.length;
  element("more").hidden = more <= 0;
  element("more").textContent = more > 0 ? describeRest(ordered.slice(shown.length)) : "";
  element("empty").hidden = model.machines.size > 0;
  element("none").hidden = ordered.length > 0 || model.machines.size === 0;
  drawCounts();
  drawVerdict();
  const filtered = ordered.length < model.machines.size;
  element("shown").textContent = filtered ? `${ordered.length} of ${model.machines.size} shown` : "";
}

/** Draws the verdict. Without a connection the state is old, so it gets none. */
function drawVerdict() {
  const { state, text } =
    root.dataset.link === "lost" ? { state: "unknown", text: "No connection: this may be out of date" } : model.verdict();
  element("verdict").dataset.state = state;
  element("verdict").querySelector(".word").textContent = text;
  document.title = `${root.dataset.link === "lost" ? "No connection" : text} · Andon ${root.dataset.site}`;
}

function describeRest(rest) {
  const online = rest.filter((machine) => machine.status === "online").length;
  return `and ${rest.length} more, ${online === rest.length ? "all online" : `${rest.length - online} of them not online`}`;
}

function drawCounts() {
  const counts = model.counts();
  for (const button of element("counts").querySelectorAll("button")) {
    const which = button.dataset.filter;
    button.querySelector("b").textContent = which === "" ? counts.all : counts[which];
    button.setAttribute("aria-pressed", String(model.filter.state === which));
    // Hide the button of a status without machines, unless it is selected.
    button.hidden = which !== "" && which !== "online" && which !== "offline" && !counts[which] && model.filter.state !== which;
  }
}

function fit(count) {
  const list = element("tiles");
  const style = getComputedStyle(list);
  const width = list.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
  const top = list.getBoundingClientRect().top + scrollY;
  const height = innerHeight - top - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom) - 4;
  const shape = layout(count, width, height, parseFloat(getComputedStyle(root).fontSize), kiosk);
  list.dataset.size = shape.name;
  list.style.setProperty("--u", `${shape.em}px`);
  list.style.setProperty("--high", `${shape.high}em`);
  list.style.setProperty("--columns", String(shape.columns));
  return shape;
}

function linkChanged(state, reason) {
  const lost = state === "lost";
  if (lost && root.dataset.link !== "lost") lostAt = Date.now();
  root.dataset.link = state;
  element("alarm").hidden = !lost;
  drawVerdict();
  if (!lost) return;
  element("alarm-text").textContent = `No connection to Andon since ${clock(lostAt, Date.now())}. ${reason}`;
  drawHealth(element("health"), null);
  drawTrouble(element("trouble"), null, now());
}

function filterChanged() {
  const query = new URLSearchParams(location.search);
  for (const [name, value] of [["state", model.filter.state], ["q", model.filter.text]]) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  drawMachines();
}

function listen() {
  element("counts").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    model.filter.state = button.dataset.filter;
    filterChanged();
  });
  element("search").addEventListener("input", (event) => {
    model.filter.text = event.target.value.trim().toLowerCase();
    filterChanged();
  });
  element("measurement").addEventListener("change", (event) => {
    trends.measurement = event.target.value;
    tiles.redrawTrends();
  });
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      element("search").focus();
    } else if (event.key === "Escape" && typing) {
      element("search").value = model.filter.text = "";
      filterChanged();
    }
  });
  let resized = null;
  const refit = () => {
    clearTimeout(resized);
    resized = setTimeout(drawMachines, 150);
  };
  addEventListener("resize", refit);
  // The parts above the tiles change their height with their content.
  const above = new ResizeObserver(refit);
  for (const part of [document.querySelector(".head"), element("alarm"), element("trouble"), element("counts").parentElement]) {
    above.observe(part);
  }
}

const query = new URLSearchParams(location.search);
model.filter.state = query.get("state") ?? "";
model.filter.text = (query.get("q") ?? "").toLowerCase();
element("search").value = model.filter.text;
listen();
if (kiosk) {
  const tick = () => (element("clock").textContent = clock(now(), now()));
  tick();
  setInterval(tick, 1_000);
}
new Stream("/api/v1/stream", { load, received, changed: linkChanged });
