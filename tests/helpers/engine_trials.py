"""One training step of each system by each engine of recipes/strategy, in a fork, which ends with its process group."""

import logging
import multiprocessing
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from torch.utils.data import DataLoader

from tests.helpers.part_trials import unchanged
from tests.helpers.systems import SYSTEMS, make
from tests.helpers.trained_codecs import texts
from textflow import training
from textflow.types import Batch

OVERLAYS = Path(__file__).parents[2] / "recipes" / "strategy"
ENGINES = sorted(path.stem for path in OVERLAYS.glob("*.yaml"))


class Texts(L.LightningDataModule):
    """One batch of random text."""

    def train_dataloader(self) -> DataLoader[Batch]:
        return DataLoader([texts()], batch_size=None)  # type: ignore[arg-type]

    def first_rows(self, rows: int, held_out: bool = False) -> Batch:
        return texts()


def strategy(engine: str) -> Any:
    """The strategy that an overlay names."""
    section = yaml.safe_load((OVERLAYS / f"{engine}.yaml").read_text())["trainer"]["strategy"]
    if isinstance(section, str):
        return section
    return getattr(training, section["class_path"])(**section.get("init_args", {}))


def fit_one_step(system: str, engine: str) -> str:
    """Fit a system for a step in this process; empty, or the line by which it is refused."""
    off = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    try:
        trainer = training.Trainer(
            max_steps=1, strategy=strategy(engine), devices=1, accelerator="cpu", precision="32-true", **off
        )
        trainer.fit(make(system).train(), Texts())
        assert trainer.global_step == 1
    except ValueError as error:
        return str(error)
    return ""


def fit_all(results: Connection) -> None:
    """Send the outcome of each engine with each system."""
    logging.disable()
    results.send({(engine, system): fit_one_step(system, engine) for engine in ENGINES for system in SYSTEMS})


@cache
def engine_outcomes() -> dict[tuple[str, str], str]:
    """Outcome of each (engine, system), by `fit_one_step`."""
    for system in SYSTEMS:
        unchanged(system)  # so that the fork has the trained codecs
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=fit_all, args=(theirs,))
    child.start()
    theirs.close()
    found: dict[tuple[str, str], str] = ours.recv()
    child.join()
    return found


def train(system: str, engine: str) -> None:
    """A training step of a system by an engine, as its overlay names it."""
    if why := engine_outcomes()[engine, system]:
        raise ValueError(why)
