"""A callback that writes down what is trained on."""

import json
import os
from pathlib import Path
from typing import Any

import lightning as L

from textflow.types import Batch


class RowRecorder(L.Callback):
    """The rows of every batch, a line of JSON each, in a file of each process in the folder that ROWS names."""

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        with open(Path(os.environ["ROWS"]) / f"rows-{trainer.global_rank}", "a", encoding="utf-8") as file:
            file.write(json.dumps([trainer.global_step, batch.ids.tolist()]) + "\n")


def rows(folder: Path, ranks: int) -> dict[int, list[list[int]]]:
    """The rows of each step that all processes began, in the order of the text's rows.

    Args:
        folder: that ROWS named.
        ranks: number of processes.
    """
    own = [dict(map(json.loads, (folder / f"rows-{rank}").read_text().splitlines())) for rank in range(ranks)]
    steps = sorted(set.intersection(*(set(mine) for mine in own)))
    return {step: [row for taken in zip(*(mine[step] for mine in own), strict=True) for row in taken] for step in steps}
