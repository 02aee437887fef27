"""Figures: drawn as PNG and SVG with their caption, and numbers with a known answer."""

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from textflow.eval.figures import fig2, fig3, fig5, fig6, fig8, fig9, tradeoff
from textflow.eval.figures.claims import check_claims
from textflow.eval.figures.source import oracle_input
from textflow.eval.figures.style import RC_PARAMS
from textflow.oracle import ORACLE_TASKS

pytestmark = [pytest.mark.integration, pytest.mark.slow]  # all figures are measured and drawn

NUM_TEXTS = 32


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    """Numbers of the figures with an oracle task in place of a trained run, as JSON returns them."""
    run = replace(oracle_input(ORACLE_TASKS["chain"](3), NUM_TEXTS), name="run tiny")
    numbers = {"fig2": fig2.compute(64, 0, [run]), "fig3": fig3.compute(NUM_TEXTS, 0, [run])}
    numbers |= {"fig5": fig5.compute(128, 0)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig6, "BLURS", (0.06, 0.12, 0.25, 0.5, 2.0))
        patch.setattr(fig6, "CONTEXT_BLURS", (1.0, 3.0))
        patch.setattr(fig8, "DEPTHS", (4, 8))
        patch.setattr(fig9, "STRENGTHS", (0.0, 1.5))
        patch.setattr(tradeoff, "DEPTHS", (3,))
        methods = {name: tradeoff.SAMPLING_METHODS[name] for name in ("ODE, argmax gamma", "low-noise: mode")}
        patch.setattr(tradeoff, "SAMPLING_METHODS", methods)
        patch.setattr(tradeoff, "ORACLE_TASKS", {"chain": lambda seed: replace(ORACLE_TASKS["chain"](seed), length=8)})
        numbers |= {"fig6": fig6.compute(NUM_TEXTS, 0), "fig8": fig8.compute(NUM_TEXTS, 0, [run])}
        numbers |= {"fig9": fig9.compute(NUM_TEXTS, 0), "tradeoff": tradeoff.compute(NUM_TEXTS, 0)}
    return json.loads(json.dumps(numbers, allow_nan=False))


@pytest.mark.parametrize("name", ["fig2", "fig3", "fig5", "fig6", "fig8", "fig9", "tradeoff"])
def test_a_figure_is_drawn_with_its_caption(
    name: str, results: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RC_PARAMS, "svg.fonttype", "none")  # text stays text
    monkeypatch.setitem(RC_PARAMS, "savefig.dpi", 40)
    module = import_module(f"textflow.eval.figures.{name}")
    module.draw(results[name], tmp_path / name)
    svg = (tmp_path / f"{name}.svg").read_text()
    assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG" and len(svg) > 9e3
    assert module.CAPTION[:40] in svg and ("[ours]" in module.CAPTION or "[rebuilt]" in module.CAPTION)


def test_fig2_flips_begin_at_the_published_length_and_ignore_the_temperature(results: dict[str, Any]) -> None:
    fig = results["fig2"]
    along = {row["scale"]: row["flip"]["along"] for row in fig["sweep"]["world text"]}
    assert along[0.5] < 0.03 and along[0.8] > 0.1 and along[1.0] > 0.2  # published onset: .8
    assert len({(row["flip"]["along"], row["flip"]["random"]) for row in fig["heat"]}) == 1
    cold, native, hot = (row["ce"]["value"] for row in fig["heat"])
    assert cold > 1.2 * native > 1.2 * 1.2 * hot
    assert fig["smooth"]["value"] == pytest.approx(1.0, abs=0.1)
    assert set(fig["sweep"]) == {"world text", "run tiny"}


def test_fig3_cumulative_flips_are_near_the_bayes_floor(results: dict[str, Any]) -> None:
    for row in results["fig3"]["depths"]["world text"]:
        assert 0.7 < row["bayes_error"] < row["cumulative"] + 0.03 < 1.0
    times = results["fig3"]["times"]["world text"]
    assert times[0]["flip"] > 0.8 and times[-1]["flip"] < 0.2
    for row in times:  # 1024 positions: calibrated
        assert row["token_error"] == pytest.approx(row["bayes_error"], abs=0.05)
    truth, one, *_, many = results["fig3"]["coherence"]
    assert one["h1"] == 0 and many["illegal"] < 0.1 < max(row["illegal"] for row in results["fig3"]["coherence"])
    assert truth["illegal"] < 0.02


