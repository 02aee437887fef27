"""Samples: what the model writes while it learns."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import nn


class Samples(L.Callback):
    """Writes texts to RUN/samples/step-00000500.txt and to a W&B table, if the model has `sample_texts(n)`.

    Args:
        run: the run folder.
        every: optimizer steps between samples, at least 1; the end of the fit has samples too.
        n: texts each time, at least 1.
    """

    def __init__(self, run: Path | str, every: int = 1000, n: int = 8) -> None:
        if every < 1 or n < 1:
            raise ValueError(f"Samples got every={every}, n={n}; both must be at least 1")
        self.run, self.every, self.n = Path(run), every, n
        self.seen = 0  # the step of the last batch
        self.written = -1  # the step of the last samples

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Counts from the step that the run continues at."""
        self.seen = self.written = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Samples if the batch ended a step and it is time."""
        if trainer.global_step != self.seen and trainer.global_step % self.every == 0:
            self.write(trainer, module)
        self.seen = trainer.global_step

    def on_train_end(self, trainer: Any, module: Any) -> None:
        """Samples at the end, unless the run was interrupted and is to stop soon."""
        interrupted = any(getattr(callback, "stopped", False) for callback in trainer.callbacks)
        if trainer.global_step != self.written and not interrupted:
            self.write(trainer, module)

    def write(self, trainer: Any, module: Any) -> None:
        """Samples on all ranks, writes on the first."""
        if not hasattr(module, "sample_texts"):
            return
        texts, step = _sampled(module, self.n), trainer.global_step
        self.written = step
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        path = self.run / "samples" / f"step-{step:08d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"[{i}] {text}\n" for i, text in enumerate(texts, 1)), encoding="utf-8")
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows: list[list[Any]] = [[step, text] for text in texts]
                logger.log_text("samples", columns=["step", "text"], data=rows, step=step - 1)


@torch.no_grad()
def _sampled(module: Any, n: int) -> list[str]:
    modes: list[tuple[nn.Module, bool]] = [(part, part.training) for part in module.modules()]
    module.eval()
    texts = module.sample_texts(n)
    for part, training in modes:
        part.training = training
    return list(texts)
