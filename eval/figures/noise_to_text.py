"""README's picture: one text of a run while it is sampled, each token on the colour of its margin [ours]."""

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from ..trajectory.record import record_sample
from .source import FigureInput
from .style import Record, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

STEPS = 8  # network calls of the sampler, one row each
ROW_CHARACTERS = 108  # characters of a row; later positions are not drawn
TOKEN_CHARACTERS = 12  # longer tokens are cut
MAX_MARGIN = 4.0  # nats, 55 to 1; the colour of larger margins, too
COLOURS = ("#f8b978", "#fbdcb6", "#eeeeea", "#cbdff2", "#93c1e8")  # of the report page, from unsure to sure
INK, GREY = "#1d1d1f", "#787878"  # the grey is readable on white and on black
CAPTION = (
    "The beginning of one text while it is sampled in 8 steps, from noise (top) to text (bottom): at each step the"
    " tokens that would be returned if sampling ended there. Colour: margin of the likeliest token over the second"
    " [ours], the difference of their log-probabilities."
)


def compute(num_texts: int, seed: int, inputs: Sequence[FigureInput] = ()) -> Record:
    """Trajectory record of the first sample of the first run; equal to `textflow sample RUN -n 1 --steps 8`."""
    if not inputs:
        raise ValueError("noise_to_text draws a text of a trained run: give its folder with --run")
    return {"source": inputs[0].name} | record_sample(inputs[0].model, seed, 0, STEPS)


def draw(results: Record, path: Path, caption: str = CAPTION) -> None:
    """Tokens by step on a transparent background, for light and dark pages."""
    calls = results["calls"]
    with figure(path, caption, width=9.0, height=0.25 * len(calls) + 1.0, caption_color=GREY) as axis:
        axis.figure.set_facecolor("none")
        axis.set_facecolor("none")
        scale = draw_cells(axis, calls, results["token_texts"])
        axis.set_yticks(range(len(calls)), [*(f"t = {call['t']:.2f}" for call in calls[:-1]), "text"])
        axis.tick_params(length=0, colors=GREY)
        bar = axis.figure.colorbar(scale, ax=axis, location="bottom", shrink=0.5, aspect=50)
        bar.set_ticks([0, 1, 2, 3, 4], labels=["0", "1", "2", "3", "≥ 4"])
        bar.set_label("margin of the likeliest token (nats)", color=GREY, fontsize=8)
        bar.ax.tick_params(length=0, colors=GREY, labelsize=8)
        bar.outline.set_visible(False)


def draw_cells(axis: "Axes", calls: Sequence[Record], token_texts: dict[str, str]) -> "ScalarMappable":
    """Draw one row of cells per call, as many positions as fit, and return the colours of the margins."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    rows = [[token_label(token, token_texts) for token in call["ids"]] for call in calls]
    edges = [0, *accumulate(max(map(len, column)) + 1 for column in zip(*rows, strict=True))]
    edges = [edge for edge in edges if edge <= ROW_CHARACTERS]
    spans = [(left + 0.1, right - left - 0.2) for left, right in zip(edges, edges[1:], strict=False)]
    scale = ScalarMappable(Normalize(0.0, MAX_MARGIN, clip=True), LinearSegmentedColormap.from_list("margin", COLOURS))
    style: Record = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 8, "color": INK}
    for y, (call, labels) in enumerate(zip(calls, rows, strict=True)):
        axis.broken_barh(spans, (y - 0.42, 0.84), facecolors=scale.to_rgba(call["margin"][: len(spans)]))
        for (x, width), label in zip(spans, labels, strict=False):
            axis.text(x + width / 2, y, label, parse_math=False, **style)
    axis.set(xlim=(0, edges[-1]), ylim=(len(calls) - 0.5, -0.5), xticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(False)
    return scale


def token_label(token: int, token_texts: dict[str, str]) -> str:
    """Text of a token in its cell; empty for -1 (not decoded yet)."""
    if token < 0:
        return ""
    text = token_texts[str(token)].replace("\n", "⏎").strip() or "␣"
    text = "".join(character if character.isprintable() else "�" for character in text)
    return text if len(text) <= TOKEN_CHARACTERS else f"{text[: TOKEN_CHARACTERS - 1]}…"
