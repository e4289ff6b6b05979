// The two charts, on canvas.  Both show the last five minutes, with now at the right, and
// share one cursor.

const CLASSES = [1, 2, 3, 4, 5];

/** The order of the bars from the middle line outwards: failures are outermost. */
const STACK = [1, 0, 2, 3, 4];

/** Pixels at the left of a chart, for the numbers of its axis. */
const LEFT = 50;

/** Seconds of one column of the heatmap. */
const COLUMN = 5;

/** The horizontal lines of the heatmap; each is a bound of one of its rows. */
const TIMES = [[0.001, "1 ms"], [0.01, "10 ms"], [0.1, "100 ms"], [1, "1 s"], [10, "10 s"]];

/** Name, share, colour and dashes, which differ for readers who do not see colours. */
const LINES = [
  ["p50", 0.5, "line50", []],
  ["p95", 0.95, "line95", [6, 3]],
  ["p99", 0.99, "line99", [2, 2]],
];

const COLOURS = ["card", "edge", "ink", "faint", "heat", "c1", "c2", "c3", "c4", "c5",
  "line50", "line95", "line99"];

/** The current colours of the style sheet. */
function palette() {
  const probe = document.createElement("i");
  document.body.append(probe);
  const colours = {};
  for (const name of COLOURS) {
    probe.style.color = `var(--${name})`;
    colours[name] = getComputedStyle(probe).color;
  }
  probe.remove();
  colours.hatched = hatched(colours.c5, colours.card);
  return colours;
}

/** A striped pattern for failures, as many people can't tell red from green. */
function hatched(ground, stripe) {
  const tile = Object.assign(document.createElement("canvas"), { width: 6, height: 6 });
  const context = tile.getContext("2d");
  context.fillStyle = ground;
  context.fillRect(0, 0, 6, 6);
  context.strokeStyle = stripe;
  context.globalAlpha = 0.6;
  context.lineWidth = 1.6;
  for (const x of [-6, 0, 6]) {
    context.moveTo(x - 1, 7);
    context.lineTo(x + 7, -1);
  }
  context.stroke();
  return context.createPattern(tile, "repeat");
}

/** A canvas with a time axis, at the resolution of the screen. */
class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.left = LEFT;
    this.context = canvas.getContext("2d");
    this.width = this.height = 0;
  }

  /** Fit the canvas to its element; false if that is hidden. */
  begin() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth) return false;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(clientWidth * scale), Math.round(clientHeight * scale)];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      Object.assign(this.canvas, { width, height });
    }
    [this.width, this.height] = [clientWidth, clientHeight];
    this.context.setTransform(scale, 0, 0, scale, 0, 0);
    this.context.clearRect(0, 0, clientWidth, clientHeight);
    this.context.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    return true;
  }

  /** The x coordinate of a time that many seconds ago. */
  x(age) {
    return this.width - ((this.width - this.left) * age) / WINDOW;
  }

  /** How many seconds ago an x coordinate is. */
  age(x) {
    const age = ((this.width - x) * WINDOW) / (this.width - this.left);
    return Math.max(0, Math.min(WINDOW, age));
  }

  text(text, x, y, colour, align = "left") {
    this.context.textAlign = align;
    this.context.textBaseline = "middle";
    this.context.fillStyle = colour;
    this.context.fillText(text, x, y);
  }

  rule(y, colour) {
    this.context.fillStyle = colour;
    this.context.fillRect(this.left, Math.round(y), this.width - this.left, 1);
  }

  /** The labels below the chart. */
  minutes(colour) {
    const y = this.height - 8;
    for (const minute of [4, 3, 2, 1]) this.text(`${minute} min`, this.x(minute * 60), y, colour, "center");
    this.text("now", this.width, y, colour, "right");
  }

  cursor(age, bottom, colour) {
    if (age === null) return;
    this.context.fillStyle = colour;
    this.context.fillRect(Math.min(this.width - 1, Math.round(this.x(age))), 0, 1, bottom);
  }
}

/** Requests a second: upstream statuses upwards, sent statuses downwards. */
class Traffic extends Chart {
  draw(points, cursor, colours) {
    if (!this.begin()) return;
    const bottom = this.height - 20;
    const middle = Math.round(bottom / 2);
    const last = points[points.length - 1];
    const steps = points.slice(1).map((point, index) => between(points[index], point));
    const most = nice(Math.max(1, ...steps.map((step) => step.hits / step.seconds)));
    const scale = (middle - 16) / most;
    for (const share of [1, 0.5]) {
      for (const side of [-1, 1]) {
        const y = middle + side * most * share * scale;
        this.rule(y, colours.edge);
        if (share === 1) this.text(whole.format(most), this.left - 8, y, colours.faint, "right");
      }
    }
    steps.forEach((step, index) => this.bar(step, last.at - points[index + 1].at, middle, scale, colours));
    this.context.fillStyle = colours.faint;
    this.context.fillRect(this.left, middle, this.width - this.left, 1);
    this.text("0", this.left - 8, middle, colours.faint, "right");
    this.label("what the service answered", 8, colours);
    this.label("what clients got", bottom - 6, colours);
    this.minutes(colours.faint);
    this.cursor(cursor, bottom, colours.ink);
  }

  label(text, y, colours) {
    const width = this.context.measureText(text).width;
    this.context.fillStyle = colours.card;
    this.context.globalAlpha = 0.8;
    this.context.fillRect(this.left, y - 7, width + 8, 14);
    this.context.globalAlpha = 1;
    this.text(text, this.left + 4, y, colours.faint);
  }

