// The live connection. Says at once when it is lost, and comes back by itself.
//
// A connection can be dead without being closed (a frozen process, a pulled cable): the server says something every
// few seconds, and silence counts as loss.
//
// States: "connecting" (never had one), "live", "lost".

/** Silence after which the connection counts as lost; the server speaks at least every two seconds. */
const SILENCE_MAX_MS = 6_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 5_000;
const EVENTS = ["machine", "event", "status"];

export class Stream {
  #source = null;
  #retry = RETRY_MIN_MS;
  #timer = null;
  #attempt = 0;
  state = "connecting";
  heardAt = null;
  /** What came in while the lists were fetched: it may be newer than they are, and is not said again. */
  #early = [];

  /**
   * `handlers.load()` fetches everything anew after each connect; only when it has succeeded the state is "live", and what
   * came in meanwhile is passed on.
   * `handlers.changed(state, reason)` hears of each change of state, and of a new reason for a loss; `handlers.heard(name, data)`
   * takes what comes in.
   */
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    setInterval(() => this.#watch(), 500);
    // A page that comes back from the browser's cache has a dead connection and old values.
    addEventListener("pageshow", (event) => event.persisted && this.#lose());
    addEventListener("offline", () => this.#lose());
    this.#connect();
  }

  #connect() {
    this.#attempt += 1;
    const attempt = this.#attempt;
    const source = new EventSource(this.url);
    this.#source = source;
    this.startedAt = performance.now();
    this.heardAt = null;
    this.#early = [];
    this.loaded = false;
    source.onopen = () => this.#opened(attempt);
    source.onerror = () => {
      if (attempt !== this.#attempt) return;
      // Closed at once means that there was an answer, and that it was no stream.
      const isRefused = source.readyState === EventSource.CLOSED;
      this.#lose();
      if (isRefused) this.#askWhy(this.#attempt);
    };
    for (const name of EVENTS) {
      source.addEventListener(name, (message) => {
        if (attempt !== this.#attempt) return;
        this.heardAt = performance.now();
        const data = JSON.parse(message.data);
        if (this.loaded) this.handlers.heard(name, data);
        else this.#early.push([name, data]);
      });
    }
  }

  async #opened(attempt) {
    this.heardAt = performance.now();
    try {
      await this.handlers.load();
    } catch (error) {
      if (attempt === this.#attempt) this.#lose(`Andon answers, but not as it should (${error.message}).`);
      return;
    }
    if (attempt !== this.#attempt) return;
    this.#retry = RETRY_MIN_MS;
    this.loaded = true;
    this.#early.splice(0).forEach(([name, data]) => this.handlers.heard(name, data));
    this.#become("live");
  }

  #watch() {
    if (!this.#source) return;
    const since = this.heardAt ?? this.startedAt;
    if (performance.now() - since > SILENCE_MAX_MS) this.#lose();
  }

  #lose(reason = "") {
    this.#source?.close();
    this.#source = null;
    this.#attempt += 1;
    this.#become("lost", reason);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), this.#retry);
    this.#retry = Math.min(this.#retry * 1.5, RETRY_MAX_MS);
  }

  /** An EventSource hides the answer that refused it; asking once more shows it. */
  async #askWhy(attempt) {
    const abort = new AbortController();
    try {
      const response = await fetch(this.url, { signal: abort.signal, headers: { accept: "text/event-stream" } });
      if (response.ok || attempt !== this.#attempt) return;
      this.#become("lost", whyNot(response.status, await response.json()));
    } catch {
      // Away again: the alarm says so already.
    } finally {
      abort.abort();
    }
  }

  #become(state, reason = "") {
    if (this.state === state && (this.reason === reason || !reason)) return;
    this.state = state;
    this.reason = reason;
    this.handlers.changed(state, reason);
  }
}

/** A refusal in words. */
function whyNot(status, { detail = "" }) {
  if (status === 401) return "The login is no longer valid: load this page again and log in.";
  if (status === 503) return `Andon takes no more screens: ${detail}.`;
  return `Andon refuses: ${detail || status}.`;
}
