// The page: an event updates the state, and the state is drawn.

/** Seconds that the summary covers. */
const SUMMARY_SECONDS = 15;

/** The share of failures from which on it is an outage. */
const OUTAGE_SHARE = 0.02;

/** Kinds of failures that are listed at most. */
const MAX_FAILURES = 40;

/** Endpoints that are remembered of each kind. */
const MAX_ROUTES = 50;

/** A failure that recurs after this many seconds moves to the top of the list. */
const NEW_AFTER_SECONDS = 60;

/** Seconds that a request may wait for the service before the summary mentions it. */
const SLOW_SECONDS = 5;

/** The states in which an exchange waits for the service. */
const WAITING = ["waiting for a connection", "waiting for the response"];

/** Milliseconds without an event after which the connection counts as lost. */
const LOST_MILLISECONDS = 7000;

const state = {
  points: [],
  last: null,
  // From the last full event.
  sidecar: {},
  latencyBounds: [],
  addedBounds: [],
  cellBounds: [],
  cursor: null,
  failures: new Map(),
  link: "waiting",
};
const endpoints = new Endpoints();
const exchanges = new Exchanges();
const upstreams = new Upstreams();
const traffic = new Traffic(byId("traffic"));
const latency = new Latency(byId("latency"));
let colours = palette();

// Events.

function take(event) {
  const { points } = state;
  if (event.full) {
    points.splice(0, points.length, ...event.points);
    state.failures.clear();
    // Another version of sitio has another page.
    if (state.sidecar.version && state.sidecar.version !== event.sidecar.version) location.reload();
    for (const name of ["sidecar", "latencyBounds", "addedBounds", "cellBounds"]) state[name] = event[name];
  } else {
    points.push(event.point);
  }
  for (const point of event.full ? points : points.slice(-1)) {
    for (const name of ["latency", "added"]) point[name] = allBuckets(point[name], state[`${name}Bounds`].length + 1);
  }
  const old = event.point.at - WINDOW - GAP;
  while (points.length > 2 && points[1].at < old) points.shift();
  state.last = event;
  endpoints.take(event);
  upstreams.take(event);
  exchanges.take(event);
  for (const record of event.failed.toReversed()) addFailure(readExchange(record));
  drawSoon();
}

/** Count a failure; those with the same cause and outcome are one item of the list. */
function addFailure(exchange) {
  const { failures } = state;
  // The number of attempts makes no difference.
  const sentence = exchange.sentence.replace(/, at attempt [0-9]+/, "");
  const failure = failures.get(sentence) ?? {
    sentence, masked: exchange.masked, byClient: !exchange.failed, times: 0, routes: new Set(),
  };
  const at = exchange.began + exchange.duration;
  if (at - failure.at > NEW_AFTER_SECONDS) failures.delete(sentence);
  failure.times += 1;
  failure.at = at;
  if (failure.routes.size < MAX_ROUTES) failure.routes.add(`${exchange.method} ${exchange.path}`);
  if (failures.size >= MAX_FAILURES && !failures.has(sentence)) {
    const oldest = [...failures.values()].reduce((one, two) => (two.at < one.at ? two : one));
    failures.delete(oldest.sentence);
  }
  failures.set(sentence, failure);
}

// The summary.

/** What happened in the last seconds, or null if that is not known yet. */
const lately = (seconds) => recently(state.points, state.points.length - 1, seconds);

/** How long the slowest request has waited for the service; null if that is not long. */
function longestWait(open) {
  const waits = open.filter((each) => WAITING.includes(each.state)).map((each) => each.duration);
  return waits.length && waits[0] > SLOW_SECONDS ? asSpan(waits[0]) : null;
}

/** A sentence on requests that last, such as event streams, and what they receive now. */
function openNow({ underWay }, seen) {
  const rate = seen ? seen.bytesOut / seen.seconds : 0;
  const receive = rate > 0 ? `, and ${asBytes(rate)} go to clients each second` : "";
  return `${plural(underWay, "request is", "requests are")} open${receive}.`;
}

