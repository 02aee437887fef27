"""Ranking of samplers on oracle tasks: equal numbers of calls, frozen grids, and the verdict."""

from dataclasses import replace
from itertools import product
from multiprocessing import get_context
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from textflow.eval.oracle import benchmark, methods
from textflow.eval.oracle.benchmark import EvalPoint, OracleBenchmark, measure_points, oracle_benchmark, plan_points
from textflow.eval.oracle.methods import METHODS_BY_NAME, FixedGrid, fresh_seed
from textflow.eval.oracle.verdict import RANKING_MEASURES, best_row, commitment_verdict, mean_records
from textflow.noise import sample_seeds
from textflow.oracle import PerturbedPosterior
from textflow.oracle.base import PerPositionDenoiser
from textflow.oracle.tasks import chain_task
from textflow.samplers import Euler
from textflow.types import Conditioning, Latents, Posterior

pytestmark = pytest.mark.integration


class CountingDenoiser(PerPositionDenoiser):
    """Denoiser that records the times of its calls; its copies share the record."""

    def __init__(self, inner: PerPositionDenoiser, times: list[Tensor]) -> None:
        super().__init__()
        self.inner, self.dim, self.times = inner, inner.dim, times

    def __deepcopy__(self, memo: Any) -> "CountingDenoiser":
        return CountingDenoiser(self.inner, self.times)

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()) -> Posterior:
        self.times.append(t[0])
        return self.inner.posterior(z, t, cond)


@pytest.fixture(scope="module")
def bench() -> OracleBenchmark:
    return OracleBenchmark(chain_task(fresh_seed(0)), 192, 0)


def point(method: str, nfe: int = 4, grid: str = "flip", corruption: str = "") -> EvalPoint:
    return EvalPoint("chain", fresh_seed(0), corruption, grid, method, nfe)


