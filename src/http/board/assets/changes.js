// The newest changes of status: a list, and for screen readers one sentence every few seconds at most.

import { WORDS, clock, machineUrl, millis, reasonInWords } from "./format.js";

const KEPT = 30;
const SPEAK_EVERY_MS = 4_000;

export class Changes {
  #events = [];
  #unspoken = [];
  #timer = null;
  #frame = null;

  /** True while the older changes could not be read. */
  isIncomplete = false;

  /** `list` shows the changes, `nothing` says why it is empty, `spoken` is the live region, `template` is one entry. */
  constructor(list, nothing, spoken, template, now) {
    Object.assign(this, { list, nothing, spoken, template, now });
  }

  /** Replaces the list with the newest events of the database. Keeps live ones that are not recorded yet. */
  replace(events) {
    const isRecorded = (event) => events.some((each) => sameEvent(each, event));
    // Compare by position, not by time: times go back when the clock is set back.
    const known = this.#events.findIndex(isRecorded);
    const live = known < 0 ? this.#events : this.#events.slice(0, known);
    this.#events = [...live, ...events].slice(0, KEPT);
    this.isIncomplete = false;
    this.#draw();
  }

  /** Notes that the newest events cannot be read. Keeps the known ones. */
  markIncomplete() {
    this.isIncomplete = true;
    this.#draw();
  }

  /** Adds an event that has just happened. */
  add(event) {
    const known = this.#events.some((each) => sameEvent(each, event));
    if (known) return;
    this.#events = [event, ...this.#events].slice(0, KEPT);
    // Thousands may arrive at once when the link is lost or comes back.
    this.#frame ??= requestAnimationFrame(() => ((this.#frame = null), this.#draw()));
    this.#unspoken.push(event);
    this.#timer ??= setTimeout(() => this.#speak(), SPEAK_EVERY_MS / 4);
  }

  #draw() {
    this.list.replaceChildren(...this.#events.map((event) => this.#entry(event)));
    this.nothing.textContent = this.isIncomplete ? "Older changes cannot be read at present." : "None yet.";
    this.nothing.hidden = this.#events.length > 0 && !this.isIncomplete;
  }

  #entry(event) {
    const item = this.template.content.firstElementChild.cloneNode(true);
    item.dataset.state = event.status;
    item.querySelector(".word").textContent = WORDS[event.status] ?? event.status;
    const link = item.querySelector("a");
    link.textContent = event.machine_id;
    link.setAttribute("href", machineUrl(event.machine_id));
    const time = item.querySelector("time");
    time.dateTime = event.occurred_at;
    time.textContent = clock(millis(event.occurred_at), this.now());
    item.querySelector(".reason").textContent = reasonInWords(event.reason);
    return item;
  }

  #speak() {
    const events = this.#unspoken;
    this.#unspoken = [];
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#unspoken.length) this.#speak();
    }, SPEAK_EVERY_MS);
    this.spoken.textContent = sentence(events);
  }
}

/** Names up to three machines, or counts them. */
function sentence(events) {
  if (events.length <= 3) {
    return events.map((event) => `${event.machine_id} is ${WORDS[event.status]?.toLowerCase()}.`).join(" ");
  }
  const offline = events.filter((event) => event.status === "offline").length;
  return `${offline} machines went offline, ${events.length - offline} came online.`;
}

function sameEvent(a, b) {
  return a.machine_id === b.machine_id && a.occurred_at === b.occurred_at && a.status === b.status;
}