/** The summary of the last seconds: {level, title, text}. */
function summaryOf(seen, { totals: total, problem, open, inFlight }) {
  if (problem && !seen?.hits) {
    return { level: "bad", title: "Service is down", text: asSentence(problem) };
  }
  const wait = longestWait(open);
  if (wait && !seen?.hits) {
    const text = `${plural(inFlight, "request")} in progress, none has ended lately,` +
      ` and the oldest has waited ${wait} for the service.`;
    return { level: "warn", title: "Service is slow", text };
  }
  if (!total.hits && total.underWay) {
    const text = `${openNow(total, seen)} None has ended yet.`;
    return { level: "good", title: "In progress", text };
  }
  if (!total.hits) {
    const text = "sitio is ready. Requests through it appear here at once.";
    return { level: "none", title: "No requests yet", text };
  }
  const soFar = `${plural(total.hits, "request")} since the start`;
  if (!seen) return { level: "none", title: "Measuring", text: `${soFar}. New requests appear here.` };
  const { hits, failed, sentFailed: shown, masked, broken } = seen;
  // Longer than asked for if no page was open before, shorter at the start.
  const span = `in the last ${asSpan(Math.max(1, Math.round(seen.seconds)))}`;
  if (!hits) {
    const open = total.underWay ? ` ${openNow(total, seen)}` : "";
    const title = open ? "In progress" : "Quiet";
    return { level: "good", title, text: `No request ended ${span}.${open} ${soFar}.` };
  }
  const requests = plural(hits, "request");
  if (broken > failed - broken) {
    const text = `${asCount(failed)} of ${requests} failed ${span} (${asPercent(failed / hits)}).` +
      ` ${plural(broken, "response")} broke off: the service ended them early, or clients stopped reading.`;
    return { level: failed / hits >= OUTAGE_SHARE ? "bad" : "warn", title: "Responses break off", text };
  }
  if (!failed && !shown) {
    const but = wait ? ` One in progress has waited ${wait} for the service.` : "";
    return { level: "good", title: "All is well", text: `${requests} ${span}, none failed.${but}` };
  }
  const bad = Math.max(failed, shown) / hits >= OUTAGE_SHARE;
  const level = bad ? "bad" : "warn";
  const cut = broken ? `, ${asCount(broken)} of them broken off` : "";
  const errors = `clients saw ${plural(shown, "error")}${cut}`;
  if (!failed) {
    const text = `The service answered well, but ${errors} ${span}.`;
    return { level, title: bad ? "Policies fail" : "A few failures", text };
  }
  const share = `${asCount(failed)} of ${requests} failed ${span} (${asPercent(failed / hits)}).`;
  if (!shown) {
    const text = `${share} Clients saw no error: policies sent them good responses.`;
    return { level, title: bad ? "Outage, masked" : "A few failures, masked", text };
  }
  if (masked > 0) {
    const text = `${share} ${asCount(masked)} were masked; ${errors}.`;
    return { level, title: bad ? "Outage, partly masked" : "A few failures", text };
  }
  return { level, title: bad ? "Outage" : "A few failures", text: `${share} ${asSentence(errors)}` };
}

const LOST = {
  level: "none",
  title: "Connection lost",
  text: "sitio does not answer, and these values are old. This page reconnects by itself.",
};

const ICON = { good: "1f7a63", warn: "b87a14", bad: "c2362b", none: "8a8274" };

/** The icon of the browser tab. */
function setIcon(level) {
  const icon = byId("icon");
  const address = icon.href.replace(/%23[0-9a-f]{6}/, `%23${ICON[level]}`);
  if (icon.href !== address) icon.href = address;
}

