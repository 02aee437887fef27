"""README's picture of one text while it is sampled."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tests.helpers.tiny_generator import untrained
from tests.helpers.word_tokenizer import Words
from textflow.diagnostics.margins import token_margins
from textflow.eval.figures.noise_to_text import COLOURS, MAX_MARGIN, STEPS, compute, draw, draw_cells, token_label
from textflow.eval.figures.source import FigureInput
from textflow.noise import sample_seeds


@pytest.mark.integration
def test_rows_show_the_tokens_of_the_readout_and_colours_follow_the_margins(tmp_path: Path) -> None:
    model = untrained()
    model.text_format = model.text_format._replace(tokenizer=Words([f"w{i}" for i in range(40)]))
    results = compute(16, 3, [FigureInput("run tiny", model, [])])
    samples = model.sample(sample_seeds(3, 0, 1), STEPS)
    margins = token_margins(samples.trace, model.decode_logits, samples.ids)
    ids = [*margins.argmax_ids[:-1, 0].tolist(), samples.ids[0].tolist()]
    axis = Figure().subplots()
    draw_cells(axis, results["calls"], results["token_texts"])
    assert len(axis.collections) == STEPS and len(axis.texts) == STEPS * 12
    labels = [text.get_text() for text in axis.texts]
    assert labels == [token_label(token, results["token_texts"]) for row in ids for token in row]
    scale, anchors = torch.arange(5) / 4 * MAX_MARGIN, np.array([to_rgb(colour) for colour in COLOURS])
    for row, margin in zip(axis.collections, margins.margin[:, 0], strict=True):
        colours = [np.interp(margin.clamp_max(MAX_MARGIN), scale, channel) for channel in anchors.T]
        np.testing.assert_allclose(row.get_facecolors()[:, :3], np.stack(colours, 1), atol=0.01)
    assert margins.margin.max() > 1 > margins.margin.min(), "colours differ"
    draw(results, tmp_path / "noise_to_text")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg"}


def test_a_row_ends_before_its_limit_and_a_missing_run_is_named() -> None:
    texts = {"0": " short", "1": "x" * 40, "2": "\n", "3": " "}
    assert [token_label(i, texts) for i in (-1, 0, 1, 2, 3)] == ["", "short", "x" * 11 + "…", "⏎", "␣"]
    axis = Figure().subplots()
    draw_cells(axis, [{"ids": [1] * 30, "margin": [0.0] * 30}], texts)
    positions = [text.get_position()[0] for text in axis.texts]
    assert len(positions) == 8 and all(right - left >= 12 for left, right in pairwise(positions))
    with pytest.raises(ValueError, match="--run"):
        compute(16, 0)
