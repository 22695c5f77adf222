// Numbers, times and words for people. Pure functions that do not touch the page.

/** The words for the states, worst first. */
export const WORDS = { offline: "Offline", unknown: "Unknown", never_seen: "Never seen", online: "Online" };

const REASONS = {
  first_seen: "first message ever",
  message: "sends again",
  silence: "silent",
  last_will: "disconnected (last will)",
  never_seen: "expected, never heard from",
};

/** Describes why a machine changed. */
export const reasonInWords = (reason) => REASONS[reason] ?? "";

const OFFLINE_REASONS = new Set(["silence", "last_will", "never_seen"]);

/** Returns the last recorded status, `online` or `offline`, from the reason of the last change; null without one. */
export function wasKnownAs({ reason }) {
  if (!reason) return null;
  return OFFLINE_REASONS.has(reason) ? "offline" : "online";
}

const zone = document.documentElement.dataset.timeZone || undefined;
const timeOfDay = clockFormat({ hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayAndTime = clockFormat({ day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const dayOnly = clockFormat({ year: "numeric", month: "2-digit", day: "2-digit" });

function clockFormat(parts) {
  try {
    return new Intl.DateTimeFormat("en-GB", { ...parts, hour12: false, timeZone: zone });
  } catch {
    return new Intl.DateTimeFormat("en-GB", { ...parts, hour12: false }); // the browser does not know the zone
  }
}

/** Formats `14:03:22` today, `21 Nov, 14:03` before. Both arguments are milliseconds since 1970. */
export function clock(at, now) {
  const today = dayOnly.format(at) === dayOnly.format(now);
  return (today ? timeOfDay : dayAndTime).format(at);
}

/** Formats a duration: `42 s`, `5 min`, `3 h 12 min`, `2 d 4 h`. */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.floor(hours / 24);
  return hours % 24 ? `${days} d ${hours % 24} h` : `${days} d`;
}

/** Formats a duration in its largest unit, for narrow tiles. */
export const shortDuration = (milliseconds) => duration(milliseconds).split(" ").slice(0, 2).join(" ");

/** Formats a number: three significant digits below ten, one decimal below a thousand, none above. */
export function number(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.0005 || size >= 1e9) return value.toExponential(1).replace("+", "");
  if (size < 1) return value.toFixed(3);
  if (size < 10) return value.toFixed(2);
  if (size < 1000) return value.toFixed(1);
  return grouped.format(value);
}
const grouped = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });

/** Parses RFC 3339 into milliseconds since 1970; null for null. */
export const millis = (text) => (text ? Date.parse(text) : null);

/** Returns the address of a machine's page. An id of dots cannot be in the path: browsers resolve it as a parent folder. */
export function machineUrl(id) {
  return /^\.{1,2}$/.test(id) ? `/machines?id=${id}` : `/machines/${encodeURIComponent(id)}`;
}

/** The measurements that any machine may have. */
export const MEASUREMENTS = [
  { name: "temperature", unit: "°C" },
  { name: "humidity", unit: "%" },
  { name: "vibration", unit: "mm/s" },
];
