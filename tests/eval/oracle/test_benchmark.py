"""The ranking: equal numbers of calls, frozen grids, and what wins where the truth is known."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from textflow.eval.oracle.benchmark import EvalPoint, OracleBenchmark, measure_points, plan_points
from textflow.eval.oracle.methods import (
    CORRUPTION_METHODS,
    CORRUPTIONS,
    FLIP_RATES,
    METHODS,
    METHODS_BY_NAME,
    NFE_VALUES,
    SEARCH_SEED,
    FixedGrid,
    fresh_seed,
    sample_staggered,
)
from textflow.eval.oracle.verdict import RANKING_MEASURES, best_row, commitment_verdict, mean_records
from textflow.noise import sample_seeds
from textflow.oracle import PerturbedPosterior
from textflow.oracle.base import PerPositionDenoiser
from textflow.oracle.worlds import chain_task
from textflow.samplers import Euler
from textflow.types import Conditioning, Latents, Posterior

NAMES = ("ODE, read(x_hat)", "ODE, argmax gamma", "Reinject code .5", "mode commit", "low-noise: mode")


class Shared(list[Tensor]):
    """A list that the copies of its owner share."""

    def __deepcopy__(self, memo: Any) -> "Shared":
        return self


class Counting(PerPositionDenoiser):
    """A denoiser that remembers the times it was asked at."""

    def __init__(self, inner: PerPositionDenoiser) -> None:
        super().__init__()
        self.inner, self.dim = inner, inner.dim
        self.asked = Shared()

    def posterior(self, z: Latents, t: Float[Tensor, "B S"], cond: Conditioning = Conditioning()) -> Posterior:
        self.asked.append(t[0])
        return self.inner.posterior(z, t, cond)


@pytest.fixture(scope="module")
def bench() -> OracleBenchmark:
    return OracleBenchmark(chain_task(fresh_seed(0)), 192, 0)


def cell(method: str, nfe: int = 4, grid: str = "flip", corruption: str = "") -> EvalPoint:
    return EvalPoint("chain", fresh_seed(0), corruption, grid, method, nfe)


@pytest.mark.parametrize("calls", [2, 4])
@pytest.mark.parametrize("name", list(METHODS_BY_NAME))
def test_every_method_costs_as_many_calls_as_it_says(bench: OracleBenchmark, name: str, calls: int) -> None:
    counting = Counting(bench.task.denoiser)
    method, world = METHODS_BY_NAME[name], replace(bench.task, denoiser=counting)
    times = bench.time_grid(cell(name, calls, method.grids[0]), method)
    ids = method.sample_texts(world, times, [1, 2])
    assert ids.shape == (2, world.length)
    assert len(counting.asked) == (0 if name.startswith("joint") else calls)


def test_a_text_depends_on_its_seed_and_not_on_its_batch(bench: OracleBenchmark) -> None:
    for name, method in METHODS_BY_NAME.items():
        times = bench.time_grid(cell(name, 4, method.grids[0]), method)
        both, alone = method.sample_texts(bench.task, times, [1, 2]), method.sample_texts(bench.task, times, [2])
        assert torch.equal(both[1:], alone), name


def test_even_positions_run_ahead_when_staggered(bench: OracleBenchmark) -> None:
    counting = Counting(bench.task.denoiser)
    sample_staggered(replace(bench.task, denoiser=counting), [0.0, 0.4, 0.5, 1.0], [1])
    first, second, third = counting.asked
    assert (first == 0).all() and (second[::2] > 0.4).all() and (second[1::2] < 0.4).all()
    assert (third > second).all()
    middle = torch.sigmoid((torch.logit(second[0]) + torch.logit(second[1])) / 2)
    assert float(middle) == pytest.approx(0.4, abs=1e-6)


def test_the_flip_grid_has_the_frozen_rates(bench: OracleBenchmark) -> None:
    clock, method = bench.flip_schedule(""), METHODS_BY_NAME["mode commit"]
    rates = torch.linspace(*FLIP_RATES["commit"], 3, dtype=torch.float64)
    assert bench.time_grid(cell("mode commit"), method) == [0.0, *clock.times_at(rates).tolist(), 1.0]
    assert bench.time_grid(cell("mode commit", 2), method) == [0.0, *clock.times_at(rates[2:]).tolist(), 1.0]
    ahead = METHODS_BY_NAME["skip_first + mode commit"]
    assert len(bench.time_grid(cell(ahead.name), ahead)) == len(bench.time_grid(cell("mode commit"), method)) + 1


def test_given_times_are_the_grid_and_another_number_of_steps_is_a_bug() -> None:
    grid = FixedGrid([0.0, 0.3, 1.0])
    assert grid.grid(2) == [0.0, 0.3, 1.0]
    with pytest.raises(AssertionError, match="3 steps of 3 times"):
        grid.grid(3)


def test_the_plan_has_each_method_on_its_grids_and_calls() -> None:
    cells = plan_points(["chain"], [1, 2], NFE_VALUES)
    assert len(set(cells)) == len(cells)
    assert {c.nfe for c in cells if c.method == "masked, dilated"} == {2, 4, 8, 16}
    assert {c.grid for c in cells if c.method == "mode commit" and not c.corruption} == {"tuned", "flip", "elf"}
    assert {(c.corruption, c.method) for c in cells if c.corruption} == {
        (how, name) for how in CORRUPTIONS for name in CORRUPTION_METHODS
    }
    exact = [c for c in cells if not c.corruption]
    assert len(exact) == 2 * sum(len(m.grids) * len(m.nfe_values) for m in METHODS)
    with pytest.raises(ValueError, match=r"not for \[5\]"):
        plan_points(["chain"], [1], [4, 5])


def test_nothing_is_ranked_on_the_worlds_that_were_searched() -> None:
    assert all(SEARCH_SEED not in range(fresh_seed(seed), fresh_seed(seed) + 100) for seed in range(10_000))


def test_a_spoilt_world_is_asked_in_place_of_the_exact_one(bench: OracleBenchmark) -> None:
    world = bench.corrupted_task("underfit .3")
    assert isinstance(world.denoiser, PerturbedPosterior) and world.prior is bench.task.prior
    assert (
        float((bench.flip_schedule("underfit .3").flip_rate - bench.flip_schedule("").flip_rate).max()) > 0.02
    )  # it flips more


def test_the_joint_readout_is_the_truth(bench: OracleBenchmark) -> None:
    found = bench.record(cell("joint readout (zero line)", grid="none"), 20)
    for part in RANKING_MEASURES:
        truth = 0.0 if part != "illegal" else 0.01 * 28 / 32  # smoothing puts it there
        assert abs(found[part] - truth) < 4 * found["std_error"][part] + 0.005, part


def row(method: str, xkl3: float, **other: Any) -> dict[str, Any]:
    base = {"corruption": "", "grid": "flip", "nfe": 4, "collapsed": False, "dh1": 0.0, "num_tasks": 1}
    return base | {"method": method, "xkl3": xkl3} | other


def test_the_verdict_compares_best_grids_and_wants_the_entropy() -> None:
    rows = [row("ODE, read(x_hat)", 0.09), row("ODE, read(x_hat)", 0.5, grid="elf"), row("ODE, argmax gamma", 0.08)]
    rows += [
        row("Reinject code .5", 0.05, dh1=-0.1),
        row("Reinject marginal_preserving .5", 0.2),
        row("mode commit", 0.02),
    ]
    found = commitment_verdict(rows)
    ratios = {"ode": 4.5, "argmax": 4.0, "reinject": 2.5, "entropy_preserving": 10.0}
    assert found["holds"] and found["ratio"] == pytest.approx(ratios)
    assert not commitment_verdict([*rows[:-1], row("mode commit", 0.02, dh1=-0.06)])["holds"]
    assert not commitment_verdict([*rows[:-1], row("mode commit", 0.031)])["holds"]
    assert not commitment_verdict([*rows, row("Reinject code 1.5", 0.03)])["holds"]
    assert commitment_verdict([*rows[:-1], row("mode commit", -0.002)])["ratio"]["ode"] == pytest.approx(90)


def test_a_collapsed_sample_is_not_ranked() -> None:
    rows = [row("mode commit", -1.0, collapsed=True), row("mode commit", 0.3)]
    assert best_row(rows, ["mode commit"])["xkl3"] == 0.3
    with pytest.raises(ValueError, match="nothing was measured"):
        best_row(rows[:1], ["mode commit"])


def test_means_are_over_worlds_with_the_interval_of_the_mean() -> None:
    spread = dict.fromkeys(RANKING_MEASURES, 0.03)
    records = [
        cell("mode commit")._asdict()
        | dict.fromkeys(RANKING_MEASURES, x)
        | {"n": 8, "collapsed": False, "std_error": spread}
        for x in (0.1, 0.3)
    ]
    (found,) = mean_records(records)
    assert found["num_tasks"] == 2 and found["xkl3"] == pytest.approx(0.2)
    assert found["xkl3_side"] == pytest.approx(1.96 * 0.03 / 2**0.5)
    assert (
        "xkl3_side"
        not in mean_records([records[0] | {"std_error": {}}, records[1] | {"std_error": {}, "task": "text"}])[0]
    )
    several = [
        records[0] | {"std_error": {}, "task": kind, "xkl3": x} for kind, x in zip("aabb", (1, 3, 7, 7), strict=True)
    ]
    (found,) = mean_records(several)
    assert found["xkl3_side"] == pytest.approx(1.96 * 0.5)  # kind a: 2 +- 1, kind b: 7 +- 0; their mean: +- 1 / 2


def test_commitment_beats_the_ode_and_a_second_look_beats_both() -> None:
    cells = [c for c in plan_points(["chain"], [fresh_seed(1)], [4], False) if c.method in NAMES and c.grid == "flip"]
    found = {r["method"]: r for r in mean_records(list(measure_points(cells, 512, 0, 0)))}
    ode, mode, again = (found[name]["xkl3"] for name in NAMES[1::2] + NAMES[4:])
    assert ode > 2 * mode > 4 * again  # measured: .08-.1, .02-.03, .00 +- .01
    assert all(abs(found[name]["dh1"]) < 0.06 for name in NAMES if name.startswith(("ODE", "mode", "low-noise")))


@pytest.mark.slow
def test_at_four_calls_commitment_wins_by_what_is_required() -> None:
    names = (
        "ODE, read(x_hat)",
        "ODE, argmax gamma",
        "mode commit",
        "mode commit, logit-adjusted",
        "low-noise: mode, logit-adjusted",
    )
    cells = plan_points(["chain", "text", "topic"], [fresh_seed(0)], [4], False)
    rows = mean_records(
        list(measure_points([c for c in cells if c.method in names or c.method.startswith("Reinject")], 1024, 0, 0))
    )
    assert commitment_verdict(rows, ["low-noise: mode, logit-adjusted"])["holds"]
    assert commitment_verdict(rows, ["mode commit"])["ratio"]["ode"] >= 3
    assert (
        commitment_verdict(rows, ["mode commit, logit-adjusted"])["ratio"]["ode"] >= 3
        and abs(best_row(rows, names[3:4])["dh1"]) < 0.02
    )


@pytest.mark.integration
def test_processes_change_no_number() -> None:
    cells = [c for c in plan_points(["chain"], [fresh_seed(0)], [2], False) if c.method in NAMES and c.grid == "tuned"]
    assert list(measure_points(cells, 16, 0, 2, jobs=2)) == list(measure_points(cells, 16, 0, 2))


def test_walked_methods_run_the_generators_own_loop(bench: OracleBenchmark) -> None:
    times = [0.0, 0.4, 0.5, 1.0]
    world = bench.task.make_generator(sampling_schedule=FixedGrid(times))
    mine = METHODS_BY_NAME["ODE, read(x_hat)"].sample_texts(bench.task, times, sample_seeds(0, 0, 3))
    assert torch.equal(mine, world.sample(sample_seeds(0, 0, 3), 3, Euler()).ids)
