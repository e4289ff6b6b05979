// The page: what an event says goes into the state, the state is drawn.

/** Seconds of which the verdict speaks. */
const LATELY = 15;

/** A share of failures above which it is an outage and no slip. */
const OUTAGE = 0.02;

/** Failures told apart, and shown, at most. */
const FAILURES = 40;

/** Endpoints remembered of each. */
const ROUTES = 50;

/** Seconds after which one that comes again is a new one, at the top of the list. */
const AGAIN = 60;

/** Seconds that a request may wait for the service before the verdict speaks of it. */
const PATIENCE = 5;

/** Steps of an exchange that are not sitio's. */
const WAITING = ["waiting for a connection", "waiting for the response"];

/** Milliseconds without an event after which the connection counts as lost. */
const SILENCE = 7000;

const state = {
  points: [],
  last: null,
  // What only the first event says.
  about: {},
  latencyBounds: [],
  ownBounds: [],
  cursor: null,
  failures: new Map(),
  link: "waiting",
};
const endpoints = new Endpoints();
const exchanges = new Exchanges();
const traffic = new Traffic(byId("traffic"));
const latency = new Latency(byId("latency"));
let colours = palette();

// What an event says.

function take(event) {
  const { points } = state;
  if (event.all) {
    points.splice(0, points.length, ...event.history);
    state.failures.clear();
    // Another version has another page.
    if (state.about.version && state.about.version !== event.about.version) location.reload();
    for (const name of ["about", "latencyBounds", "ownBounds"]) state[name] = event[name];
  } else {
    points.push(event.point);
  }
  const old = event.point.at - WINDOW - GAP;
  while (points.length > 2 && points[1].at < old) points.shift();
  state.last = event;
  endpoints.take(event);
  exchanges.take(event);
  for (const told of event.failed.toReversed()) noteFailure(readExchange(told));
  drawSoon();
}

/** Failures of the same cause and outcome are one, with a number. */
function noteFailure(exchange) {
  const { failures } = state;
  // How often it was tried makes no other kind.
  const sentence = exchange.sentence.replace(/, at attempt [0-9]+/, "");
  const failure = failures.get(sentence) ?? {
    sentence, masked: isMasked(exchange), theirs: !isFailure(exchange), times: 0, routes: new Set(),
  };
  const at = exchange.began + exchange.duration;
  if (at - failure.at > AGAIN) failures.delete(sentence);
  failure.times += 1;
  failure.at = at;
  if (failure.routes.size < ROUTES) failure.routes.add(`${exchange.method} ${exchange.path}`);
  if (failures.size >= FAILURES && !failures.has(sentence)) {
    const oldest = [...failures.values()].reduce((one, two) => (two.at < one.at ? two : one));
    failures.delete(oldest.sentence);
  }
  failures.set(sentence, failure);
}

// How it stands.

/** What happened lately, or null where that is not known yet. */
const lately = (seconds) => recently(state.points, state.points.length - 1, seconds);

/** How long a request has waited for the service that has waited too long, or null. */
function waitOf(open) {
  const waits = open.filter((each) => WAITING.includes(each.state)).map((each) => each.duration);
  return waits.length && waits[0] > PATIENCE ? asSpan(waits[0]) : null;
}