def test_fig5_laws_have_their_exponents(results: dict[str, Any]) -> None:
    slopes, perimeter, blocks, coarea = (results["fig5"][key] for key in ("slopes", "perimeter", "blocks", "coarea"))
    assert [round(slopes[m], 2) for m in ("3", "4", "8", "16")] == [-0.97, -0.96, -0.93, -0.9]
    assert all(perimeter["box_slopes"][n] == pytest.approx(1 / int(n), rel=0.04) for n in "1234")
    assert all(ratio >= b**0.5 - 1e-9 for ratio, b in zip(blocks["ratio"], blocks["parts"], strict=True))
    simplex = dict(zip(perimeter["modes"], perimeter["simplex"], strict=True))
    assert all(abs(p - simplex[m]) < 4 * error + 0.1 * simplex[m] for m, p, error in perimeter["voronoi"])
    assert coarea["integral"] == pytest.approx(coarea["sampled"][0], rel=0.02)
    assert coarea["bound"] < coarea["integral"]


def test_fig6_the_law_holds_for_overlapping_clouds_only(results: dict[str, Any]) -> None:
    cases = results["fig6"]["cases"]
    ratios = [row["ratio"] for rows in cases.values() for row in rows if row["valid"] and row["law"] > 0.02]
    assert len(ratios) >= 4 and all(0.75 < ratio < 1.3 for ratio in ratios)  # 4096 positions: 80 flips and more
    assert max(row["ratio"] for row in cases["half-separated, τ = .5"]) > 1.8  # published: about 2.3
    separated = cases["separated, τ = .15"]
    assert all(row["separated"] for row in separated) and separated[-1]["observed"] > 0.5
    assert max(row["surrogate"] - row["observed"] for row in cases["world text"]) > 0.2  # flips that context avoids


def test_fig8_only_choices_fed_back_count(results: dict[str, Any]) -> None:
    rows = {(row["method"], row["K"]): row for row in results["fig8"]["rows"]}
    ode = rows["ODE", 4]
    assert ode["cci"] == 0 and ode["nll"] == ode["ablated_nll"]
    assert rows["autoregressive", 32]["cci"] == pytest.approx(1)
    assert rows["masked, random", 4]["cci"] == pytest.approx(0.75 * 32 / 31)
    assert rows["masked, dilated", 8]["ablated_nll"] > rows["masked, dilated", 8]["nll"] + 3
    assert rows["mode commit", 4]["ablated_nll"] > rows["mode commit", 4]["nll"] + 0.1
    assert {row["method"] for row in results["fig8"]["runs"]} == {"run tiny: mode commit"}


def test_fig9_only_too_little_noise_helps_a_denoiser_that_forgets(results: dict[str, Any]) -> None:
    rows = {(r["form"], r["gamma"]): r for r in results["fig9"]["underfit"]["rows"]}
    assert rows["code", 0.0]["nll"] == rows["marginal_preserving", 0.0]["nll"] == rows["paper", 0.0]["nll"]
    assert rows["code", 1.5]["nll"] < rows["code", 0.0]["nll"] - 0.8
    assert abs(rows["marginal_preserving", 1.5]["nll"] - rows["marginal_preserving", 0.0]["nll"]) < 0.25
    exact = {(r["form"], r["gamma"]): r for r in results["fig9"]["exact"]["rows"]}
    assert exact["code", 1.5]["h1"] < exact["code", 0.0]["h1"] - 0.3


def test_the_figures_hold_all_numbers_of_the_claims_and_commitment_is_less_stiff(results: dict[str, Any]) -> None:
    claims = check_claims(results, "run tiny")
    assert [claim.holds for claim in claims] == [True, True, True], "an exact denoiser confirms the paper"
    ode, commit = results["tradeoff"]["rows"]
    assert (ode["method"], commit["method"]) == ("ODE, argmax gamma", "low-noise: mode")
    assert ode["peak"] > 1.5 * commit["peak"] and commit["total"] == 0 and ode["total"] > 1


def test_the_number_of_jumps_is_written_at_its_marker(results: dict[str, Any], tmp_path: Path) -> None:
    rows = [row | {"num_jumps": 7.5} for row in results["tradeoff"]["rows"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RC_PARAMS, "svg.fonttype", "none")
        patch.setitem(RC_PARAMS, "savefig.dpi", 40)
        tradeoff.draw({"rows": rows, "runs": []}, tmp_path / "jumps")
    assert (tmp_path / "jumps.svg").read_text().count(">7.5<") == len(rows)