@pytest.mark.integration
@pytest.mark.parametrize("num_calls", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_each_method_has_its_calls_and_a_text_does_not_depend_on_its_batch(
    bench: OracleBenchmark, num_calls: int
) -> None:
    for name, method in METHODS_BY_NAME.items():
        calls: list[Tensor] = []
        times = bench.time_grid(point(name, num_calls, method.grids[0]), method)
        counted = replace(bench.task, denoiser=CountingDenoiser(bench.task.denoiser, calls))
        ids = method.sample_texts(counted, times, [1, 2])
        assert ids.shape == (2, bench.task.length), name
        assert len(calls) == (0 if name.startswith("joint") else num_calls), name
        assert torch.equal(ids[1:], method.sample_texts(bench.task, times, [2])), name


def test_even_positions_run_ahead_when_staggered(bench: OracleBenchmark) -> None:
    calls: list[Tensor] = []
    counted = replace(bench.task, denoiser=CountingDenoiser(bench.task.denoiser, calls))
    methods.sample_staggered(counted, [0.0, 0.4, 0.5, 1.0], [1])
    first, second, third = calls
    assert (first == 0).all() and (second[::2] > 0.4).all() and (second[1::2] < 0.4).all()
    assert (third > second).all()
    middle = torch.sigmoid((torch.logit(second[0]) + torch.logit(second[1])) / 2)
    assert float(middle) == pytest.approx(0.4, abs=1e-6)


def test_the_flip_grid_has_the_frozen_rates(bench: OracleBenchmark) -> None:
    schedule, method = bench.flip_schedule(""), METHODS_BY_NAME["mode commit"]
    rates = torch.linspace(*methods.FLIP_RATES["commit"], 3, dtype=torch.float64)
    assert bench.time_grid(point("mode commit"), method) == [0.0, *schedule.times_at(rates).tolist(), 1.0]
    assert bench.time_grid(point("mode commit", 2), method) == [0.0, *schedule.times_at(rates[2:]).tolist(), 1.0]
    ahead = METHODS_BY_NAME["skip_first + mode commit"]
    assert len(bench.time_grid(point(ahead.name), ahead)) == len(bench.time_grid(point("mode commit"), method)) + 1


def test_a_fixed_grid_has_its_times_and_number_of_steps() -> None:
    grid = FixedGrid([0.0, 0.3, 1.0])
    assert grid.grid(2) == [0.0, 0.3, 1.0]
    with pytest.raises(AssertionError, match="3 steps of 3 times"):
        grid.grid(3)


def test_the_plan_has_each_method_on_its_grids_and_not_the_searched_tasks() -> None:
    points = plan_points(["chain"], [1, 2], methods.NFE_VALUES)
    assert len(set(points)) == len(points)
    assert {c.nfe for c in points if c.method == "masked, dilated"} == {2, 4, 8, 16}
    assert {c.grid for c in points if c.method == "mode commit" and not c.corruption} == {"tuned", "flip", "elf"}
    corrupted = {(c.corruption, c.method) for c in points if c.corruption}
    assert corrupted == set(product(methods.CORRUPTIONS, methods.CORRUPTION_METHODS))
    exact = [c for c in points if not c.corruption]
    assert len(exact) == 2 * sum(len(m.grids) * len(m.nfe_values) for m in methods.METHODS)
    with pytest.raises(ValueError, match=r"not for \[5\]"):
        plan_points(["chain"], [1], [4, 5])
    assert all(methods.SEARCH_SEED not in range(fresh_seed(seed), fresh_seed(seed) + 100) for seed in range(10_000))


def test_a_corrupted_task_flips_more_than_the_exact_one(bench: OracleBenchmark) -> None:
    task = bench.corrupted_task("underfit .3")
    assert isinstance(task.denoiser, PerturbedPosterior) and task.prior is bench.task.prior
    underfit, exact = (bench.flip_schedule(corruption).flip_rate for corruption in ("underfit .3", ""))
    assert float((underfit - exact).max()) > 0.02


def test_the_joint_readout_has_no_excess(bench: OracleBenchmark) -> None:
    record = bench.record(point("joint readout (zero line)", grid="none"), 20)
    for part in RANKING_MEASURES:
        truth = 0.0 if part != "illegal" else 0.01 * 28 / 32  # transitions of the smoothing
        assert abs(record[part] - truth) < 4 * record["std_error"][part] + 0.005, part


def row(method: str, xkl3: float, **other: Any) -> dict[str, Any]:
    base = {"corruption": "", "grid": "flip", "nfe": 4, "collapsed": False, "dh1": 0.0, "num_tasks": 1}
    return base | {"method": method, "xkl3": xkl3} | other


def test_the_verdict_compares_best_grids_and_requires_the_entropy() -> None:
    rows = [row("ODE, read(x_hat)", 0.09), row("ODE, read(x_hat)", 0.5, grid="elf"), row("ODE, argmax gamma", 0.08)]
    rows += [row("Reinject code .5", 0.05, dh1=-0.1), row("Reinject marginal_preserving .5", 0.2)]
    rows.append(row("mode commit", 0.02))
    verdict = commitment_verdict(rows)
    ratios = {"ode": 4.5, "argmax": 4.0, "reinject": 2.5, "entropy_preserving": 10.0}
    assert verdict["holds"] and verdict["ratio"] == pytest.approx(ratios)
    assert not commitment_verdict([*rows[:-1], row("mode commit", 0.02, dh1=-0.06)])["holds"]
    assert not commitment_verdict([*rows[:-1], row("mode commit", 0.031)])["holds"]
    assert not commitment_verdict([*rows, row("Reinject code 1.5", 0.03)])["holds"]
    assert commitment_verdict([*rows[:-1], row("mode commit", -0.002)])["ratio"]["ode"] == pytest.approx(90)


def test_means_are_over_tasks_and_a_collapsed_sample_is_not_ranked() -> None:
    base = point("mode commit")._asdict() | {"n": 8, "collapsed": False}
    records = [
        base | dict.fromkeys(RANKING_MEASURES, x) | {"std_error": dict.fromkeys(RANKING_MEASURES, 0.03)}
        for x in (0.1, 0.3)
    ]
    (mean,) = mean_records(records)
    assert mean["num_tasks"] == 2 and mean["xkl3"] == pytest.approx(0.2)
    assert mean["xkl3_side"] == pytest.approx(1.96 * 0.03 / 2**0.5)
    exact = records[0] | {"std_error": {}}
    (mean,) = mean_records([exact, exact | {"task": "text"}])
    assert "xkl3_side" not in mean
    several = [exact | {"task": kind, "xkl3": x} for kind, x in zip("aabb", (1, 3, 7, 7), strict=True)]
    (mean,) = mean_records(several)
    assert mean["xkl3_side"] == pytest.approx(1.96 * 0.5)  # kind a: 2 +- 1, kind b: 7 +- 0; their mean: +- 1 / 2
    rows = [row("mode commit", -1.0, collapsed=True), row("mode commit", 0.3)]
    assert best_row(rows, ["mode commit"])["xkl3"] == 0.3
    with pytest.raises(ValueError, match="nothing was measured"):
        best_row(rows[:1], ["mode commit"])


@pytest.mark.integration
def test_commitment_beats_the_ode_and_low_noise_resampling_beats_both() -> None:
    names = ("ODE, argmax gamma", "mode commit", "low-noise: mode")
    points = [EvalPoint("chain", fresh_seed(1), "", "flip", name, 4) for name in names]
    ode, mode, low_noise = measure_points(points, 512, 0, 0)
    assert ode["xkl3"] > 2 * mode["xkl3"] > 4 * low_noise["xkl3"]  # measured: .08-.1, .02-.03, .00 +- .01
    assert all(abs(record["dh1"]) < 0.06 for record in (ode, mode, low_noise))


@pytest.mark.slow
def test_commitment_at_four_calls_wins_by_the_required_ratios() -> None:
    adjusted, low_noise = "mode commit, logit-adjusted", "low-noise: mode, logit-adjusted"
    names = {"ODE, read(x_hat)", "ODE, argmax gamma", "mode commit", adjusted, low_noise, *methods.REINJECT_METHODS}
    points = plan_points(["chain", "text", "topic"], [fresh_seed(0)], [4], False)
    rows = mean_records(list(measure_points([p for p in points if p.method in names], 1024, 0, 0)))
    assert commitment_verdict(rows, [low_noise])["holds"]
    assert min(commitment_verdict(rows, [name])["ratio"]["ode"] for name in ("mode commit", adjusted)) >= 3
    assert abs(best_row(rows, [adjusted])["dh1"]) < 0.02


@pytest.mark.integration
def test_the_number_of_processes_does_not_change_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "get_context", lambda kind: get_context("fork"))  # a spawned one imports for seconds
    points = [point(name, 2, "tuned") for name in ("ODE, argmax gamma", "mode commit")]
    oracle_benchmark.cache_clear()
    records = list(measure_points(points, 16, 0, 2, jobs=2))
    assert oracle_benchmark.cache_info().misses == 0, "measured in this process"
    assert records == list(measure_points(points, 16, 0, 2))


def test_methods_run_the_sampling_loop_of_generators(bench: OracleBenchmark) -> None:
    times = [0.0, 0.4, 0.5, 1.0]
    task = bench.task.make_generator(sampling_schedule=FixedGrid(times))
    mine = METHODS_BY_NAME["ODE, read(x_hat)"].sample_texts(bench.task, times, sample_seeds(0, 0, 3))
    assert torch.equal(mine, task.sample(sample_seeds(0, 0, 3), 3, Euler()).ids)