function drawSummary(total) {
  const seen = lately(SUMMARY_SECONDS);
  const summary = state.link === "lost" ? LOST : summaryOf(seen, state.last);
  byId("summary").dataset.level = summary.level;
  setIcon(summary.level);
  say(byId("summary-title"), summary.title);
  say(byId("summary-text"), summary.text);
  document.title = summary.level === "bad" || summary === LOST ? `${summary.title} \u00b7 sitio` : "sitio";
  byId("first").hidden = total.hits > 0 || total.underWay > 0 || summary.level === "bad" || !state.sidecar.address;
  if (!total.hits) say(byId("curl"), `curl -i ${state.sidecar.address}/`);
  const some = Boolean(seen?.hits);
  for (const [name, failures] of [["upstreamStatuses", "failed"], ["statuses", "sentFailed"]]) {
    const good = some ? Math.max(0, 1 - seen[failures] / seen.hits) : 0;
    say(byId(`${name}-share`), some ? asPercent(good) : NONE);
    byId(`${name}-meter`).style.width = `${good * 100}%`;
    byId(`${name}-meter`).parentElement.toggleAttribute("data-some", some);
  }
}

// The rest of the page.

function drawMetric(id, [number, unit]) {
  const element = byId(id);
  if (!element.firstElementChild) element.replaceChildren(make("span"), make("span", "unit"));
  say(element.firstChild, number);
  say(element.lastChild, unit);
}

function drawMetrics() {
  const { latencyBounds, addedBounds } = state;
  const now = lately(MOMENT);
  const time = (share) => timeParts(now && quantile(latencyBounds, now.latency, share));
  drawMetric("rate", [now ? asRate(now.hits / now.seconds) : NONE, ""]);
  for (const [id, share] of LINES) drawMetric(id, time(share));
  drawMetric("added", timeParts(now && quantile(addedBounds, now.added, 0.5)));
  drawMetric("bytes", now ? byteParts(now.bytesOut / now.seconds) : [NONE, ""]);
}

function fillLegend(id, items) {
  arrange(byId(id), items, (item) => item.name, (item) => {
    const swatch = make("span", `swatch ${item.kind ?? ""}`);
    swatch.style.color = `var(--${item.colour})`;
    return make("li", "", {}, swatch, make("span", "", {}, item.name), make("b"));
  }, (element, item) => say(element.lastChild, item.value));
}

/** The charts; their legends have the values at the cursor. */
function drawCharts() {
  const { points, last, cursor } = state;
  if (!last || points.length === 0) return;
  const { latencyBounds, cellBounds } = state;
  const newest = points.length - 1;
  const at = cursor === null ? newest : indexAt(points, points[newest].at - cursor);
  const seen = recently(points, at, cursor === null ? MOMENT : 1);
  const smooth = recently(points, at, MOMENT);
  const ago = cursor === null ? "last 10 s" : `${asSpan(cursor)} ago`;
  const legend = CLASSES.slice(1).map((name) => ({
    name: name === 5 ? "failed" : `${name}xx`,
    colour: `c${name}`,
    kind: name === 5 ? "hatched" : "",
    value: seen ? asRate(Math.max(0, seen.upstreamStatuses[name - 1]) / seen.seconds) : NONE,
  }));
  if (sum(Object.values(last.totals.masked))) {
    const value = seen ? asRate(seen.masked / seen.seconds) : NONE;
    legend.push({ name: "masked", colour: "c5", kind: "ring", value });
  }
  fillLegend("traffic-legend", legend);
  const times = LINES.map(([name, share, colour]) => ({
    name, colour, kind: `line ${name}`, value: asTime(smooth && quantile(latencyBounds, smooth.latency, share)),
  }));
  fillLegend("latency-legend", times);
  for (const [id, items] of [["traffic", legend], ["latency", times]]) {
    say(byId(`${id}-when`), ago);
    const canvas = byId(id);
    canvas.setAttribute("aria-valuenow", String(-Math.round(cursor ?? 0)));
    const values = items.map((item) => `${item.name} ${item.value}`);
    canvas.setAttribute("aria-valuetext", `${ago}: ${values.join(", ")}`);
  }
  traffic.draw(points, cursor, colours);
  latency.draw(points, latencyBounds, cellBounds, cursor, colours);
}

function makeFailure() {
  const [times, route, ago] = ["times", "route", "ago"].map((name) => make("span", name));
  const masked = make("span", "masked", {}, "masked");
  return make("li", "", {}, make("p", "why"), make("p", "where", {}, times, masked, route, ago));
}

