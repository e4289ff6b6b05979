// Tables and lists.  Text from clients is only ever set as textContent.

const byId = (id) => document.getElementById(id);

/** Set a text only if it differs: otherwise selections end, and screen readers read it again. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** An element with a class, attributes and children, which are nodes or text. */
function make(tag, name = "", attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/**
 * Give an element one child for each item, in order.  Children are kept by key, and are
 * moved only when out of place, so that focus and selection stay.
 */
function arrange(parent, items, keyOf, create, fill) {
  const old = parent.children_ ?? new Map();
  const kept = new Map();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    const child = old.get(key) ?? create(item);
    fill(child, item);
    kept.set(key, child);
    old.delete(key);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
  }
  for (const child of old.values()) child.remove();
  parent.children_ = kept;
}

/** A row of a table with a cell for each name; row.cells_ has them by name. */
function makeRow(names) {
  const row = make("tr", "", { role: "row" });
  row.cells_ = {};
  for (const [name, style] of Object.entries(names)) {
    row.cells_[name] = make("td", style, { role: "cell", "data-cell": name });
    row.append(row.cells_[name]);
  }
  return row;
}

/** A status, coloured by its class. */
function fillCode(element, status) {
  say(element, String(status ?? NONE));
  element.dataset.class = String(status ?? "")[0] ?? "";
  return element;
}

const makeCode = (status) => fillCode(make("span", "code"), status);

/** A text from a client, with invisible and direction-changing characters escaped. */
const plain = (text) =>
  text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (mark) => `\\u{${mark.codePointAt(0).toString(16)}}`);

/** Method and path.  The style sheet cuts a long path; its title has it whole. */
function fillRoute(element, method, route) {
  if (!element.firstChild) element.append(make("span", "method"), make("span"));
  const [first, second] = element.children;
  say(first, method ? `${method} ` : "");
  const text = plain(route);
  say(second, text);
  if (element.title !== text) element.title = text;
}

// Endpoints.

const SHOWN = 12;
const BARS = 60;
const SVG = "http://www.w3.org/2000/svg";

const SORTS = {
  name: (one, two) => one.route.localeCompare(two.route) || one.method.localeCompare(two.method),
  hits: (one, two) => one.hits + one.underWay - two.hits - two.underWay,
  median: (one, two) => (one.median ?? -1) - (two.median ?? -1),
  p95: (one, two) => (one.p95 ?? -1) - (two.p95 ?? -1),
  clientErrors: (one, two) => one.clientErrors - two.clientErrors,
  failures: (one, two) => one.failures - two.failures,
};

class Endpoints {
  constructor() {
    this.rows = new Map();
    this.sort = "hits";
    this.rising = false;
    this.all = false;
    this.body = byId("endpoints").tBodies[0];
    for (const head of document.querySelectorAll("#endpoints th[data-sort]")) {
      head.firstElementChild.addEventListener("click", () => this.sortBy(head.dataset.sort));
    }
    byId("find").addEventListener("input", () => this.draw());
    byId("more").addEventListener("click", () => {
      this.all = !this.all;
      this.draw();
    });
    this.mark();
  }

  sortBy(name) {
    this.rising = this.sort === name ? !this.rising : name === "name";
    this.sort = name;
    this.mark();
    this.draw();
  }

