// The small curves: the last fifteen minutes of one measurement.
//
// The past is requested once, in few requests, for tiles that become visible. Later values are added as they arrive.
// Owns the points and returns them as path data.

import { millis } from "./format.js";

const WINDOW_MS = 15 * 60_000;
const STEP_MS = 30_000;
const STEPS = WINDOW_MS / STEP_MS;
/** Longest query string of a request, far below the server's limit. */
const QUERY_MAX = 4_000;
const MACHINES_MAX = 50;

export class Trends {
  #points = new Map();
  #requested = new Set();
  #timer = null;
  measurement = "temperature";

  /** `changed(id)` is called when a curve must be redrawn; `now()` is the server's clock. */
  constructor(url, now, changed) {
    Object.assign(this, { url, now, changed });
  }

  /** Forgets everything, after the connection was lost. */
  forget() {
    this.#points.clear();
  }

  /** Requests the curve of a tile that has become visible. */
  request(id) {
    if (this.#points.has(id)) return;
    this.#requested.add(id);
    this.#timer ??= setTimeout(() => this.#fetch(), 150);
  }

  /** Adds the newest reading of a machine. */
  add(machine) {
    const steps = this.#points.get(machine.machine_id);
    const at = millis(machine.latest?.recorded_at);
    if (!steps || !at) return;
    const step = Math.floor(at / STEP_MS);
    const last = steps.at(-1);
    if (last && last.step > step) return;
    if (last?.step === step) Object.assign(last, known(machine.latest));
    else steps.push({ step, ...known(machine.latest) });
    while (steps.length > STEPS + 1) steps.shift();
  }

  async #fetch() {
    const ids = [...this.#requested].slice(0, MACHINES_MAX);
    const query = new URLSearchParams();
    const asked = [];
    for (const id of ids) {
      query.append("machine_id", id);
      asked.push(id);
      if (query.toString().length > QUERY_MAX) break;
    }
    for (const id of asked) this.#requested.delete(id);
    try {
      const response = await fetch(`${this.url}?${query}`, { headers: { accept: "application/json" } });
      if (!response.ok) throw new Error(`trends: ${response.status}`);
      this.#take(asked, await response.json());
    } catch {
      // Without a database the curve begins with the next reading. The past is requested again after a reconnect.
      for (const id of asked) if (!this.#points.has(id)) this.#points.set(id, []);
    }
    this.#timer = this.#requested.size ? setTimeout(() => this.#fetch(), 50) : null;
  }

  #take(asked, answer) {
    for (const id of asked) this.#points.set(id, []);
    for (const { machine_id: id, points } of answer.trends) {
      const steps = points.map(([at, temperature, humidity, vibration]) => {
        return { step: Math.floor(at / STEP_MS), temperature, humidity, vibration };
      });
      this.#points.set(id, steps);
    }
    for (const id of asked) this.changed(id);
  }

  /** Returns the curve as path data in a box of 100 × 20; "" without data. */
  path(id) {
    const first = Math.floor((this.now() - WINDOW_MS) / STEP_MS);
    const points = (this.#points.get(id) ?? []).filter(
      (point) => point.step >= first && Number.isFinite(point[this.measurement]),
    );
    if (points.length < 2) return "";
    const values = points.map((point) => point[this.measurement]);
    const low = Math.min(...values);
    const span = Math.max(...values) - low || 1;
    const gap = gapSteps(points);
    let path = "";
    let before = -Infinity;
    for (const point of points) {
      const x = ((point.step - first) / STEPS) * 100;
      const y = 19 - ((point[this.measurement] - low) / span) * 18;
      path += `${point.step - before > gap ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
      before = point.step;
    }
    return path;
  }
}

/** Returns the distance in steps at which the line breaks. A machine that sends every two minutes has no gaps. */
function gapSteps(points) {
  const steps = points.slice(1).map((point, index) => point.step - points[index].step);
  steps.sort((a, b) => a - b);
  return Math.max(1, steps[steps.length >> 1] ?? 1) * 2.5;
}

function known({ temperature, humidity, vibration }) {
  return { temperature, humidity, vibration };
}
