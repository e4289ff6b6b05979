// Upstreams and their endpoints.

/** The states of an endpoint, the best first, with the class of their colour. */
const STATES = { healthy: "good", warming: "warn", draining: "none", unhealthy: "bad", ejected: "bad" };

/** The states as a text: "ejected", or "ejected in 1 of 3" if processes differ. */
function asStates(states) {
  const seen = Object.keys(STATES).filter((name) => states[name]).reverse();
  const all = sum(Object.values(states));
  const texts = seen.map((name) => (states[name] === all ? name : `${name} in ${states[name]} of ${all}`));
  return { texts, level: STATES[seen[0]] ?? "none" };
}

function makeUpstreamEndpoint() {
  const row = makeRow({
    name: "",
    state: "",
    outstanding: "number",
    sent: "number",
    mean: "number",
    failed: "number",
    ejections: "number",
  });
  const { name, state, sent } = row.cells_;
  name.append(make("span", "route"), make("small"));
  state.append(make("span", "state"), make("small"));
  sent.append(make("span"), make("small"));
  return row;
}

function fillUpstreamEndpoint({ cells_: cells }, row) {
  const { texts, level } = asStates(row.states);
  const [address, upstream] = cells.name.children;
  const [state, why] = cells.state.children;
  const [sent, share] = cells.sent.children;
  say(address, plain(row.address));
  address.title = row.address;
  say(upstream, row.weight === 1 ? row.upstream : `${row.upstream}, weight ${row.weight}`);
  say(state, texts.join(", "));
  state.dataset.level = level;
  // What went wrong is of interest while it is wrong.
  say(why, level === "bad" ? plain(row.lastFailure) : "");
  why.title = why.textContent;
  say(cells.outstanding, asCount(row.outstanding));
  say(sent, asCount(row.sent));
  say(share, row.share === null ? "" : ` ${Math.round(100 * row.share)} %`);
  say(cells.mean, asTime(row.answered ? row.seconds / row.answered : null));
  for (const name of ["failed", "ejections"]) {
    say(cells[name], row[name] ? asCount(row[name]) : NONE);
    cells[name].className = row[name] ? "number bad" : "number none";
  }
}

class Upstreams {
  constructor() {
    // Requests of each endpoint in the events of the last seconds, for the shares.
    this.events = [];
  }

  /** Remember how many requests each endpoint has got. */
  take(event) {
    if (event.full) this.events = [];
    const sent = new Map();
    for (const { name, endpoints } of event.upstreams) {
      for (const each of endpoints) sent.set(`${name} ${each.address}`, each.sent);
    }
    this.events.push(sent);
    this.events.splice(0, this.events.length - SHARE_EVENTS);
  }

  draw(upstreams) {
    byId("upstreams").hidden = upstreams.length === 0;
    const before = this.events[0] ?? new Map();
    const rows = upstreams.flatMap(({ name, endpoints }) => {
      const some = endpoints.map((each) => {
        const key = `${name} ${each.address}`;
        return { ...each, key, upstream: name, now: Math.max(0, each.sent - (before.get(key) ?? each.sent)) };
      });
      const all = sum(some.map((each) => each.now));
      return some.map((each) => ({ ...each, share: all ? each.now / all : null }));
    });
    arrange(byId("upstream-endpoints").tBodies[0], rows, (row) => row.key, makeUpstreamEndpoint, fillUpstreamEndpoint);
    const left = sum(upstreams.map(({ count, endpoints }) => count - endpoints.length));
    const usable = sum(upstreams.map((each) => each.usable));
    const all = sum(upstreams.map((each) => each.count));
    const problems = upstreams.map((each) => each.problem).filter(Boolean);
    const more = left ? `; ${asCount(left)} more are not shown` : "";
    const text = `${asCount(usable)} of ${asCount(all)} endpoints get requests${more}`;
    say(byId("upstreams-when"), problems.length ? asSentence(problems[0]) : text);
    byId("upstreams-when").classList.toggle("problem", problems.length > 0 || usable < all);
  }
}

/** Events over which shares are counted: some ten seconds. */
const SHARE_EVENTS = 11;