  mark() {
    for (const head of document.querySelectorAll("#endpoints th[data-sort]")) {
      if (head.dataset.sort !== this.sort) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.rising ? "ascending" : "descending");
    }
  }

  /** Take the endpoints of an event: all, or those that have changed. */
  take(event) {
    const changed = new Map();
    event.endpoints.forEach((metrics, index) => {
      const key = `${metrics.method} ${metrics.route}`;
      const failures = metrics.failed;
      const before = this.rows.get(key);
      const bars = event.full ? event.bars[index] : before ? before.bars : [];
      if (!event.full) bars.push([metrics.hits - (before?.hits ?? 0), failures - (before?.failures ?? 0)]);
      changed.set(key, {
        key, bars, failures,
        method: metrics.method,
        route: metrics.route,
        hits: metrics.hits,
        underWay: metrics.underWay,
        clientErrors: sum(Object.entries(metrics.upstreamStatuses).map(([name, times]) => (name[0] === "4" ? times : 0))),
        masked: sum(Object.values(metrics.masked)),
        median: metrics.median,
        p95: metrics.p95,
      });
    });
    if (event.full) {
      this.rows = changed;
      return;
    }
    for (const [method, route] of event.evicted) this.rows.delete(`${method} ${route}`);
    for (const [key, row] of this.rows) if (!changed.has(key)) row.bars.push([0, 0]);
    for (const [key, row] of changed) this.rows.set(key, row);
    for (const { bars } of this.rows.values()) bars.splice(0, Math.max(0, bars.length - BARS));
  }

  draw() {
    const sought = byId("find").value.trim().toLowerCase();
    const found = [...this.rows.values()].filter(
      (row) => !sought || `${row.method} ${row.route}`.toLowerCase().includes(sought));
    const compare = SORTS[this.sort];
    const sign = this.rising ? 1 : -1;
    found.sort((one, two) => sign * compare(one, two) || SORTS.name(one, two));
    const shown = this.all ? found : found.slice(0, SHOWN);
    arrange(this.body, shown, (row) => row.key, this.create, this.fill);
    byId("more").hidden = found.length <= SHOWN;
    say(byId("more"), this.all ? `Show the first ${SHOWN}` : `Show all ${found.length}`);
    byId("no-endpoints").hidden = found.length > 0;
    say(byId("no-endpoints"), this.rows.size ? "No endpoint matches." : "No requests yet.");
    say(byId("endpoints-when"), this.rows.size ? `${this.rows.size} since the start` : "");
  }

  create() {
    const row = makeRow({
      name: "route",
      bars: "bars",
      hits: "number",
      median: "number",
      p95: "number",
      clientErrors: "number clientErrors",
      failures: "number",
    });
    const drawing = document.createElementNS(SVG, "svg");
    drawing.setAttribute("viewBox", "0 0 120 20");
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    for (const name of ["all", "bad"]) {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("class", name);
      drawing.append(path);
    }
    row.cells_.bars.append(drawing);
    for (const name of ["hits", "failures"]) row.cells_[name].append(make("span"), make("small"));
    return row;
  }

  fill(element, row) {
    const { name, bars, hits, median, p95, clientErrors, failures } = element.cells_;
    fillRoute(name, row.method, row.route);
    const most = Math.max(4, ...row.bars.map(([times]) => times));
    const paths = ["", ""];
    row.bars.forEach((counts, index) => {
      const x = 120 - 2 * (row.bars.length - index) + 1;
      counts.forEach((count, kind) => {
        if (count > 0) paths[kind] += `M${x} 20V${(20 - Math.max(1.5, (count / most) * 19)).toFixed(1)}`;
      });
    });
    [...bars.firstChild.children].forEach((path, kind) => path.setAttribute("d", paths[kind]));
    say(hits.firstChild, asCount(row.hits));
    say(hits.lastChild, row.underWay ? ` ${asCount(row.underWay)} open` : "");
    say(median, asTime(row.median));
    say(p95, asTime(row.p95));
    clientErrors.classList.toggle("none", !row.clientErrors);
    say(clientErrors, row.clientErrors ? asCount(row.clientErrors) : NONE);
    failures.className = row.failures ? "number bad" : "number none";
    say(failures.firstChild, row.failures ? asCount(row.failures) : NONE);
    const masked = row.masked === row.failures ? " masked" : ` ${asCount(row.masked)} masked`;
    say(failures.lastChild, row.masked ? masked : "");
  }
}

// Exchanges.

/** Exchanges that are kept for the filter, and how many of them are shown. */
const KEPT = 400;
const LISTED = 50;