function fillFailure(element, failure) {
  const [why, where] = element.children;
  const [times, masked, route, ago] = where.children;
  const routes = [...failure.routes];
  const more = routes.length > 3 ? ` and ${routes.length - 2} more` : "";
  say(why, failure.sentence);
  say(times, `${asCount(failure.times)}\u00d7`);
  times.classList.toggle("byClient", failure.byClient);
  masked.hidden = !failure.masked;
  say(route, plain(`${routes.slice(0, more ? 2 : 3).join(", ")}${more}`));
  say(ago, asAgo(state.last.now - failure.at));
}

function drawFailures() {
  // In the order of their first occurrence, so that a continuing failure stays in place.
  const shown = [...state.failures.values()].reverse();
  arrange(byId("failure-list"), shown, (each) => each.sentence, makeFailure, fillFailure);
  byId("no-failures").hidden = shown.length > 0;
  const total = state.last.totals;
  const { failed } = total;
  const masked = asCount(sum(Object.values(total.masked)));
  say(byId("failures-when"), failed ? `${asCount(failed)} since the start, ${masked} masked` : "");
}

function drawService(event) {
  const { pool, poolCounts: counts, clients, totals, inFlight, problem } = event;
  const facts = [
    ["Connections", pool.open ? `${asCount(pool.open - pool.idle)} of ${asCount(pool.open)} in use` : "none open", false],
    ["Requests waiting", asCount(pool.waiting), pool.waiting > 0],
    ["Client connections", asCount(clients), false],
    ["In progress", asCount(inFlight), false],
    ["Opened", asCount(counts.opened), false],
    ["Failed to open", asCount(counts.failed), false],
    ["Had to wait", asCount(counts.waited), false],
    ["Mean wait", asTime(counts.waited ? counts.waitedSeconds / counts.waited : null), false],
  ];
  const makeFact = ([name]) => make("div", "", {}, make("dt", "", {}, name), make("dd"));
  arrange(byId("connections"), facts, ([name]) => name, makeFact, ({ lastChild }, [, value, bad]) => {
    say(lastChild, value);
    lastChild.classList.toggle("bad", bad);
  });
  const statuses = Object.entries(totals.upstreamStatuses).sort(([one], [two]) => one.localeCompare(two));
  const makeStatus = ([name]) => make("li", "", {}, makeCode(name), make("span"));
  arrange(byId("statuses"), statuses, ([name]) => name, makeStatus, ({ lastChild }, [name, times]) => {
    const masked = totals.masked[name] ?? 0;
    const some = masked === times ? ", masked" : `, ${asCount(masked)} masked`;
    const broken = totals.broken[name] ? `, ${asCount(totals.broken[name])} broke off` : "";
    say(lastChild, `${asCount(times)}${masked ? some : ""}${broken}`);
  });
  const isSeveral = sum(event.upstreams.map(({ count }) => count)) > 1;
  const where = isSeveral ? "all endpoints together" : (state.sidecar.upstream ?? "the demo site of sitio");
  say(byId("upstream-when"), problem ? asSentence(problem) : where);
  byId("upstream-when").classList.toggle("problem", problem !== null);
}

function drawPolicies(policies) {
  const rows = policies.map((policy, index) => ({ ...policy, key: `${index} ${policy.name}` }));
  const makePolicy = () =>
    makeRow({ name: "", called: "number", acted: "number", took: "number took", failed: "number" });
  arrange(byId("policies").tBodies[0], rows, (row) => row.key, makePolicy, ({ cells_: cells }, row) => {
    for (const name of ["called", "acted", "failed"]) say(cells[name], asCount(row[name]));
    say(cells.name, row.name);
    say(cells.took, asTime(row.called ? row.seconds / row.called : null));
    cells.failed.classList.toggle("bad", row.failed > 0);
  });
  byId("policies").hidden = rows.length === 0;
  byId("no-policies").hidden = rows.length > 0;
}

