"""Charts as inline SVG: a few kilobytes each, coloured by the page's own variables, so that they follow dark mode."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from .axis import Axis, AxisScale, format_number

WIDTH, HEIGHT = 460.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 12.0, 44.0
NUM_COLOURS = 7  # colours of the style sheet
MARKER_CORNERS: list[list[tuple[float, float]]] = [
    [(-1, -1), (1, -1), (1, 1), (-1, 1)],
    [(0, -1.3), (1.2, 0.9), (-1.2, 0.9)],
    [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
    [(0, 1.3), (1.2, -0.9), (-1.2, -0.9)],
    [(-0.4, -1.3), (0.4, -1.3), (0.4, -0.4), (1.3, -0.4), (1.3, 0.4), (0.4, 0.4), (0.4, 1.3), (-0.4, 1.3), (-0.4, 0.4),
     (-1.3, 0.4), (-1.3, -0.4), (-0.4, -0.4)],
]  # fmt: skip


@dataclass
class Series:
    """Named series of points (x, y).

    Args:
        name: name in the legend.
        points: points (x, y).
        style: index of colour and marker; lines of one style differ by `dashed`.
        tooltips: tooltip of each point; default: its numbers.
        labels: short label next to each point.
        connected: connect the points by a line.
        markers: draw a marker at each point.
        dashed: draw a dashed line.
    """

    name: str
    points: list[tuple[float, float]]
    style: int = 0
    tooltips: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    connected: bool = True
    markers: bool = True
    dashed: bool = False

    @property
    def line_class(self) -> str:
        """Style class of the line."""
        return "line dashed" if self.dashed else "line"


def render_chart(
    title: str, x: Axis, y: Axis, series: Sequence[Series], vertical_lines: Sequence[tuple[float, str]] = ()
) -> Markup:
    """Chart with its legend.

    Args:
        title: text alternative for screen readers.
        x: horizontal axis.
        y: vertical axis.
        series: series to draw.
        vertical_lines: vertical lines (x, name) for values without y.
    """
    points = [point for line in series for point in line.points]
    across = x.fit([a for a, _ in points] + [a for a, _ in vertical_lines], LEFT, WIDTH - RIGHT)
    up = y.fit([b for _, b in points], HEIGHT - BOTTOM, TOP)
    parts = [render_grid(across, up), render_axis_titles(x.title, y.title)]
    parts += [
        render_vertical_line(across.position(a) or LEFT, name, i % 5) for i, (a, name) in enumerate(vertical_lines)
    ]
    parts += [render_series(line, across, up) for line in series]
    svg = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>')
    return svg.format(WIDTH, HEIGHT, title, Markup("").join(parts)) + render_legend(series)


def render_text(x: float, y: float, text: str, anchor: str = "start", transform: str = "") -> Markup:
    """Text element of the picture."""
    attribute = Markup(' transform="{}"').format(transform) if transform else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, attribute, text)


def render_grid(across: AxisScale, up: AxisScale) -> Markup:
    """Ticks, grid lines and axes."""
    bottom, right, parts = HEIGHT - BOTTOM, WIDTH - RIGHT, list[Markup]()
    for tick in up.ticks:
        y = up.position(tick) or 0.0
        parts.append(Markup('<path class="grid" d="M{:g} {:.1f}H{:g}"/>').format(LEFT, y, right))
        parts.append(render_text(LEFT - 6, y + 4, format_number(tick), "end"))
    for tick in across.ticks:
        x = across.position(tick) or 0.0
        parts.append(Markup('<path class="grid" d="M{:.1f} {:g}V{:g}"/>').format(x, TOP, bottom))
        parts.append(render_text(x, bottom + 16, format_number(tick), "middle"))
    parts.append(Markup('<path class="axis" d="M{:g} {:g}V{:g}H{:g}"/>').format(LEFT, TOP, bottom, right))
    return Markup("").join(parts)


def render_axis_titles(x: str, y: str) -> Markup:
    """Axis titles with units."""
    across, up = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return render_text(across, HEIGHT - 8, x, "middle") + render_text(14.0, up, y, "middle", f"rotate(-90 14 {up})")


def render_vertical_line(x: float, name: str, row: int) -> Markup:
    """Vertical line for a value without y, labelled in its own row on the side with room."""
    left = x > WIDTH * 0.6
    line = Markup('<path d="M{:.1f} {:g}V{:g}"/>').format(x, TOP, HEIGHT - BOTTOM)
    label = render_text(x + (-5 if left else 5), TOP + 14 + 15 * row, name, "end" if left else "start")
    return Markup('<g class="rule">{}{}</g>').format(line, label)


def render_series(line: Series, across: AxisScale, up: AxisScale) -> Markup:
    """Line with its markers; points without a position are omitted."""
    positions = [(across.position(x), up.position(y)) for x, y in line.points]
    visible = [(i, x, y) for i, (x, y) in enumerate(positions) if x is not None and y is not None]
    parts = []
    if line.connected and len(visible) > 1:
        path = "L".join(f"{x:.1f} {y:.1f}" for _, x, y in visible)
        parts.append(Markup('<path class="{}" d="M{}"/>').format(line.line_class, path))
    for i, x, y in visible if line.markers else []:
        a, b = line.points[i]
        tooltip = line.tooltips[i] if line.tooltips else f"{line.name}: {format_number(a)}, {format_number(b)}"
        parts.append(Markup('<g class="dot"><title>{}</title>{}</g>').format(tooltip, render_marker(line.style, x, y)))
        if line.labels and line.labels[i]:
            parts.append(render_text(x + 7, y - 5, line.labels[i]))
    return Markup('<g class="c{}">{}</g>').format(line.style % NUM_COLOURS, Markup("").join(parts))


def render_marker(style: int, x: float, y: float, r: float = 4.0) -> Markup:
    """Marker of a style: circle, square, triangle, diamond, inverted triangle, cross."""
    shape = style % (len(MARKER_CORNERS) + 1)
    if shape == 0:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, r)
    corners = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in MARKER_CORNERS[shape - 1])
    return Markup('<polygon points="{}"/>').format(corners)


def render_legend(series: Sequence[Series]) -> Markup:
    """Legend of series names with their markers."""
    item, items = Markup('<li><svg class="key c{}" viewBox="0 0 28 14" aria-hidden="true">{}{}</svg>{}</li>'), []
    for line in series:
        stroke = Markup('<path class="{}" d="M1 7H27"/>').format(line.line_class) if line.connected else ""
        marker = render_marker(line.style, 14.0, 7.0) if line.markers else ""
        items.append(item.format(line.style % NUM_COLOURS, stroke, marker, line.name))
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(items))