/** {level, title, text}: one look is to be enough. */
function verdictOf(seen, { sums: total, trouble, open, inFlight }) {
  if (trouble && !seen?.hits) {
    return { level: "bad", title: "The service is not there", text: asSentence(trouble) };
  }
  const wait = waitOf(open);
  if (wait && !seen?.hits) {
    const text = `${plural(inFlight, "request")} under way, none has ended lately,` +
      ` and one has waited ${wait} for the service.`;
    return { level: "warn", title: "The service lets wait", text };
  }
  if (!total.hits) {
    const text = "sitio is ready. What passes through it shows up here at once.";
    return { level: "none", title: "No requests yet", text };
  }
  const sofar = `${plural(total.hits, "request")} since the start`;
  if (!seen) return { level: "none", title: "Watching", text: `${sofar}. What comes now shows up here.` };
  const { hits, masked, broken } = seen;
  // Longer than asked for where nobody was looking, shorter at the start.
  const span = `in the last ${asSpan(Math.max(1, Math.round(seen.seconds)))}`;
  if (!hits) return { level: "good", title: "Quiet", text: `No request ended ${span}. ${sofar}.` };
  const requests = plural(hits, "request");
  const [failed, shown] = [seen.upstreamStatuses[4], seen.statuses[4]];
  if (broken > failed + shown) {
    const text = `${asCount(broken)} of ${requests} ${span} got a response that broke off within` +
      ` (${asPercent(broken / hits)}): the service ended it early, or the client read no more.`;
    return { level: broken / hits >= OUTAGE ? "bad" : "warn", title: "Responses break off", text };
  }
  if (!failed && !shown) {
    const but = wait ? ` One that is under way has waited ${wait} for the service.` : "";
    return { level: "good", title: "All is well", text: `${requests} ${span}, and none failed.${but}` };
  }
  const bad = Math.max(failed, shown) / hits >= OUTAGE;
  const level = bad ? "bad" : "warn";
  const errors = `clients saw ${plural(shown, "error")}`;
  if (!failed) {
    const text = `The service did well, yet ${errors} ${span}.`;
    return { level, title: bad ? "Policies make errors" : "A few failures", text };
  }
  const share = `${asCount(failed)} of ${requests} failed ${span} (${asPercent(failed / hits)}).`;
  if (!shown) {
    const text = `${share} Clients see none of it: policies sent them good responses.`;
    return { level, title: bad ? "Outage, masked" : "A few failures, masked", text };
  }
  if (masked > 0) {
    const text = `${share} ${asCount(masked)} were masked; ${errors}.`;
    return { level, title: bad ? "Outage, masked in part" : "A few failures", text };
  }
  return { level, title: bad ? "Outage" : "A few failures", text: `${share} ${asSentence(errors)}` };
}

const LOST = {
  level: "none",
  title: "Connection lost",
  text: "sitio does not answer; what stands here is old. This page tries again by itself.",
};

const ICON = { good: "1f7a63", warn: "b87a14", bad: "c2362b", none: "8a8274" };

/** The picture in the tab, which is seen when the page is not. */
function setIcon(level) {
  const icon = byId("icon");
  const address = icon.href.replace(/%23[0-9a-f]{6}/, `%23${ICON[level]}`);
  if (icon.href !== address) icon.href = address;
}

function drawVerdict(total) {
  const seen = lately(LATELY);
  const verdict = state.link === "lost" ? LOST : verdictOf(seen, state.last);
  byId("verdict").dataset.level = verdict.level;
  setIcon(verdict.level);
  say(byId("verdict-title"), verdict.title);
  say(byId("verdict-text"), verdict.text);
  document.title = verdict.level === "bad" || verdict === LOST ? `${verdict.title} \u00b7 sitio` : "sitio";
  byId("first").hidden = total.hits > 0 || verdict.level === "bad" || !state.about.address;
  if (!total.hits) say(byId("curl"), `curl -i ${state.about.address}/`);
  const some = Boolean(seen?.hits);
  for (const name of ["upstreamStatuses", "statuses"]) {
    const good = some ? Math.max(0, 1 - (seen[name][4] + seen.broken) / seen.hits) : 0;
    say(byId(`${name}-share`), some ? asPercent(good) : NONE);
    byId(`${name}-meter`).style.width = `${good * 100}%`;
    byId(`${name}-meter`).parentElement.toggleAttribute("data-some", some);
  }
}

// The rest of the page.

function drawFigure(id, [number, unit]) {
  const element = byId(id);
  if (!element.firstElementChild) element.replaceChildren(make("span"), make("span", "unit"));
  say(element.firstChild, number);
  say(element.lastChild, unit);
}

function drawMetrics() {
  const { latencyBounds, ownBounds } = state;
  const now = lately(MOMENT);
  const time = (share) => timeParts(now && quantile(latencyBounds, now.latency, share));
  drawFigure("rate", [now ? asRate(now.hits / now.seconds) : NONE, ""]);
  for (const [id, share] of LINES) drawFigure(id, time(share));
  drawFigure("own", timeParts(now && quantile(ownBounds, now.own, 0.5)));
  drawFigure("bytes", now ? byteParts(now.bytesOut / now.seconds) : [NONE, ""]);
}

function fillLegend(id, items) {
  arrange(byId(id), items, (item) => item.name, (item) => {
    const swatch = make("span", `swatch ${item.kind ?? ""}`);
    swatch.style.color = `var(--${item.colour})`;
    return make("li", "", {}, swatch, make("span", "", {}, item.name), make("b"));
  }, (element, item) => say(element.lastChild, item.value));
}

