// The live connection. Reports a loss at once, and reconnects by itself.
//
// A connection can be dead without being closed (a frozen process, a pulled cable). The server sends something every two
// seconds, so silence counts as loss.
//
// States: "connecting" (never had one), "live", "lost".

/** Silence after which the connection counts as lost. The server sends at least every two seconds. */
const SILENCE_MAX_MS = 6_000;
const RETRY_MIN_MS = 1_000;
const RETRY_MAX_MS = 5_000;
const EVENTS = ["machine", "event", "forgotten", "status"];

export class Stream {
  #source = null;
  #retry = RETRY_MIN_MS;
  #timer = null;
  #attempt = 0;
  state = "connecting";
  receivedAt = null;
  /** Events that arrived while the lists were loading. They may be newer than the lists, and are not sent again. */
  #early = [];

  /**
   * `handlers.load()` loads everything after each connect. Once it has succeeded, the state is "live" and the events
   * that arrived meanwhile follow. `handlers.changed(state, reason)` receives each change of state and each new reason
   * for a loss. `handlers.received(name, data)` receives the events.
   */
  constructor(url, handlers) {
    this.url = url;
    this.handlers = handlers;
    setInterval(() => this.#watch(), 500);
    // A page restored from the browser's cache has a dead connection and old values.
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
    this.receivedAt = null;
    this.#early = [];
    this.loaded = false;
    source.onopen = () => this.#opened(attempt);
    source.onerror = () => {
      if (attempt !== this.#attempt) return;
      // An immediate close means that the server answered without a stream.
      const isRefused = source.readyState === EventSource.CLOSED;
      this.#lose();
      if (isRefused) this.#askWhy(this.#attempt);
    };
    // It ends in order, and nothing was lost: connect again without an alarm.
    source.addEventListener("end", () => {
      if (attempt !== this.#attempt) return;
      source.close();
      this.#connect();
    });
    for (const name of EVENTS) {
      source.addEventListener(name, (message) => {
        if (attempt !== this.#attempt) return;
        this.receivedAt = performance.now();
        const data = JSON.parse(message.data);
        if (this.loaded) this.handlers.received(name, data);
        else this.#early.push([name, data]);
      });
    }
  }

  async #opened(attempt) {
    this.receivedAt = performance.now();
    try {
      await this.handlers.load();
    } catch (error) {
      if (attempt === this.#attempt) this.#lose(`Andon sent an unexpected response (${error.message}).`);
      return;
    }
    if (attempt !== this.#attempt) return;
    this.#retry = RETRY_MIN_MS;
    this.loaded = true;
    this.#early.splice(0).forEach(([name, data]) => this.handlers.received(name, data));
    this.#become("live");
  }

  #watch() {
    if (!this.#source) return;
    const since = this.receivedAt ?? this.startedAt;
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

  /** EventSource hides the response that refused it. Fetching once more reveals it. */
  async #askWhy(attempt) {
    const abort = new AbortController();
    try {
      const response = await fetch(this.url, { signal: abort.signal, headers: { accept: "text/event-stream" } });
      if (response.ok || attempt !== this.#attempt) return;
      this.#become("lost", whyNot(response.status, await response.json()));
    } catch {
      // Unreachable again: the banner says so already.
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

/** Describes a refusal. */
function whyNot(status, { detail = "" }) {
  if (status === 401) return "The login is no longer valid. Reload this page and log in.";
  if (status === 503) return `Andon accepts no more screens: ${detail}.`;
  return `Andon refuses the connection: ${detail || status}.`;
}
