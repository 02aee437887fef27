"""Charts as inline SVG: a few kilobytes each, coloured by the page's own variables, so that they follow dark mode."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from .axis import Axis, Ruler, short

WIDTH, HEIGHT = 460.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 12.0, 44.0
COLOURS, SHAPES = 7, 6  # of the page's style sheet, of `mark`


@dataclass
class Line:
    """Points of one name.

    Args:
        name: in the legend.
        points: (x, y).
        style: number of its colour and mark; lines of one style differ by `dashed`.
        said: what each point says when it is pointed at; default: its numbers.
        labels: beside each point, short.
        joined: by a line.
        marked: with a mark at each point.
        dashed: the line.
    """

    name: str
    points: list[tuple[float, float]]
    style: int = 0
    said: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    joined: bool = True
    marked: bool = True
    dashed: bool = False


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], rules: Sequence[tuple[float, str]] = ()) -> Markup:
    """A chart with its legend.

    Args:
        title: read out in place of the picture.
        x: the axis across.
        y: the axis up.
        lines: what is drawn.
        rules: vertical lines (x, name) of what has no y.
    """
    across = x.fit([p[0] for line in lines for p in line.points] + [at for at, _ in rules], LEFT, WIDTH - RIGHT)
    up = y.fit([p[1] for line in lines for p in line.points], HEIGHT - BOTTOM, TOP)
    body = [grid(across, up), titles(x.title, y.title)]
    body += [rule(across.at(at) or LEFT, name, i % 5) for i, (at, name) in enumerate(rules)]
    body += [drawn(line, across, up) for line in lines]
    svg = Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(body)
    )
    return svg + legend(lines)


def text(x: float, y: float, said: str, anchor: str = "start", turn: str = "") -> Markup:
    """Words in the picture."""
    turned = Markup(' transform="{}"').format(turn) if turn else ""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(x, y, anchor, turned, said)


def grid(across: Ruler, up: Ruler) -> Markup:
    """Ticks, their lines, and the axes."""
    bottom, right, made = HEIGHT - BOTTOM, WIDTH - RIGHT, []
    for tick in up.ticks:
        at = up.at(tick) or 0.0
        made += [Markup('<path class="grid" d="M{:g} {:.1f}H{:g}"/>').format(LEFT, at, right)]
        made += [text(LEFT - 6, at + 4, short(tick), "end")]
    for tick in across.ticks:
        at = across.at(tick) or 0.0
        made += [Markup('<path class="grid" d="M{:.1f} {:g}V{:g}"/>').format(at, TOP, bottom)]
        made += [text(at, bottom + 16, short(tick), "middle")]
    made.append(Markup('<path class="axis" d="M{:g} {:g}V{:g}H{:g}"/>').format(LEFT, TOP, bottom, right))
    return Markup("").join(made)


def titles(x: str, y: str) -> Markup:
    """What the axes are, with units."""
    across, up = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    return text(across, HEIGHT - 8, x, "middle") + text(14.0, up, y, "middle", f"rotate(-90 14 {up})")


def rule(at: float, name: str, row: int) -> Markup:
    """A vertical line of what has a place across alone; its name stands on the side that has room, in its own row."""
    left = at > WIDTH * 0.6
    line = Markup('<path d="M{:.1f} {:g}V{:g}"/>').format(at, TOP, HEIGHT - BOTTOM)
    said = text(at + (-5 if left else 5), TOP + 14 + 15 * row, name, "end" if left else "start")
    return Markup('<g class="rule">{}{}</g>').format(line, said)


def drawn(line: Line, across: Ruler, up: Ruler) -> Markup:
    """A line with its marks; points without a place are left out."""
    places = [(across.at(x), up.at(y)) for x, y in line.points]
    inside = [(i, x, y) for i, (x, y) in enumerate(places) if x is not None and y is not None]
    made = []
    if line.joined and len(inside) > 1:
        way = "L".join(f"{x:.1f} {y:.1f}" for _, x, y in inside)
        made.append(Markup('<path class="line{}" d="M{}"/>').format(" dashed" if line.dashed else "", way))
    for i, x, y in inside if line.marked else []:
        a, b = line.points[i]
        said = line.said[i] if line.said else f"{line.name}: {short(a)}, {short(b)}"
        made.append(Markup('<g class="dot"><title>{}</title>{}</g>').format(said, mark(line.style, x, y)))
        if line.labels and line.labels[i]:
            made.append(text(x + 7, y - 5, line.labels[i]))
    return Markup('<g class="c{}">{}</g>').format(line.style % COLOURS, Markup("").join(made))


def mark(style: int, x: float, y: float, r: float = 4.0) -> Markup:
    """A mark of its own shape: circle, square, triangle, diamond, the triangle upside down, cross."""
    if style % SHAPES == 0:
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(x, y, r)
    ways: dict[int, list[tuple[float, float]]] = {
        1: [(-1, -1), (1, -1), (1, 1), (-1, 1)],
        2: [(0, -1.3), (1.2, 0.9), (-1.2, 0.9)],
        3: [(0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)],
        4: [(0, 1.3), (1.2, -0.9), (-1.2, -0.9)],
        5: [(-0.4, -1.3), (0.4, -1.3), (0.4, -0.4), (1.3, -0.4), (1.3, 0.4), (0.4, 0.4), (0.4, 1.3), (-0.4, 1.3),
            (-0.4, 0.4), (-1.3, 0.4), (-1.3, -0.4), (-0.4, -0.4)],
    }  # fmt: skip
    corners = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in ways[style % SHAPES])
    return Markup('<polygon points="{}"/>').format(corners)


def legend(lines: Sequence[Line]) -> Markup:
    """Names beside their marks."""
    made = []
    for line in lines:
        stroke = Markup('<path class="line{}" d="M1 7H27"/>').format(" dashed" if line.dashed else "")
        swatch = (stroke if line.joined else Markup("")) + (mark(line.style, 14.0, 7.0) if line.marked else Markup(""))
        made.append(
            Markup('<li><svg class="key c{}" viewBox="0 0 28 14" aria-hidden="true">{}</svg>{}</li>').format(
                line.style % COLOURS, swatch, escape(line.name)
            )
        )
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(made))