  bar(step, age, middle, scale, colours) {
    // Whole pixels: blurred edges would look like gaps.
    const right = Math.round(this.x(age));
    const left = Math.max(this.left, Math.round(this.x(age + step.seconds)));
    if (right < left) return;
    // Pale: an average over a time in which no page was open.
    this.context.globalAlpha = step.seconds > GAP ? 0.3 : 1;
    const width = Math.max(1, right - left);
    for (const [counts, side] of [[step.upstreamStatuses, -1], [step.statuses, 1]]) {
      let y = middle + (side > 0 ? 1 : 0);
      for (const place of STACK) {
        // A single failure among thousands stays visible.
        const height = counts[place] && Math.max(place === 4 ? 2 : 0, (counts[place] / step.seconds) * scale);
        if (!height) continue;
        this.context.fillStyle = place === 4 ? colours.hatched : colours[`c${place + 1}`];
        this.context.fillRect(left, side < 0 ? y - height : y, width, height);
        y += side * height;
      }
    }
    this.context.globalAlpha = 1;
  }
}

/** Latency: a heatmap with a column for each five seconds, and lines for quantiles. */
class Latency extends Chart {
  /** fine are the bounds of the points' histograms, bounds those of the rows. */
  draw(points, fine, bounds, cursor, colours) {
    if (!this.begin()) return;
    const bottom = this.height - 20;
    const rows = bounds.length + 1;
    const row = (bottom - 4) / rows;
    const top = (index) => bottom - (index + 1) * row;
    for (const [second, name] of TIMES) {
      const y = bottom - (bounds.indexOf(second) + 1) * row;
      this.rule(y, colours.edge);
      this.text(name, this.left - 8, y, colours.faint, "right");
    }
    this.cells(points, fine, bounds, row, top, colours);
    this.lines(points, fine, bounds, bottom, row, colours);
    this.minutes(colours.faint);
    this.cursor(cursor, bottom, colours.ink);
  }

  cells(points, fine, bounds, row, top, colours) {
    const last = points[points.length - 1];
    const columns = new Map();
    for (let index = 1; index < points.length; index += 1) {
      if (points[index].at - points[index - 1].at > GAP) continue;
      const key = Math.ceil(points[index].at / COLUMN);
      const counts = minus(points[index].latency, points[index - 1].latency);
      columns.set(key, columns.has(key) ? counts.map((count, at) => count + columns.get(key)[at]) : counts);
    }
    for (const [key, counts] of columns) columns.set(key, regroup(fine, counts, bounds));
    const most = Math.max(1, ...[...columns.values()].flat());
    this.context.fillStyle = colours.heat;
    for (const [key, counts] of columns) {
      const right = Math.min(this.width, this.x(last.at - key * COLUMN));
      const left = Math.max(this.left, this.x(last.at - (key - 1) * COLUMN));
      counts.forEach((count, index) => {
        if (!count || right <= left) return;
        this.context.globalAlpha = 0.14 + 0.86 * Math.sqrt(count / most);
        this.context.fillRect(left + 0.5, top(index) + 0.5, Math.max(0.5, right - left - 1), row - 1);
      });
    }
    this.context.globalAlpha = 1;
  }

  lines(points, fine, bounds, bottom, row, colours) {
    const last = points[points.length - 1];
    const height = (seconds) => {
      const index = bounds.findIndex((bound) => seconds <= bound);
      if (index < 0) return bottom - (bounds.length + 0.5) * row;
      // The axis is logarithmic, also within a row.
      const low = index ? bounds[index - 1] : bounds[0] / 2;
      const share = Math.log(Math.max(seconds, low) / low) / Math.log(bounds[index] / low);
      return bottom - (index + share) * row;
    };
    const known = points.map((_, index) => recently(points, index, MOMENT));
    this.context.lineJoin = "round";
    for (const [, share, colour, dashes] of LINES) {
      this.context.beginPath();
      let drawing = false;
      points.forEach((point, index) => {
        const value = known[index] && known[index].seconds < 2 * MOMENT
          ? quantile(fine, known[index].latency, share) : null;
        if (value === null || last.at - point.at > WINDOW) { drawing = false; return; }
        if (point.at - points[index - 1].at > GAP) drawing = false;
        const [x, y] = [this.x(last.at - point.at), height(value)];
        if (drawing) this.context.lineTo(x, y); else this.context.moveTo(x, y);
        drawing = true;
      });
      for (const [width, style] of [[4, colours.card], [1.8, colours[colour]]]) {
        this.context.lineWidth = width;
        this.context.strokeStyle = style;
        this.context.globalAlpha = width > 2 ? 0.55 : 1;
        this.context.setLineDash(width > 2 ? [] : dashes);
        this.context.stroke();
      }
      this.context.setLineDash([]);
      this.context.globalAlpha = 1;
    }
  }
}

/** Have pointer and keys move the cursor: calls moved(age), or moved(null) when it leaves. */
function followCursor(chart, moved) {
  const { canvas } = chart;
  let age = null;
  const set = (value) => { age = value; moved(value); };
  canvas.addEventListener("pointermove", (event) => set(chart.age(event.offsetX)));
  canvas.addEventListener("pointerleave", () => set(null));
  canvas.addEventListener("blur", () => set(null));
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: 5, ArrowRight: -5, PageUp: 60, PageDown: -60 }[event.key];
    if (step) set(Math.max(0, Math.min(WINDOW, (age ?? 0) + step)));
    else if (event.key === "Home") set(WINDOW);
    else if (event.key === "End") set(0);
    else if (event.key === "Escape") set(null);
    else return;
    event.preventDefault();
  });
}
