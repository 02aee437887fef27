"""Sampling jobs of a run, and parallel sampling in several processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .measure import eval_point, sample_folder, step_counts
from .record import Record
from .samples import draw_samples

OnProgress = Callable[[str, int, int], None]


class SamplingConfig(NamedTuple):
    """Sampling settings of a loaded generator.

    Args:
        configure: applies the settings, independent of earlier ones.
        sweep: swept settings and their values.
    """

    configure: Callable[[Any], None]
    sweep: Mapping[str, float] = {}


@dataclass(frozen=True)
class SamplingJob:
    """Sampling job: every sampling config at every number of steps.

    Args:
        run: run folder.
        steps: numbers of sampling steps.
        num_samples: number of samples per sampler and number of steps.
        sampling_configs: sampling settings to sample with.
        seed: random seed for sampling and for the shuffled baseline.
        batch_size: texts per batch; does not change the texts.
        overlays: overlays laid over the run's recipe.
    """

    run: Path
    steps: Sequence[int]
    num_samples: int
    sampling_configs: Sequence[SamplingConfig]
    seed: int = 0
    batch_size: int = 64
    overlays: Sequence[str] = ()


def sample_on_devices(
    job: SamplingJob, generator: Any, common: Record, devices: Sequence[str], on_progress: OnProgress
) -> None:
    """Sample a job with one process per device and save the samples for the scoring process."""
    folders = [folder for _, folder in sample_folders(job, generator, common)]
    arguments = (job, common, tuple(devices))
    context: Any = torch.multiprocessing.spawn(sample_worker, arguments, len(devices), join=False)  # type: ignore[attr-defined, no-untyped-call]
    while not context.join(timeout=0.5):
        files = sum(len(list(folder.glob("*.jsonl"))) for folder in folders)
        on_progress(f"sampling on {len(devices)} devices", files, len(folders) * -(-job.num_samples // job.batch_size))


def sample_worker(rank: int, job: SamplingJob, common: Record, devices: Sequence[str]) -> None:
    """Sample one process's share of the batches of every cell."""
    from textflow.run_folder import load

    generator: Any = load(job.run, devices[rank], job.overlays)
    for steps, folder in sample_folders(job, generator, common):
        draw_samples(generator, steps, job.num_samples, job.seed, None, job.batch_size, folder, (rank, len(devices)))


def sample_folders(job: SamplingJob, generator: Any, common: Record) -> Iterator[tuple[int, Path]]:
    """Steps and sample folder of every cell, with the generator configured for it."""
    for sampling in job.sampling_configs:
        sampling.configure(generator)
        for steps in step_counts(generator, job.steps):
            yield steps, sample_folder(job.run, common, generator, eval_point(generator, steps, job.seed))
