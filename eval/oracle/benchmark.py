"""Ranking of samplers and escapes on oracle tasks with known truth, at equal numbers of network calls [ours]."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache, partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS, ExcessKLScorer, OracleTask, PerturbedPosterior
from textflow.schedules import FlipRate, LogitNormal
from textflow.types import Batch, Ids

from .methods import (
    COMPARED_METHODS,
    CORRUPTION_METHODS,
    CORRUPTIONS,
    FLIP_RATES,
    METHODS,
    METHODS_BY_NAME,
    NFE_VALUES,
    TUNED_GRIDS,
    SamplingMethod,
    fresh_seed,
)

Record = dict[str, Any]
ROWS = 256  # texts per batch


class EvalPoint(NamedTuple):
    """One cell to measure.

    Args:
        corruption: corruption of the denoiser; empty: exact.
        grid: time grid: tuned, flip, elf or none.
        nfe: number of network calls, K.
    """

    task: str
    task_seed: int
    corruption: str
    grid: str
    method: str
    nfe: int


class OracleBenchmark:
    """Oracle task with the references for its samples.

    Args:
        task: oracle task that provides the denoiser.
        num_texts: number of texts per sample set.
        seed: random seed for sampling.
    """

    def __init__(self, task: OracleTask, num_texts: int, seed: int) -> None:
        self.task, self.num_texts, self.seed = task, num_texts, seed
        self.yardstick = ExcessKLScorer(task.prior, task.reference_samples(num_texts, 6, seed + 1))
        self.flip_schedules: dict[str, FlipRate] = {}

    def corrupted_task(self, corruption: str) -> OracleTask:
        """Oracle task with a corrupted denoiser."""
        return (
            replace(self.task, denoiser=PerturbedPosterior(self.task.exact_posterior, **CORRUPTIONS[corruption]))
            if corruption
            else self.task
        )

    def flip_schedule(self, corruption: str) -> FlipRate:
        """Flip-rate schedule of a denoiser, fitted once on true texts."""
        if corruption not in self.flip_schedules:
            world, noise = self.corrupted_task(corruption), Noise(sample_seeds(self.seed + 2, 0, ROWS))
            ids = world.sample(noise)
            batch, x = Batch(ids, torch.ones_like(ids, dtype=torch.bool)), world.codec.sample_latents(ids, noise)
            self.flip_schedules[corruption] = FlipRate()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                self.flip_schedules[corruption].fit(
                    world.codec.decode_logits, world.path, x, batch, world.make_generator().denoiser()
                )
        return self.flip_schedules[corruption]

    def time_grid(self, point: EvalPoint, method: SamplingMethod) -> list[float]:
        """Time grid of a cell; a method with a free step has one more interior time."""
        steps = point.nfe + method.free_steps
        if point.grid == "flip":
            rates = torch.linspace(*FLIP_RATES[method.grid_kind], max(steps - 1, 2), dtype=torch.float64)
            return [
                0.0,
                *self.flip_schedule(point.corruption).times_at(rates[1:] if steps == 2 else rates).tolist(),
                1.0,
            ]
        if point.grid == "tuned":
            return LogitNormal(*TUNED_GRIDS[method.grid_kind][point.nfe]).grid(steps)
        return LogitNormal().grid(steps)

    @torch.no_grad()
    def sample_texts(self, point: EvalPoint) -> Ids:
        """Sampled texts of a cell."""
        method, world = METHODS_BY_NAME[point.method], self.corrupted_task(point.corruption)
        times, seeds = self.time_grid(point, method), sample_seeds(self.seed, 0, self.num_texts)
        return torch.cat(
            [method.sample_texts(world, times, seeds[i : i + ROWS]) for i in range(0, self.num_texts, ROWS)]
        )

    def record(self, point: EvalPoint, bootstrap_samples: int) -> Record:
        """Record of a cell; differences from the truth use the mean over true samples of the same n."""
        score = self.yardstick.score(
            self.sample_texts(point), Noise([self.seed]) if bootstrap_samples else None, max(bootstrap_samples, 1)
        )
        nll, h1 = (float(mean) for mean in self.yardstick.mean[:2])
        fields = {key: value for key, value in asdict(score).items() if key != "std_error"}
        std_error = (
            score.std_error | {"dnll": score.std_error["nll"], "dh1": score.std_error["h1"]}
            if bootstrap_samples
            else {}
        )
        differences = {"dnll": score.nll - nll, "dh1": score.h1 - h1, "true_nll": nll, "true_h1": h1}
        return point._asdict() | fields | differences | {"collapsed": score.collapsed, "std_error": std_error}


def plan_points(
    tasks: Sequence[str], seeds: Sequence[int], nfe_values: Sequence[int] = NFE_VALUES, with_corruptions: bool = True
) -> list[EvalPoint]:
    """All cells to measure: exact tasks on all grids, then corrupted ones at 4 and 8 calls.

    Args:
        tasks: names of oracle tasks.
        seeds: task seeds, used for every name.
        nfe_values: numbers of network calls.
        with_corruptions: include corrupted denoisers.
    """
    if unknown := sorted(set(nfe_values) - set(NFE_VALUES)):
        raise ValueError(f"grids are frozen for {NFE_VALUES} calls, not for {unknown}; leave those out of --nfe")
    where = [(name, seed) for name in tasks for seed in seeds]
    combinations = [(m, grid, k) for m in METHODS for grid in m.grids for k in nfe_values if k in m.nfe_values]
    cells = [EvalPoint(*task_key, "", grid, m.name, k) for task_key in where for m, grid, k in combinations]
    rest = (
        [(how, name, k) for how in CORRUPTIONS for name in CORRUPTION_METHODS for k in nfe_values if k in (4, 8)]
        if with_corruptions
        else []
    )
    return cells + [EvalPoint(*task_key, how, "flip", name, k) for task_key in where for how, name, k in rest]


class RankingConfig(NamedTuple):
    """Tasks, sizes and seeds of a ranking.

    Args:
        tasks: names of oracle tasks.
        tasks_per_kind: number of tasks per kind in the tables.
        verdict_tasks_per_kind: number of tasks per kind for the verdict at 4 calls; 0: same as the tables.
        nfe_values: numbers of network calls.
        n: number of texts per sample set.
        seed: random seed for oracle tasks and samples.
        bootstrap_samples: bootstrap resamples for the intervals of the tables; 0: none.
        jobs: number of processes.
        with_corruptions: include corrupted denoisers.
    """

    tasks: Sequence[str] = tuple(ORACLE_TASKS)
    tasks_per_kind: int = 1
    verdict_tasks_per_kind: int = 5
    nfe_values: Sequence[int] = NFE_VALUES
    n: int = 1024
    seed: int = 0
    bootstrap_samples: int = 40
    jobs: int = 1
    with_corruptions: bool = True

    def task_seeds(self, count: int) -> list[int]:
        """Seeds of the first tasks of a kind."""
        return [fresh_seed(self.seed) + i for i in range(count)]

    def table_points(self) -> list[EvalPoint]:
        """Cells of the tables."""
        return plan_points(self.tasks, self.task_seeds(self.tasks_per_kind), self.nfe_values, self.with_corruptions)

    def verdict_points(self) -> list[EvalPoint]:
        """Cells of the verdict: commitment and its competitors at 4 calls on all grids."""
        cells = (
            plan_points(self.tasks, self.task_seeds(self.verdict_tasks_per_kind), [4], with_corruptions=False)
            if 4 in self.nfe_values
            else []
        )
        return [cell for cell in cells if cell.method in COMPARED_METHODS]


@lru_cache(maxsize=1)
def oracle_benchmark(task: str, task_seed: int, num_texts: int, seed: int) -> OracleBenchmark:
    """Benchmark of one oracle task; the last one is cached."""
    return OracleBenchmark(ORACLE_TASKS[task](task_seed), num_texts, seed)


def measure_point(point: EvalPoint, n: int, seed: int, bootstrap_samples: int) -> Record:
    """The record of a cell."""
    return oracle_benchmark(point.task, point.task_seed, n, seed).record(point, bootstrap_samples)


def measure_points(
    points: Sequence[EvalPoint], num_texts: int, seed: int = 0, bootstrap_samples: int = 40, jobs: int = 1
) -> Iterator[Record]:
    """Records in the order of the cells, yielded as soon as they are measured.

    Args:
        points: cells from `plan_points`.
        num_texts: number of texts per sample set.
        seed: random seed for sampling.
        bootstrap_samples: bootstrap resamples per interval; 0: none.
        jobs: number of single-thread processes; does not change the results.
    """
    ask = partial(measure_point, n=num_texts, seed=seed, bootstrap_samples=bootstrap_samples)
    if jobs == 1:
        yield from map(ask, points)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield from pool.map(ask, points, chunksize=4)