/** Seconds after which an open exchange is shown; quicker ones would flicker. */
const SHOW_OPEN_SECONDS = 1;

const classOf = (status) => (status === null ? 0 : Math.floor(status / 100));

/** Prepare the record of an exchange for the tables. */
function readExchange(record) {
  return {
    ...record,
    // The service was not asked: policies or sitio made the status.
    upstreamStatus: record.upstreamStatus ?? record.status,
    open: record.state !== "ended",
    text: [record.method, record.path, record.client, record.answeredBy, record.id, ...Object.values(record.labels), ...record.acted].join(" ").toLowerCase(),
    sentence: asSentence(record.why),
  };
}

/** With a capital letter and exactly one full stop. */
const asSentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1).replace(/\.+(?=[;,]|$)/g, "")}.`;

const timeOfDay = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

const STEPS = {
  policies: "Policies",
  connection: "Waiting for connection",
  upstream: "Service",
  transfer: "Transfer",
};

/** The details of one exchange: names and texts. */
function detailsOf(exchange) {
  const details = [["Id", exchange.id], ["Path", plain(exchange.path)], ["Client", exchange.client]];
  for (const [name, text] of Object.entries(STEPS)) {
    if (exchange.steps[name]) details.push([text, asTime(exchange.steps[name])]);
  }
  if (exchange.bytesIn) details.push(["Request body", asBytes(exchange.bytesIn)]);
  details.push(["Response body", asBytes(exchange.bytesOut)]);
  if (exchange.attempts > 1) details.push(["Attempts", String(exchange.attempts)]);
  for (const [name, text] of Object.entries(exchange.labels)) details.push([name, plain(text)]);
  if (exchange.acted.length) details.push(["Policies that acted", exchange.acted.join(", ")]);
  return details;
}

class Exchanges {
  constructor() {
    this.kept = [];
    this.open = [];
    // The exchanges that are shown, and the number of hits at that time.
    this.known = [];
    this.seen = 0;
    this.hits = 0;
    this.paused = false;
    this.opened = new Set();
    this.body = byId("last").tBodies[0];
    byId("filter").addEventListener("input", () => this.draw());
    byId("classes").addEventListener("change", () => this.draw());
    byId("pause").addEventListener("click", () => this.pause());
  }

  take(event) {
    const newest = event.recent.map(readExchange);
    this.kept = (event.full ? newest : [...newest, ...this.kept]).slice(0, KEPT);
    this.open = event.open.filter((each) => each.duration > SHOW_OPEN_SECONDS).map(readExchange);
    this.hits = event.totals.hits;
  }

  pause() {
    this.paused = !this.paused;
    if (!this.paused) this.opened.clear();
    byId("pause").setAttribute("aria-pressed", String(this.paused));
    this.draw();
  }

  /** Why the list is not updated now: a moving list is hard to read and to click. */
  holdReason(shown) {
    if (this.paused) return "paused";
    if (shown.some((each) => this.opened.has(each.key))) return "held while an exchange is open";
    return this.body.matches(":hover, :has(:focus-visible)") ? "held while you point at it" : "";
  }

  filter() {
    const sought = byId("filter").value.trim().toLowerCase();
    const kind = document.querySelector("#classes :checked").value;
    const fits = {
      "": () => true,
      failed: (exchange) => exchange.failed,
      masked: (exchange) => exchange.masked,
    }[kind] ?? ((exchange) => !exchange.brokeOff && [exchange.upstreamStatus, exchange.status].some((each) => classOf(each) === Number(kind)));
    return (exchange) => fits(exchange) && exchange.text.includes(sought);
  }

  draw() {
    const fits = this.filter();
    let found = this.known.filter(fits);
    const held = this.holdReason(found.slice(0, LISTED));
    if (!held) {
      this.known = [...this.open, ...this.kept];
      this.seen = this.hits;
      this.opened.clear();
      found = this.known.filter(fits);
    }
    const { known } = this;
    const shown = found.slice(0, LISTED);
    // An opened exchange has a second row, which never changes.
    const rows = shown.flatMap((each) =>
      (this.opened.has(each.key) ? [each, { key: `${each.key} more`, of: each }] : [each]));
    arrange(this.body, rows, (each) => each.key,
      (each) => (each.of ? this.createMore(each.of) : this.create(each)),
      (row, each) => each.of ?? this.fill(row, each));
    byId("no-exchanges").hidden = found.length > 0;
    const empty = known.length ? "No exchange matches the filter." : "No requests yet.";
    say(byId("no-exchanges"), empty);
    const missed = this.hits > this.seen ? `${asCount(this.hits - this.seen)} new` : "";
    const number = known.length ? `${shown.length} of the last ${known.length}` : "";
    const note = missed ? `${missed}, ${held}` : held;
    say(byId("exchanges-when"), held && !this.paused ? note : number);
    const resume = missed ? `Resume (${missed})` : "Resume";
    say(byId("pause"), this.paused ? resume : "Pause");
  }

  create(exchange) {
    const row = makeRow({
      time: "",
      request: "request",
      status: "",
      answeredBy: "by",
      took: "number",
      size: "number bytes",
      client: "client",
    });
    const button = make("button", "route", { type: "button" });
    button.addEventListener("click", () => {
      if (!this.opened.delete(exchange.key)) this.opened.add(exchange.key);
      this.draw();
    });
    row.cells_.request.append(button);
    const bar = make("span", "span", { "aria-hidden": "true" }, make("i"));
    row.cells_.took.append(make("span", "took", {}, make("span"), bar));
    return row;
  }

  /** Only the duration of an open exchange changes. */
  fill(row, exchange) {
    const { time, request, status, answeredBy, took, size, client } = row.cells_;
    const [text, bar] = took.firstChild.children;
    say(text, asTime(exchange.duration));
    request.firstChild.ariaExpanded = String(this.opened.has(exchange.key));
    if (row.filled_ === exchange) return;
    row.filled_ = exchange;
    row.classList.toggle("failed", exchange.failed);
    say(time, timeOfDay.format(exchange.began * 1000));
    fillRoute(request.firstChild, exchange.method, exchange.path);
    status.replaceChildren(...this.statuses(exchange));
    say(answeredBy, exchange.open ? exchange.state : (exchange.answeredBy ?? "").replace(/^policy /, ""));
    answeredBy.title = answeredBy.textContent;
    // Logarithmic, from 0.1 ms to 10 s.
    const share = Math.max(0.02, Math.min(1, Math.log10(Math.max(exchange.duration, 1e-4) * 1e4) / 5));
    bar.firstChild.style.width = `${(share * 100).toFixed(1)}%`;
    say(size, asBytes(exchange.bytesOut));
    say(client, exchange.client);
    client.title = exchange.client;
  }

  /** The upstream status, the sent status if it differs, and whether the response broke off. */
  statuses(exchange) {
    if (exchange.open) return [make("span", "code", {}, "open")];
    if (exchange.brokeOff) {
      const code = makeCode(exchange.status);
      code.dataset.class = "5";
      return [code, make("span", "brokeOff", {}, " broke off")];
    }
    if (exchange.upstreamStatus === exchange.status) return [makeCode(exchange.status)];
    const arrow = make("span", "", { "aria-hidden": "true" }, " \u2192 ");
    return [makeCode(exchange.upstreamStatus), arrow, make("span", "offscreen", {}, "sent as"), makeCode(exchange.status)];
  }

  createMore(exchange) {
    const details = detailsOf(exchange).map(([name, value]) =>
      make("div", "", {}, make("dt", "", {}, name), make("dd", "", {}, value)));
    const sentence = make("p", "sentence", {}, exchange.sentence);
    const cell = make("td", "", { role: "cell", colspan: "7" }, sentence, make("dl", "", {}, ...details));
    return make("tr", "detail", { role: "row" }, cell);
  }
}
