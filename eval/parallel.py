"""What is sampled of a run, and its samples by several processes at the same time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .measure import cell_of, counts_of, sample_place
from .record import Record
from .samples import draw

Tick = Callable[[str, int, int], None]


class Way(NamedTuple):
    """How a loaded generator samples.

    Args:
        change: sets it, whatever it was set to before.
        sweep: what a frontier goes over, and its value here.
    """

    change: Callable[[Any], None]
    sweep: Mapping[str, float] = {}


@dataclass(frozen=True)
class Task:
    """What is sampled: every way at every number of steps.

    Args:
        run: folder of a fitted generator.
        steps: numbers of sampling steps.
        n: samples of each.
        ways: how it samples.
        seed: of the samples, and of the shuffle of real text.
        batch_size: samples at once.
        overlays: recipes that change how the run samples.
    """

    run: Path
    steps: Sequence[int]
    n: int
    ways: Sequence[Way]
    seed: int = 0
    batch_size: int = 64
    overlays: Sequence[str] = ()


def spread(task: Task, generator: Any, common: Record, devices: Sequence[str], tick: Tick) -> None:
    """Make the samples of a task by a process a device; what they keep, the judging process finds."""
    places = [place for *_, place in spots(task, generator, common)]
    told = (task, common, tuple(devices))
    context: Any = torch.multiprocessing.spawn(work, told, len(devices), join=False)  # type: ignore[attr-defined, no-untyped-call]
    while not context.join(timeout=0.5):
        files = sum(len(list(place.glob("*.jsonl"))) for place in places)
        tick(f"sampling on {len(devices)} devices", files, len(places) * -(-task.n // task.batch_size))


def work(rank: int, task: Task, common: Record, devices: Sequence[str]) -> None:
    """One process: every so many batches of every cell."""
    from textflow.run_folder import load

    generator: Any = load(task.run, devices[rank], task.overlays)
    for steps, place in spots(task, generator, common):
        draw(generator, steps, task.n, task.seed, None, task.batch_size, place, (rank, len(devices)))


def spots(task: Task, generator: Any, common: Record) -> Iterator[tuple[int, Path]]:
    """Steps and place of every cell, while the generator samples in its way."""
    for way in task.ways:
        way.change(generator)
        for steps in counts_of(generator, task.steps):
            yield steps, sample_place(task.run, common, generator, cell_of(generator, steps, task.seed))
