"""Claims with a run's numbers: the verdict follows the numbers, and the figures give all that it needs."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.user_errors import refused
from textflow.cli.figure_inputs import load_scorer
from textflow.eval.figures import samplers
from textflow.eval.figures.claims import check_claims
from textflow.eval.figures.source import FigureInput
from textflow.metrics import Scorer
from textflow.run_folder import load

RUN = "run tiny"


def ratio(value: float) -> dict[str, Any]:
    return {"value": value, "low": 0.8 * value, "high": 1.2 * value, "along": value / 10, "random": 0.1}


def scored_rows(*perplexities: float) -> dict[str, Any]:
    methods = ("ODE", "re-injection 1.5", "mode commit", "mode commit, means fed")
    row = {"source": RUN, "entropy": 3.0, "seq_rep_4": 0.01}
    values = list(zip(methods, perplexities, strict=True))
    return {"rows": [row | {"method": name, "K": k, "perplexity": value} for name, value in values for k in (4, 8)]}


def test_the_claims_of_dabi_and_of_escapes_follow_their_numbers() -> None:
    bound = ratio(4.0) | {"value": None, "high": None}
    for ce, holds, text in (
        (ratio(4.0), True, "DABI 4.0 ["),
        (ratio(1.1), False, "DABI 1.1 ["),
        (bound, True, "DABI at least 3.2"),
    ):
        (claim,) = check_claims({"fig2": {"depth": {RUN: [{"K": 8, "ce": ce, "flip": ratio(2.0)}]}}}, RUN)
        assert claim.holds == holds and text in claim.measured
    claims = check_claims({"samplers": scored_rows(100, 70, 30, 90)}, RUN)
    assert [claim.holds for claim in claims] == [True, True, True]
    assert "100.0 (H 3.00, seq-rep-4 1.0%) -> 70.0" in claims[0].measured and "by 30%" in claims[0].measured
    assert not any(claim.holds for claim in check_claims({"samplers": scored_rows(100, 130, 30, 50)}, RUN))


def test_flips_must_fall_with_t_and_collapse_with_k() -> None:
    for by_time, by_steps, holds in (
        ((0.9, 0.5, 0.1), (0.4, 0.1), [True, True]),
        ((0.9, 0.1, 0.5), (0.4, 0.3), [False, False]),
    ):
        times = [{"t": 0.25 * i, "flip": flip, "positions": 1000} for i, flip in enumerate(by_time, 1)]
        depths = [{"K": 2**i, "terminal": flip} for i, flip in enumerate(by_steps, 1)]
        claims = check_claims({"fig3": {"times": {RUN: times}, "depths": {RUN: depths}}}, RUN)
        assert [claim.holds for claim in claims] == holds


@pytest.mark.integration
@pytest.mark.slow
def test_samplers_are_scored_on_a_fitted_run_and_restored(run: Path, tmp_path: Path) -> None:
    model = load(run)
    own = model.sampler, model.escape
    results = samplers.compute(2, 0, [FigureInput(RUN, model, [])], Scorer(str(run.parent / "tiny_scorer")))
    assert (model.sampler, model.escape) == own
    assert len(results["rows"]) == 2 * len(samplers.SAMPLING_METHODS)
    assert len(check_claims({"samplers": results}, RUN)) == 3
    samplers.draw(results, tmp_path / "samplers")
    assert (tmp_path / "samplers.svg").stat().st_size > 9e3


def test_a_missing_run_or_scorer_is_named(tmp_path: Path) -> None:
    refused("--run", load_scorer, None)
    refused(r"recipes/scorer.yaml --run.folder .*scorer", load_scorer, tmp_path / "mine")
