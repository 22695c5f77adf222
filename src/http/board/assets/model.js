// The state of the board: the machines, worst first, and the filter. Every change goes through here, and the page is
// drawn from here. Owns no element of the page.

import { WORDS, wasKnownAs } from "./format.js";

const RANK = { offline: 0, never_seen: 1, unknown: 3, online: 5 };
const WAS_TROUBLE_RANK = 2;
const FLAPPING_RANK = 4;
const byName = new Intl.Collator("en", { numeric: true }).compare;

export class Model {
  machines = new Map();
  /** The rank of each machine by name, in natural order; null after one was added. Comparing names is slow. */
  #places = null;
  /** The user's filter: a state, "flapping", or "" for all; and a part of the name. */
  filter = { state: "", text: "" };

  /** Replaces all machines. Returns the ids that are gone. */
  replace(list) {
    const next = new Map(list.map((machine) => [machine.machine_id, machine]));
    const gone = [...this.machines.keys()].filter((id) => !next.has(id));
    this.machines = next;
    this.#places = null;
    return gone;
  }

  /** Updates one machine. Returns true if its position may have changed. */
  update(machine) {
    const before = this.machines.get(machine.machine_id);
    // An update without a reading concerns the status only.
    if (before && machine.latest === undefined) machine.latest = before.latest;
    this.machines.set(machine.machine_id, machine);
    if (!before) this.#places = null;
    return !before || rank(before) !== rank(machine) || before.status_since !== machine.status_since;
  }

  /** Removes a machine. */
  forget(id) {
    if (this.machines.delete(id)) this.#places = null;
  }

  counts() {
    const counts = { all: this.machines.size, offline: 0, unknown: 0, never_seen: 0, online: 0, flapping: 0 };
    for (const machine of this.machines.values()) {
      counts[machine.status] += 1;
      if (machine.flapping) counts.flapping += 1;
    }
    return counts;
  }

  matches(machine) {
    const { state, text } = this.filter;
    if (state === "flapping" && !machine.flapping) return false;
    if (state && state !== "flapping" && machine.status !== state) return false;
    return !text || machine.machine_id.includes(text);
  }

  /** Returns the machines that match the filter: the worst status first, of offline ones the newest; then by name. */
  ordered() {
    const shown = [...this.machines.values()].filter((machine) => this.matches(machine));
    this.#places ??= placesByName([...this.machines.keys()]);
    const places = this.#places;
    return shown.sort((a, b) => {
      const byRank = rank(a) - rank(b);
      if (byRank) return byRank;
      if (a.status === "offline" && a.status_since !== b.status_since) {
        return (b.status_since ?? "") < (a.status_since ?? "") ? -1 : 1;
      }
      return places.get(a.machine_id) - places.get(b.machine_id);
    });
  }

  /** Returns one sentence for the whole site, and the state it stands for. */
  verdict() {
    const counts = this.counts();
    if (counts.all === 0) return { state: "unknown", text: "No machine yet" };
    const parts = ["offline", "never_seen", "unknown"]
      .filter((state) => counts[state] > 0)
      .map((state) => `${counts[state]} ${WORDS[state].toLowerCase()}`);
    if (parts.length === 0) {
      return { state: "online", text: counts.all === 1 ? "The machine is online" : `All ${counts.all} machines online` };
    }
    const state = counts.offline ? "offline" : counts.never_seen ? "never_seen" : "unknown";
    return { state, text: `${parts.join(", ")} of ${counts.all}` };
  }
}

function placesByName(ids) {
  ids.sort((a, b) => byName(a, b) || (a < b ? -1 : 1));
  return new Map(ids.map((id, place) => [id, place]));
}

function rank(machine) {
  if (machine.status === "online") return machine.flapping ? FLAPPING_RANK : RANK.online;
  if (machine.status === "unknown" && wasKnownAs(machine) === "offline") return WAS_TROUBLE_RANK;
  return RANK[machine.status] ?? RANK.unknown;
}
