"""A few optimizer steps on random text."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from tests.helpers.word_tokenizer import Words
from textflow.models.text_format import TextFormat
from textflow.training import TrainingModule
from textflow.types import Batch

LENGTH, VOCAB, ROWS = 12, 11, 8
OFF = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")


def texts(rows: int = ROWS) -> Batch:
    """Random text without padding."""
    ids = torch.randint(VOCAB, (rows, LENGTH), generator=torch.Generator().manual_seed(0))
    return Batch(ids, ids >= 0)


class Seeded(L.Callback):
    """Sets the same random state at each step, for runs and their continuations."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        torch.manual_seed(100 + trainer.global_step)


def fit(model: Any, steps: int = 2, checkpoint: Path | None = None) -> L.Trainer:
    """Train a few optimizer steps with Lightning."""
    model.text_format = TextFormat(Words([f"w{i}" for i in range(VOCAB)]), LENGTH)
    model.data_batch = lambda rows, held_out=False: texts(rows)
    trainer = L.Trainer(max_steps=steps, accelerator="cpu", callbacks=[Seeded()], **dict.fromkeys(OFF, False))
    trainer.fit(TrainingModule(model), DataLoader([texts()] * 8, batch_size=None), ckpt_path=checkpoint)
    return trainer
