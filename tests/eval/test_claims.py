"""Claims beside a run's numbers: the verdict follows the numbers, and the figures give what it needs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from textflow.cli.reproduce import load_scorer
from textflow.eval.figures import fig2, fig3, judged
from textflow.eval.figures.claims import check_claims
from textflow.eval.figures.source import FigureInput, oracle_input
from textflow.metrics import Scorer
from textflow.oracle.worlds import chain_task
from textflow.run_folder import load

RUN = "run tiny"


def ratios(value: float) -> dict[str, Any]:
    return {"value": value, "low": 0.8 * value, "high": 1.2 * value, "along": value / 10, "random": 0.1}


def rows(ode: float, again: float, made: float, soft: float) -> dict[str, Any]:
    values = {"ODE": ode, "re-injection 1.5": again, "mode commit": made, "mode commit, means fed": soft}
    other = {"source": RUN, "entropy": 3.0, "seq_rep_4": 0.01}
    return {"rows": [other | {"method": m, "K": k, "perplexity": p} for m, p in values.items() for k in (4, 8)]}


def verdicts(**found: Any) -> list[bool]:
    return [claim.holds for claim in check_claims(found, RUN)]


def test_structured_against_isotropic_follows_the_intervals() -> None:
    for value, holds in ((4.0, True), (1.1, False)):
        at = {"K": 8, "ce": ratios(value), "flip": ratios(2.0)}
        (claim,) = check_claims({"fig2": {"depth": {RUN: [at]}}}, RUN)
        assert claim.holds == holds and f"DABI {value:.1f} [" in claim.measured
    bound = ratios(4.0) | {"value": None, "high": None}
    (claim,) = check_claims({"fig2": {"depth": {RUN: [{"K": 8, "ce": bound, "flip": ratios(2.0)}]}}}, RUN)
    assert "DABI at least 3.2" in claim.measured


def test_flips_must_fall_with_t_and_collapse_with_k() -> None:
    for times, ends, wanted in (
        ((0.9, 0.5, 0.1), (0.4, 0.1), [True, True]),
        ((0.9, 0.1, 0.5), (0.4, 0.3), [False, False]),
    ):
        along = [{"t": 0.25 * i, "flip": flip, "positions": 1000} for i, flip in enumerate(times, 1)]
        depths = [{"K": 2**i, "terminal": flip} for i, flip in enumerate(ends, 1)]
        assert verdicts(fig3={"times": {RUN: along}, "depths": {RUN: depths}}) == wanted


def test_re_injection_and_commitment_are_judged_by_perplexity() -> None:
    assert verdicts(judged=rows(100, 70, 30, 90)) == [True, True, True]
    assert verdicts(judged=rows(100, 130, 30, 50)) == [False, False, False]
    first = check_claims({"judged": rows(100, 70, 30, 90)}, RUN)[0]
    assert "100.0 (H 3.00, seq-rep-4 1.0%) -> 70.0" in first.measured and "by 30%" in first.measured


def test_the_figures_numbers_are_what_claims_need() -> None:
    source = replace(oracle_input(chain_task(3), 32), name=RUN)
    found = check_claims({"fig2": fig2.compute(32, 0, [source]), "fig3": fig3.compute(32, 0, [source])}, RUN)
    assert [claim.holds for claim in found] == [True, True, True], "an exact denoiser shows what the paper says"


@pytest.mark.integration
def test_ways_are_judged_on_a_fitted_run_and_put_back(run: Path, tmp_path: Path) -> None:
    model = load(run)
    way = model.sampler, model.escape
    found = judged.compute(2, 0, [FigureInput(RUN, model, [])], Scorer(str(run.parent / "judge")))
    assert (model.sampler, model.escape) == way
    assert len(found["rows"]) == 2 * len(judged.SAMPLING_METHODS) and len(check_claims({"judged": found}, RUN)) == 3
    judged.draw(found, tmp_path / "judged")
    assert (tmp_path / "judged.svg").stat().st_size > 9e3


def test_a_missing_run_or_scorer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--run"):
        load_scorer(None)
    with pytest.raises(ValueError, match=r"recipes/scorer.yaml --run.folder .*scorer"):
        load_scorer(tmp_path / "mine")
