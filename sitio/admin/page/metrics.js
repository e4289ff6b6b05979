// Arithmetic with totals: differences, quantiles; and numbers as text.  Pure.
//
// A point has the totals at one moment: {at, hits, failed, sentFailed, upstreamStatuses,
// statuses, masked, broken, latency, added, bytesOut}; statuses are counts of 1xx to 5xx and
// of all others.  What failed is sitio's to say (telemetry/outcomes.py): the page counts no
// statuses.  Responses that broke off are among the 5xx.

/** Seconds that the charts show. */
const WINDOW = 300;

/** Seconds over which the current metrics are computed. */
const MOMENT = 10;

/** If two points are more seconds apart, no page was open in between. */
const GAP = 5;

const minus = (newer, older) => newer.map((value, index) => value - older[index]);

const sum = (values) => values.reduce((total, value) => total + value, 0);

/** What happened between two points. */
function between(older, newer) {
  return {
    seconds: newer.at - older.at,
    hits: newer.hits - older.hits,
    failed: newer.failed - older.failed,
    sentFailed: newer.sentFailed - older.sentFailed,
    upstreamStatuses: minus(newer.upstreamStatuses, older.upstreamStatuses),
    statuses: minus(newer.statuses, older.statuses),
    masked: newer.masked - older.masked,
    broken: newer.broken - older.broken,
    latency: minus(newer.latency, older.latency),
    added: minus(newer.added, older.added),
    bytesOut: newer.bytesOut - older.bytesOut,
  };
}

/** The index of the last point at or before a time, or 0 where all are later. */
function indexAt(points, time) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (points[middle].at <= time) low = middle; else high = middle - 1;
  }
  return low;
}

/**
 * What happened in the seconds before a point, or null if that is unknown.  It covers a
 * longer time if no page was open, until the time since then is long enough.
 */
function recently(points, index, seconds) {
  if (index < 1) return null;
  const from = Math.min(indexAt(points, points[index].at - seconds), index - 1);
  const next = points[from + 1].at;
  const unseen = next - points[from].at > GAP && points[index].at - next >= GAP;
  return between(points[unseen ? from + 1 : from], points[index]);
}

/** All buckets of a histogram of which an event has those with counts: index, count, ... */
function allBuckets(filled, size) {
  const counts = new Array(size).fill(0);
  for (let index = 0; index < filled.length; index += 2) counts[filled[index]] = filled[index + 1];
  return counts;
}

/** The counts of a histogram with other bounds, which are some of its own. */
function regroup(bounds, counts, coarser) {
  const sums = new Array(coarser.length + 1).fill(0);
  let bucket = 0;
  counts.forEach((count, index) => {
    while (bucket < coarser.length && !(bounds[index] <= coarser[bucket])) bucket += 1;
    sums[bucket] += count;
  });
  return sums;
}

/**
 * The value that a share of a histogram does not exceed: the middle of its bucket, at most
 * 6 % off; null if the histogram is empty.
 */
function quantile(bounds, counts, share) {
  const rank = share * sum(counts);
  if (!rank) return null;
  let below = 0;
  let index = 0;
  while (index < bounds.length && below + counts[index] < rank) {
    below += counts[index];
    index += 1;
  }
  if (index === 0 || index === bounds.length) return bounds[Math.min(index, bounds.length - 1)];
  return Math.sqrt(bounds[index - 1] * bounds[index]);
}

/** The next round number; there are few of them, so that an axis seldom changes. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 6, 8, 10].find((step) => step * power >= value * 0.9999) * power;
}

// Numbers as text.  An en dash means unknown.

const NONE = "\u2013";

const whole = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

const asCount = (count) => (count < 1e5 ? whole.format(count) : compact.format(count));

function asRate(rate) {
  if (rate >= 99.5) return asCount(Math.round(rate));
  return rate === 0 ? "0" : rate.toFixed(1);
}

const asPercent = (share) => {
  if (share === 1 || share === 0) return `${share * 100}\u202f%`;
  // Only 1 is shown as 100 %, and only 0 as 0 %.
  return `${Math.min(99.9, Math.max(0.1, share * 100)).toFixed(1)}\u202f%`;
};

/** [number, unit] of a duration in seconds. */
function timeParts(seconds) {
  if (seconds === null || seconds === undefined) return [NONE, ""];
  if (seconds < 0.0000005) return ["<1", "\u00b5s"];
  if (seconds < 0.00095) return [String(Math.round(seconds * 1e6)), "\u00b5s"];
  if (seconds < 0.0095) return [(seconds * 1e3).toFixed(1), "ms"];
  if (seconds < 0.9995) return [String(Math.round(seconds * 1e3)), "ms"];
  return [seconds < 99.5 ? seconds.toFixed(1) : String(Math.round(seconds)), "s"];
}

const asTime = (seconds) => timeParts(seconds).join("\u202f").trim();

/** [number, unit] of a size in bytes. */
function byteParts(bytes) {
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 9.95 && unit !== "B") return [value.toFixed(1), unit];
    if (value < 999.5) return [String(Math.round(value)), unit];
    value /= 1000;
  }
  return [value.toFixed(1), "TB"];
}

const asBytes = (bytes) => byteParts(bytes).join("\u202f");

/** 42 s, 12 min, 3 h 5 min, 4 d 2 h. */
function asSpan(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

const asAgo = (seconds) => (seconds < 2 ? "just now" : `${asSpan(seconds)} ago`);

const plural = (count, one, many = `${one}s`) => `${asCount(count)} ${count === 1 ? one : many}`;
