"""The figures: drawn in both forms with their caption, and numbers that are known."""

import io
import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from textflow.eval.figures import escapes, fig2, fig3, fig5, fig6, fig8, fig9, tradeoff
from textflow.eval.figures.source import FigureInput, independent_task, named_oracle_input, oracle_input
from textflow.eval.figures.style import COLORS, MARKERS, RC_PARAMS, figure, shared_legend
from textflow.eval.oracle.methods import fresh_seed
from textflow.noise import Noise
from textflow.oracle.worlds import chain_task

NAMES = ("fig2", "fig3", "fig5", "fig6", "fig8", "fig9", "tradeoff", "escapes")
FEW = 32


@pytest.fixture(scope="module")
def run() -> FigureInput:
    """A world in the place of a trained run."""
    return replace(oracle_input(chain_task(3), FEW), name="run tiny")


@pytest.fixture(scope="module")
def found(run: FigureInput) -> dict[str, Any]:
    """Numbers of the figures, as they come back from their file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tradeoff, "DEPTHS", (3,))
        patch.setattr(
            tradeoff,
            "SAMPLING_METHODS",
            {k: tradeoff.SAMPLING_METHODS[k] for k in ("ODE, argmax gamma", "low-noise: mode")},
        )
        made = {"tradeoff": tradeoff.compute(FEW, 0)}
    made |= {"fig2": fig2.compute(64, 0, [run]), "fig3": fig3.compute(FEW, 0, [run]), "fig5": fig5.compute(128, 0)}
    made |= {"fig6": fig6.compute(FEW, 0), "fig8": fig8.compute(FEW, 0, [run]), "fig9": fig9.compute(FEW, 0)}
    return json.loads(json.dumps(made | {"escapes": {"means": list(ranked())}}, allow_nan=False))


def ranked() -> list[dict[str, Any]]:
    """Rows as of `mean_records`: a method that gets better by calls, one that collapses."""
    base = {"corruption": "", "grid": "flip", "collapsed": False, "xkl3_side": 0.004, "dh1_side": 0.002, "dh1": 0.0}
    rows = [base | {"method": "mode commit", "nfe": k, "xkl3": 0.1 / k} for k in (2, 4)]
    rows += [base | {"method": "joint readout (zero line)", "grid": "none", "nfe": k, "xkl3": 0.0} for k in (2, 4)]
    return [*rows, base | {"method": "ODE, argmax gamma", "grid": "tuned", "nfe": 4, "xkl3": 0.08, "collapsed": True}]


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_drawn_as_png_and_svg_with_its_caption(name: str, found: dict[str, Any], tmp_path: Path) -> None:
    module = import_module(f"textflow.eval.figures.{name}")
    module.draw(found[name], tmp_path / name)
    assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG" and (tmp_path / f"{name}.svg").stat().st_size > 9e3
    assert "[ours]" in module.CAPTION or "[rebuilt]" in module.CAPTION


def test_the_same_numbers_give_the_same_file(found: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        fig9.draw(found["fig9"], tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_the_caption_stands_in_the_figure(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RC_PARAMS, "svg.fonttype", "none")
        with figure(tmp_path / "one", "What is ours [ours].") as axis:
            axis.plot([0, 1], [0, 1])
    assert "What is ours [ours]." in (tmp_path / "one.svg").read_text()


def test_the_legend_lies_outside_the_data_and_says_a_name_once(tmp_path: Path) -> None:
    with figure(tmp_path / "two", "A caption.", 2) as (left, right):
        for axis in (left, right):
            axis.plot([0, 1], [0, 1], label="same")
        right.plot([0, 1], [1, 0], label="other")
        shared_legend(left, right)
    (made,) = left.figure.legends
    assert [text.get_text() for text in made.get_texts()] == ["same", "other"]
    box = made.get_window_extent()
    assert not any(box.overlaps(axis.get_window_extent()) for axis in (left, right))


def test_colours_and_marks_differ() -> None:
    assert len(set(COLORS)) == len(COLORS) == 7 and len(set(MARKERS)) == len(MARKERS) == 10


def test_fig2_flips_begin_at_the_published_length_and_no_temperature_moves_them(found: dict[str, Any]) -> None:
    sweep = {row["scale"]: row["flip"]["along"] for row in found["fig2"]["sweep"]["world text"]}
    assert sweep[0.5] < 0.03 and sweep[0.8] > 0.1 and sweep[1.0] > 0.2  # published onset: .8
    flips = {(row["flip"]["along"], row["flip"]["random"]) for row in found["fig2"]["heat"]}
    assert len(flips) == 1
    cold, native, hot = (row["ce"]["value"] for row in found["fig2"]["heat"])
    assert cold > 1.2 * native > 1.2 * 1.2 * hot
    assert found["fig2"]["smooth"]["value"] == pytest.approx(1.0, abs=0.1)
    assert set(found["fig2"]["sweep"]) == {"world text", "run tiny"}


def test_fig3_cumulative_flips_stand_on_their_floor(found: dict[str, Any]) -> None:
    for row in found["fig3"]["depths"]["world text"]:
        assert 0.7 < row["bayes_error"] < row["cumulative"] + 0.03 < 1.0
    times = found["fig3"]["times"]["world text"]
    assert times[0]["flip"] > 0.8 and times[-1]["flip"] < 0.2
    assert all(
        row["token_error"] == pytest.approx(row["bayes_error"], abs=0.05) for row in times
    )  # 1024 positions: calibrated
    truth, one, *_, many = found["fig3"]["coherence"]
    assert one["h1"] == 0 and many["illegal"] < 0.1 < max(r["illegal"] for r in found["fig3"]["coherence"])
    assert truth["illegal"] < 0.02


def test_fig5_laws_have_their_exponents(found: dict[str, Any]) -> None:
    made = found["fig5"]
    assert [round(made["slopes"][m], 2) for m in ("3", "4", "8", "16")] == [-0.97, -0.96, -0.93, -0.9]
    assert all(made["perimeter"]["box_slopes"][n] == pytest.approx(1 / int(n), rel=0.04) for n in "1234")
    assert all(r >= b**0.5 - 1e-9 for r, b in zip(made["blocks"]["ratio"], made["blocks"]["parts"], strict=True))
    simplex = dict(zip(made["perimeter"]["modes"], made["perimeter"]["simplex"], strict=True))
    assert all(abs(p - simplex[m]) < 4 * error + 0.1 * simplex[m] for m, p, error in made["perimeter"]["voronoi"])
    assert made["coarea"]["integral"] == pytest.approx(made["coarea"]["sampled"][0], rel=0.02)
    assert made["coarea"]["bound"] < made["coarea"]["integral"]


def test_fig6_the_law_holds_where_clouds_overlap_and_not_where_they_part(found: dict[str, Any]) -> None:
    cases = found["fig6"]["cases"]
    held = [row["ratio"] for rows in cases.values() for row in rows if row["valid"] and row["law"] > 0.02]
    assert len(held) >= 4 and all(0.75 < ratio < 1.3 for ratio in held)  # 4096 positions: 80 flips and more
    half = cases["half-separated, τ = .5"]
    assert max(row["ratio"] for row in half) > 1.8  # published: about 2.3
    apart = cases["separated, τ = .15"]
    assert all(row["separated"] for row in apart) and apart[-1]["observed"] > 0.5
    text = cases["world text"]
    assert max(row["surrogate"] - row["observed"] for row in text) > 0.2  # what context saves


def test_fig8_only_what_is_fed_counts(found: dict[str, Any]) -> None:
    rows = {(row["method"], row["K"]): row for row in found["fig8"]["rows"]}
    ode = rows["ODE", 4]
    assert ode["cci"] == 0 and ode["nll"] == ode["ablated_nll"]
    assert rows["autoregressive", 32]["cci"] == pytest.approx(1)
    assert rows["masked, random", 4]["cci"] == pytest.approx(0.75 * 32 / 31)
    assert rows["masked, dilated", 8]["ablated_nll"] > rows["masked, dilated", 8]["nll"] + 3
    assert rows["mode commit", 4]["ablated_nll"] > rows["mode commit", 4]["nll"] + 0.1
    assert {row["method"] for row in found["fig8"]["runs"]} == {"run tiny: mode commit"}


def test_fig9_only_too_little_noise_helps_a_denoiser_that_forgets(found: dict[str, Any]) -> None:
    rows = {(r["form"], r["gamma"]): r for r in found["fig9"]["underfit"]["rows"]}
    assert rows["code", 0.0]["nll"] == rows["marginal_preserving", 0.0]["nll"] == rows["paper", 0.0]["nll"]
    assert rows["code", 1.5]["nll"] < rows["code", 0.0]["nll"] - 0.8
    assert abs(rows["marginal_preserving", 1.5]["nll"] - rows["marginal_preserving", 0.0]["nll"]) < 0.25
    exact = {(r["form"], r["gamma"]): r for r in found["fig9"]["exact"]["rows"]}
    assert exact["code", 1.5]["h1"] < exact["code", 0.0]["h1"] - 0.3


def test_a_commitment_is_less_stiff_than_the_ode(found: dict[str, Any]) -> None:
    rows = {(row["method"], row["K"]): row for row in found["tradeoff"]["rows"]}
    ode, again = rows["ODE, argmax gamma", 3], rows["low-noise: mode", 3]
    assert ode["peak"] > 1.5 * again["peak"] and again["total"] == 0 and ode["total"] > 1


def test_the_table_has_intervals_and_marks_what_collapsed() -> None:
    from rich.console import Console

    written = io.StringIO()
    Console(file=written, width=150).print(escapes.make_table(ranked(), "xkl3"))
    said = written.getvalue()
    line = next(line for line in said.splitlines() if "mode commit" in line)
    assert ".050±.004" in line and ".025±.004" in line and "flip rate" in line
    assert ".080±.004*" in next(line for line in said.splitlines() if "ODE" in line)
    assert said.index("joint readout") < said.index("ODE") < said.index("mode commit"), "grids one after the other"


def test_the_verdict_is_one_line() -> None:
    mine = {"method": "mode commit", "grid": "flip", "xkl3": -0.002}
    other = {"method": "Reinject code .5", "grid": "tuned", "xkl3": 0.05, "dh1": -0.2}
    found: dict[str, Any] = {
        "ratio": {"ode": 50.0, "argmax": 40.0, "reinject": 20.0},
        "dh1": 0.01,
        "holds": True,
        "num_tasks": 15,
    }
    found |= {"commit": mine, "ode": other, "argmax": other, "reinject": other}
    line = escapes.format_verdict("mode commit", found)
    assert "\n" not in line and "over 50.0 times" in line and "dH1 +0.010" in line and line.endswith(": holds")
    assert "mean of 15 tasks, mode commit (flip rate)" in line and "(Reinject code .5, dH1 -0.200)" in line
    assert "the best (mode commit, flip rate)" in escapes.format_verdict("the best", found)
    alike = escapes.format_verdict("mode commit", found | {"ratio": found["ratio"] | {"entropy_preserving": 30.0}})
    assert "dH1 -0.200; over 30.0 below the best with |dH1| <= 0.05)" in alike


def test_latents_of_a_world_lie_in_their_clouds() -> None:
    source = named_oracle_input("text", 8, 0)
    (seen, _), ids = next(source.diagnostic_inputs()), source.batches[0].ids
    off = seen.x - source.model.codec.encode(ids)
    assert float(off.std()) == pytest.approx(0.3, rel=0.1)
    assert torch.equal(named_oracle_input("text", 8, 0).batches[0].ids, ids) and not torch.equal(
        named_oracle_input("text", 8, 1).batches[0].ids, ids
    )
    assert fresh_seed(1) != fresh_seed(0)


def test_without_context_a_position_says_nothing_of_another() -> None:
    world = independent_task("two", torch.tensor([[[1.0], [-1.0]]]), 0.5)
    z = Noise([0]).normal(4, 1)
    t = torch.full((1, 4), 0.5, dtype=torch.float64)
    both, moved = (
        world.denoiser.posterior(z, t).logits,
        world.denoiser.posterior(z + torch.eye(4)[0][None, :, None], t).logits,
    )
    assert both is not None and moved is not None
    assert torch.allclose(both[:, 1:], moved[:, 1:]) and not torch.allclose(both[:, 0], moved[:, 0])