function drawWorkers(workers) {
  byId("processes").hidden = workers.length < 2;
  const makeWorker = () =>
    makeRow({ number: "", hits: "number", clients: "number", restarts: "number", uptime: "number" });
  arrange(byId("workers"), workers, (each) => each.number, makeWorker, ({ cells_: cells }, each) => {
    say(cells.number, `${each.number}, pid ${each.pid}`);
    for (const name of ["hits", "clients", "restarts"]) say(cells[name], asCount(each[name]));
    say(cells.uptime, asSpan(each.uptime));
  });
}

/** Draw at most once a frame; a hidden page draws when it is shown again. */
function soon(draw) {
  let due = false;
  return () => {
    if (!due) requestAnimationFrame(() => { due = false; draw(); });
    due = true;
  };
}

const drawSoon = soon(draw);
const drawChartsSoon = soon(drawCharts);

function draw() {
  const { last } = state;
  if (!last) return;
  const { totals } = last;
  drawSummary(totals);
  drawMetrics();
  drawCharts();
  drawFailures();
  drawService(last);
  upstreams.draw(last.upstreams);
  drawPolicies(last.policies);
  drawWorkers(last.workers);
  endpoints.draw();
  exchanges.draw();
  say(byId("host"), state.sidecar.name ?? location.host);
  byId("state").hidden = last.state === "serving";
  say(byId("state"), last.state);
  const version = state.sidecar.version ? `sitio ${state.sidecar.version}` : "sitio";
  say(byId("since"), `${version}, ${plural(totals.hits, "request")} in ${asSpan(totals.uptime)}.`);
}

// The connection.

const LINK = { waiting: "Connecting", live: "Live", late: "sitio is busy", lost: "Connection lost" };
let source = null;
let heardAt = 0;
let hiddenAt = document.hidden ? Date.now() : null;

function setLink(link) {
  if (state.link === link) return;
  state.link = link;
  byId("link").dataset.link = document.body.dataset.link = link;
  say(byId("link-text"), LINK[link]);
  drawSoon();
}

function connect() {
  source?.close();
  heardAt = Date.now();
  source = new EventSource("events");
  source.onmessage = ({ data }) => {
    heardAt = Date.now();
    setLink("live");
    take(JSON.parse(data));
  };
  source.addEventListener("late", () => {
    heardAt = Date.now();
    setLink("late");
  });
  source.onerror = () => setLink("lost");
}

/** EventSource gives up if it is refused, and does not notice a lost network. */
function watch() {
  if (hiddenAt !== null && Date.now() - hiddenAt > WINDOW * 1000) {
    // The page is hidden: sitio need not send events.
    source?.close();
    source = null;
  } else if (source && Date.now() - heardAt > LOST_MILLISECONDS) {
    setLink("lost");
    connect();
  }
}

document.addEventListener("visibilitychange", () => {
  hiddenAt = document.hidden ? Date.now() : null;
  if (!document.hidden && !source) connect();
});
addEventListener("pagehide", () => source?.close());
addEventListener("pageshow", (event) => event.persisted && connect());

// Colours.

const dark = matchMedia("(prefers-color-scheme: dark)");

function remembered(value) {
  try {
    if (value) localStorage.setItem("sitio-theme", value);
    return localStorage.getItem("sitio-theme");
  } catch {
    return value; // The browser stores nothing: the choice lasts until the page is closed.
  }
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  const isDark = theme ? theme === "dark" : dark.matches;
  byId("theme").setAttribute("aria-pressed", String(isDark));
  colours = palette();
  drawCharts();
}

byId("theme").addEventListener("click", () => {
  setTheme(remembered(byId("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark"));
});
dark.addEventListener("change", () => setTheme(document.documentElement.dataset.theme));

// Begin.

for (const chart of [traffic, latency]) {
  followCursor(chart, (age) => {
    state.cursor = age;
    drawChartsSoon();
  });
}
new ResizeObserver(() => drawCharts()).observe(byId("main"));
setTheme(remembered(null));
connect();
setInterval(watch, 1000);