/** The charts, with what the cursor points at in their legends. */
function drawCharts() {
  const { points, last, cursor } = state;
  if (!last || points.length === 0) return;
  const { latencyBounds } = state;
  const newest = points.length - 1;
  const at = cursor === null ? newest : indexAt(points, points[newest].at - cursor);
  const seen = recently(points, at, cursor === null ? MOMENT : 1);
  const smooth = recently(points, at, MOMENT);
  const ago = cursor === null ? "last 10 s" : `${asSpan(cursor)} ago`;
  const legend = CLASSES.slice(1).map((name) => ({
    name: `${name}xx`,
    colour: `c${name}`,
    kind: name === 5 ? "hatched" : "",
    value: seen ? asRate(Math.max(0, seen.upstreamStatuses[name - 1]) / seen.seconds) : NONE,
  }));
  if (sum(Object.values(last.sums.masked))) {
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
    const told = items.map((item) => `${item.name} ${item.value}`);
    canvas.setAttribute("aria-valuetext", `${ago}: ${told.join(", ")}`);
  }
  traffic.draw(points, cursor, colours);
  latency.draw(points, latencyBounds, cursor, colours);
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
  times.classList.toggle("theirs", failure.theirs);
  masked.hidden = !failure.masked;
  say(route, plain(`${routes.slice(0, more ? 2 : 3).join(", ")}${more}`));
  say(ago, asAgo(state.last.now - failure.at));
}

function drawFailures() {
  // In the order in which they first came: what goes on does not move.
  const shown = [...state.failures.values()].reverse();
  arrange(byId("failure-list"), shown, (each) => each.sentence, makeFailure, fillFailure);
  byId("no-failures").hidden = shown.length > 0;
  const total = state.last.sums;
  const failed = failuresIn(total.upstreamStatuses);
  const masked = asCount(sum(Object.values(total.masked)));
  say(byId("failures-when"), failed ? `${asCount(failed)} since the start, ${masked} masked` : "");
}

function drawService(event) {
  const { pool, poolCounts: counts, clients, sums, inFlight, trouble } = event;
  const facts = [
    ["Connections", pool.open ? `${pool.open - pool.idle} of ${pool.open} busy` : "none open", false],
    ["Waiting for one", asCount(pool.waiting), pool.waiting > 0],
    ["Clients connected", asCount(clients), false],
    ["Under way", asCount(inFlight), false],
    ["Opened so far", asCount(counts.opened), false],
    ["Failed to open", asCount(counts.failed), false],
    ["Had to wait", asCount(counts.waited), false],
    ["Mean wait", asTime(counts.waited ? counts.waitedSeconds / counts.waited : null), false],
  ];
  const makeFact = ([name]) => make("div", "", {}, make("dt", "", {}, name), make("dd"));
  arrange(byId("connections"), facts, ([name]) => name, makeFact, ({ lastChild }, [, value, bad]) => {
    say(lastChild, value);
    lastChild.classList.toggle("bad", bad);
  });
  const statuses = Object.entries(sums.upstreamStatuses).sort(([one], [two]) => one.localeCompare(two));
  const makeStatus = ([name]) => make("li", "", {}, makeCode(name), make("span"));
  arrange(byId("statuses"), statuses, ([name]) => name, makeStatus, ({ lastChild }, [name, times]) => {
    const masked = sums.masked[name] ?? 0;
    const some = masked === times ? ", masked" : `, ${asCount(masked)} masked`;
    say(lastChild, `${asCount(times)}${masked ? some : ""}`);
  });
  const where = state.about.upstream ?? "the photo site that comes with sitio";
  say(byId("upstream-when"), trouble ? asSentence(trouble) : where);
  byId("upstream-when").classList.toggle("trouble", trouble !== null);
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

/** As often as the screen is, and once when a page is seen again that was hidden. */
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
  const { sums } = last;
  drawVerdict(sums);
  drawMetrics();
  drawCharts();
  drawFailures();
  drawService(last);
  drawPolicies(last.policies);
  drawWorkers(last.workers);
  endpoints.draw();
  exchanges.draw();
  say(byId("whose"), state.about.name ?? location.host);
  byId("state").hidden = last.state === "serving";
  say(byId("state"), last.state);
  const version = state.about.version ? `sitio ${state.about.version}` : "sitio";
  say(byId("since"), `${version}, ${plural(sums.hits, "request")} in ${asSpan(sums.uptime)}.`);
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

/** EventSource gives up where it is refused, and never sees that a network has gone. */
function watch() {
  if (hiddenAt !== null && Date.now() - hiddenAt > WINDOW * 1000) {
    // Nobody looks: sitio need not count for us.
    source?.close();
    source = null;
  } else if (source && Date.now() - heardAt > SILENCE) {
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
    return value; // A browser that keeps nothing: the choice lasts as long as the page.
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
