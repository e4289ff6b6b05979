"""
Draws the chart for the README: CPU time of each proxy in four scenarios, as SVG.
"""

from __future__ import annotations

from html import escape

from attrs import frozen

from bench.proxies import PROXIES
from bench.runner import Run

#: The size of the picture, in pixels; readers see it at about this size.
WIDTH = 968
MARGIN = 28
TOP = 84
ROW = 26
GAP = 44

#: A bar that is longer than sitio's, and more than the first multiple of the next one, is
#: cut to the second multiple of that, so that the other bars stay readable.
OUTLIER = 2.2
CUT = 1.6

# Each colour is in two rules, not in a variable: some viewers draw variables black.
STYLE = """
  text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
  text { fill: #24292f; }
  .head { font-weight: 650; font-size: 18px; }
  .name { font-weight: 650; font-size: 15px; }
  .note { font-size: 12.5px; fill: #5f6670; }
  .ours { font-weight: 650; }
  .end { text-anchor: end; }
  .card { fill: #fbfaf7; stroke: #d6d0c4; }
  .bar { fill: #b9b2a4; }
  .mine { fill: #1f6f5c; }
  .cut { fill: #fbfaf7; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6e8ea; }
    .note { fill: #a4acb5; }
    .card { fill: #16191e; stroke: #3d444d; }
    .bar { fill: #596270; }
    .mine { fill: #58c4a7; }
    .cut { fill: #16191e; }
  }
"""


@frozen
class Panel:
    """One scenario: the CPU time of each request."""

    scenario: str
    title: str

    def bars(self, run: Run) -> list[tuple[str, bool, float]]:
        """Title, whether it is sitio, and value of each proxy, the smallest first."""
        found = []
        for each in PROXIES:
            value = run.metric(self.scenario, each.name, "cpu")
            if value is not None:
                found.append((each.titleOf(self.scenario), each.name.startswith("sitio"), value))
        return sorted(found, key=lambda bar: bar[2])


PANELS = (
    Panel("varied", "Varied traffic, each request"),
    Panel("acts", "A policy that acts, each request"),
    Panel("closing", "A new connection for each request"),
    Panel("tls", "TLS in front, kept alive, each request"),
)


def _scale(bars: list[tuple[str, bool, float]]) -> float:
    """The value of the longest bar that is not cut, or to which bars are cut."""
    values = [value for _, _, value in bars]
    ours = max((value for _, mine, value in bars if mine), default=0.0)
    last = len(values) - 1
    while last and values[last] > max(ours, OUTLIER * values[last - 1]):
        last -= 1
    return values[last] if last == len(values) - 1 else values[last] * CUT


def _panel(panel: Panel, bars: list[tuple[str, bool, float]], x: float, y: float) -> list[str]:
    width = (WIDTH - 2 * MARGIN - GAP) / 2
    names, room = 158, 62
    longest = width - names - room
    most = _scale(bars)
    parts = [f'<text class="name" x="{x:g}" y="{y:g}">{escape(panel.title)}</text>']
    for number, (title, mine, value) in enumerate(bars):
        top = y + 14 + number * ROW
        middle = top + ROW / 2 + 1
        length = longest * min(1.0, value / most)
        ours = " ours" if mine else ""
        kind = "bar mine" if mine else "bar"
        start = x + names
        parts.append(
            f'<text class="end{ours}" x="{start - 8:g}" y="{middle + 4:g}">{escape(title)}</text>'
            f'<rect class="{kind}" x="{start:g}" y="{top + 4:.1f}" width="{length:.1f}"'
            f' height="{ROW - 8}" rx="3"/>'
        )
        if value > most:
            at = start + length - 22
            parts.append(
                f'<path class="cut" d="M{at:.1f} {top + 3:.1f}h5l-6 {ROW - 6}h-5z'
                f'M{at + 9:.1f} {top + 3:.1f}h5l-6 {ROW - 6}h-5z"/>'
            )
        parts.append(
            f'<text class="{ours.strip()}" x="{start + length + 7:.1f}" y="{middle + 4:g}">'
            f"{value:.0f} µs</text>"
        )
    return parts


def draw(run: Run) -> str:
    """The chart of a run; without panels that were not measured."""
    panels = [(panel, bars) for panel in PANELS if (bars := panel.bars(run))]
    lines = [panels[start : start + 2] for start in range(0, len(panels), 2)]
    heights = [max(len(bars) for _, bars in line) * ROW + 52 for line in lines]
    total = TOP + sum(heights) + 10
    about = run.about
    note = (
        "One core, the proxy's processes and the kernel together; rounds:"
        f" {about['rounds']}; {about['processor']}; {str(about['date'])[:10]}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" width="{WIDTH}"'
        f' height="{total}" role="img" aria-labelledby="title what">',
        '<title id="title">CPU time of sitio and of other proxies</title>',
        f'<desc id="what">{escape(_inWords(panels))}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{total - 1}" rx="14"/>',
        f'<text class="head" x="{MARGIN}" y="36">CPU time: less is better</text>',
        f'<text class="note" x="{MARGIN}" y="58">{escape(note)}</text>',
    ]
    y = TOP + 16
    for line, height in zip(lines, heights):
        for number, (panel, bars) in enumerate(line):
            x = MARGIN + number * (WIDTH - 2 * MARGIN + GAP) / 2
            parts += _panel(panel, bars, x, y)
        y += height
    return "\n".join([*parts, "</svg>", ""])


def _inWords(panels: list[tuple[Panel, list[tuple[str, bool, float]]]]) -> str:
    return " ".join(
        f"{panel.title}: " + ", ".join(f"{title} {value:.3g} µs" for title, _, value in bars) + "."
        for panel, bars in panels
    )
