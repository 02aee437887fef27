"""Parts of figures: style, inputs from oracle tasks, and the ranking of escapes."""

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from textflow.eval.figures import escapes
from textflow.eval.figures.source import fresh_oracle_input, independent_task
from textflow.eval.figures.style import COLORS, MARKERS, figure, shared_legend
from textflow.noise import Noise


@pytest.mark.integration
def test_the_same_numbers_give_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with figure(tmp_path / name, "A caption.") as axis:
            axis.plot([0, 1], [0, 1])
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.integration
def test_the_legend_is_outside_the_data_and_lists_a_name_once(tmp_path: Path) -> None:
    with figure(tmp_path / "two", "A caption.", 2) as (left, right):
        for axis in (left, right):
            axis.plot([0, 1], [0, 1], label="same")
        right.plot([0, 1], [1, 0], label="other")
        shared_legend(left, right)
    (legend,) = left.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["same", "other"]
    box = legend.get_window_extent()
    assert not any(box.overlaps(axis.get_window_extent()) for axis in (left, right))
    assert len(set(COLORS)) == 7 and len(set(MARKERS)) == 10


def test_latents_of_a_task_are_its_clouds_and_positions_are_independent_without_context() -> None:
    source = fresh_oracle_input("text", 8, 0)
    (inputs, _), ids = next(source.diagnostic_inputs()), source.batches[0].ids
    assert float((inputs.x - source.model.codec.encode(ids)).std()) == pytest.approx(0.3, rel=0.1)
    same, other = (fresh_oracle_input("text", 8, seed).batches[0].ids for seed in (0, 1))
    assert torch.equal(same, ids) and not torch.equal(other, ids)
    task = independent_task("two", torch.tensor([[[1.0], [-1.0]]]), 0.5)
    z, t = Noise([0]).normal(4, 1), torch.full((1, 4), 0.5, dtype=torch.float64)
    logits, changed = (task.denoiser.posterior(x, t).logits for x in (z, z + torch.eye(4)[0][None, :, None]))
    assert logits is not None and changed is not None
    assert torch.allclose(logits[:, 1:], changed[:, 1:]) and not torch.allclose(logits[:, 0], changed[:, 0])


def ranking_rows() -> list[dict[str, Any]]:
    """Rows as from `mean_records`: a method that improves with calls, and one that collapses."""
    base = {"corruption": "", "grid": "flip", "collapsed": False, "xkl3_side": 0.004, "dh1_side": 0.002, "dh1": 0.0}
    rows = [base | {"method": "mode commit", "nfe": k, "xkl3": 0.1 / k} for k in (2, 4)]
    rows += [base | {"method": "joint readout (zero line)", "grid": "none", "nfe": k, "xkl3": 0.0} for k in (2, 4)]
    return [*rows, base | {"method": "ODE, argmax gamma", "grid": "tuned", "nfe": 4, "xkl3": 0.08, "collapsed": True}]


@pytest.mark.integration
def test_ranking_is_drawn_and_its_table_marks_collapsed_methods(tmp_path: Path) -> None:
    escapes.draw({"means": ranking_rows()}, tmp_path / "escapes")
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".svg"}
    assert (tmp_path / "escapes.svg").stat().st_size > 9e3 and "[ours]" in escapes.CAPTION
    output = io.StringIO()
    Console(file=output, width=150).print(escapes.make_table(ranking_rows(), "xkl3"))
    text = output.getvalue()
    line = next(line for line in text.splitlines() if "mode commit" in line)
    assert ".050±.004" in line and ".025±.004" in line and "flip rate" in line
    assert ".080±.004*" in next(line for line in text.splitlines() if "ODE" in line)
    assert text.index("joint readout") < text.index("ODE") < text.index("mode commit"), "grouped by grid"


def test_the_verdict_is_one_line() -> None:
    commit = {"method": "mode commit", "grid": "flip", "xkl3": -0.002}
    other = {"method": "Reinject code .5", "grid": "tuned", "xkl3": 0.05, "dh1": -0.2}
    ratio = {"ode": 50.0, "argmax": 40.0, "reinject": 20.0}
    verdict: dict[str, Any] = {"ratio": ratio, "dh1": 0.01, "holds": True, "num_tasks": 15}
    verdict |= {"commit": commit, "ode": other, "argmax": other, "reinject": other}
    line = escapes.format_verdict("mode commit", verdict)
    assert "\n" not in line and "over 50.0 times" in line and "dH1 +0.010" in line and line.endswith(": holds")
    assert "mean of 15 tasks, mode commit (flip rate)" in line and "(Reinject code .5, dH1 -0.200)" in line
    assert "the best (mode commit, flip rate)" in escapes.format_verdict("the best", verdict)
    line = escapes.format_verdict("mode commit", verdict | {"ratio": ratio | {"entropy_preserving": 30.0}})
    assert "dH1 -0.200; over 30.0 below the best with |dH1| <= 0.05)" in line
