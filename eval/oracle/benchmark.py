"""Ranking of samplers and escapes on oracle tasks with known truth, at equal numbers of network calls [ours]."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import lru_cache, partial
from itertools import product
from multiprocessing import get_context
from typing import Any, NamedTuple

import torch

from textflow.noise import Noise, sample_seeds
from textflow.oracle import ORACLE_TASKS, ExcessKLScorer, OracleTask, PerturbedPosterior
from textflow.schedules import FlipRate, LogitNormal
from textflow.types import Batch, Ids

from . import methods
from .methods import METHODS, METHODS_BY_NAME, NFE_VALUES, SamplingMethod, fresh_seed

Record = dict[str, Any]
ROWS = 256  # texts per batch


class EvalPoint(NamedTuple):
    """One cell to measure.

    Args:
        task: kind of oracle task.
        task_seed: random seed of the task.
        corruption: corruption of the denoiser; empty: exact.
        grid: time grid: tuned, flip, elf or none.
        method: name of the sampling method.
        nfe: number of network calls, K.
    """

    task: str
    task_seed: int
    corruption: str
    grid: str
    method: str
    nfe: int


class OracleBenchmark:
    """Oracle task with the references for its samples."""

    def __init__(self, task: OracleTask, num_texts: int, seed: int) -> None:
        self.task, self.num_texts, self.seed = task, num_texts, seed
        self.scorer = ExcessKLScorer(task.prior, task.reference_samples(num_texts, 6, seed + 1))
        self.flip_schedules: dict[str, FlipRate] = {}

    def corrupted_task(self, corruption: str) -> OracleTask:
        """Oracle task with a corrupted denoiser."""
        if not corruption:
            return self.task
        denoiser = PerturbedPosterior(self.task.exact_posterior, **methods.CORRUPTIONS[corruption])
        return replace(self.task, denoiser=denoiser)

    def flip_schedule(self, corruption: str) -> FlipRate:
        """Flip-rate schedule of a denoiser, fitted once on true texts."""
        if corruption not in self.flip_schedules:
            task, noise = self.corrupted_task(corruption), Noise(sample_seeds(self.seed + 2, 0, ROWS))
            ids = task.sample(noise)
            batch, x = Batch(ids, torch.ones_like(ids, dtype=torch.bool)), task.codec.sample_latents(ids, noise)
            schedule = self.flip_schedules[corruption] = FlipRate()
            with torch.random.fork_rng():
                torch.manual_seed(0)
                schedule.fit(task.codec.decode_logits, task.path, x, batch, task.make_generator().denoiser())
        return self.flip_schedules[corruption]

    def time_grid(self, point: EvalPoint, method: SamplingMethod) -> list[float]:
        """Time grid of a cell; a method with a free step has one more interior time."""
        steps = point.nfe + method.free_steps
        if point.grid == "flip":
            rates = torch.linspace(*methods.FLIP_RATES[method.grid_kind], max(steps - 1, 2), dtype=torch.float64)
            inner = self.flip_schedule(point.corruption).times_at(rates[1:] if steps == 2 else rates)
            return [0.0, *inner.tolist(), 1.0]
        if point.grid == "tuned":
            return LogitNormal(*methods.TUNED_GRIDS[method.grid_kind][point.nfe]).grid(steps)
        return LogitNormal().grid(steps)

    @torch.no_grad()
    def sample_texts(self, point: EvalPoint) -> Ids:
        """Sampled texts of a cell."""
        method, task = METHODS_BY_NAME[point.method], self.corrupted_task(point.corruption)
        times, seeds = self.time_grid(point, method), sample_seeds(self.seed, 0, self.num_texts)
        batches = (seeds[i : i + ROWS] for i in range(0, self.num_texts, ROWS))
        return torch.cat([method.sample_texts(task, times, batch) for batch in batches])

    def record(self, point: EvalPoint, bootstrap_samples: int) -> Record:
        """Record of a cell; differences from the truth use the mean over true samples of the same n."""
        noise = Noise([self.seed]) if bootstrap_samples else None
        score = self.scorer.score(self.sample_texts(point), noise, max(bootstrap_samples, 1))
        nll, h1 = (float(mean) for mean in self.scorer.mean[:2])
        fields = {key: value for key, value in asdict(score).items() if key != "std_error"}
        std_error = dict(score.std_error)
        if std_error:
            std_error |= {"dnll": std_error["nll"], "dh1": std_error["h1"]}
        differences = {"dnll": score.nll - nll, "dh1": score.h1 - h1, "true_nll": nll, "true_h1": h1}
        return point._asdict() | fields | differences | {"collapsed": score.collapsed, "std_error": std_error}


def plan_points(
    tasks: Sequence[str], seeds: Sequence[int], nfe_values: Sequence[int] = NFE_VALUES, with_corruptions: bool = True
) -> list[EvalPoint]:
    """All cells to measure: exact tasks on all grids, then corrupted ones at 4 and 8 calls."""
    if unknown := sorted(set(nfe_values) - set(NFE_VALUES)):
        raise ValueError(f"grids are frozen for {NFE_VALUES} calls, not for {unknown}; leave those out of --nfe")
    task_keys = list(product(tasks, seeds))
    combinations = [(m, grid, k) for m in METHODS for grid in m.grids for k in nfe_values if k in m.nfe_values]
    points = [EvalPoint(name, seed, "", grid, m.name, k) for name, seed in task_keys for m, grid, k in combinations]
    if not with_corruptions:
        return points
    few_calls = [k for k in nfe_values if k in (4, 8)]
    corrupted = product(task_keys, methods.CORRUPTIONS, methods.CORRUPTION_METHODS, few_calls)
    return points + [EvalPoint(name, seed, how, "flip", method, k) for (name, seed), how, method, k in corrupted]


class RankingConfig(NamedTuple):
    """Tasks, sizes and seeds of a ranking.

    Args:
        tasks: kinds of oracle tasks.
        tasks_per_kind: number of tasks per kind in the tables.
        verdict_tasks_per_kind: number of tasks per kind for the verdict at 4 calls; 0: same as the tables.
        nfe_values: numbers of network calls.
        n: number of texts per sample set.
        seed: random seed for oracle tasks and samples.
        bootstrap_samples: bootstrap resamples for the intervals of the tables; 0: none.
        jobs: number of single-thread processes; does not change the results.
        with_corruptions: measure corrupted denoisers too.
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
        nfe_values = [4] if 4 in self.nfe_values else []
        points = plan_points(self.tasks, self.task_seeds(self.verdict_tasks_per_kind), nfe_values, False)
        return [point for point in points if point.method in methods.COMPARED_METHODS]


@lru_cache(maxsize=1)
def oracle_benchmark(task: str, task_seed: int, num_texts: int, seed: int) -> OracleBenchmark:
    """Benchmark of one oracle task; the last one is cached."""
    return OracleBenchmark(ORACLE_TASKS[task](task_seed), num_texts, seed)


def measure_point(point: EvalPoint, n: int, seed: int, bootstrap_samples: int) -> Record:
    """Record of a cell."""
    return oracle_benchmark(point.task, point.task_seed, n, seed).record(point, bootstrap_samples)


def measure_points(
    points: Sequence[EvalPoint], num_texts: int, seed: int = 0, bootstrap_samples: int = 40, jobs: int = 1
) -> Iterator[Record]:
    """Records in the order of the cells, yielded as soon as they are measured.

    Args:
        points: cells to measure.
        num_texts: number of texts per cell.
        seed: random seed for oracle tasks and samples.
        bootstrap_samples: bootstrap resamples per interval; 0: none.
        jobs: number of single-thread processes; does not change the results.
    """
    measure = partial(measure_point, n=num_texts, seed=seed, bootstrap_samples=bootstrap_samples)
    if jobs == 1:
        yield from map(measure, points)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        yield from pool.map(measure, points, chunksize=4)
