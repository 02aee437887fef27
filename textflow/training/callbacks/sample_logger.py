"""SampleLogger: sample texts during training."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from textflow.runtime.atomic import atomic_write_text
from textflow.training.callbacks.periodic import PeriodicCallback
from textflow.training.eval_mode import temporary_eval_mode


class SampleLogger(PeriodicCallback):
    """Write sample texts to RUN/samples/step-00000500.txt and to a W&B table, if the model has `sample_texts(n)`.

    Args:
        run: the run folder.
        every_n_steps: optimizer steps between samples, at least 1; the end of training is sampled too.
        num_samples: number of texts at each interval, at least 1.
    """

    def __init__(self, run: Path | str, every_n_steps: int = 1000, num_samples: int = 8) -> None:
        super().__init__(every_n_steps)
        if num_samples < 1:
            raise ValueError(f"SampleLogger got num_samples={num_samples}; it needs at least 1")
        self.run, self.num_samples = Path(run), num_samples

    def act(self, trainer: L.Trainer, model: Any) -> None:
        """Sample on all ranks and write on the first."""
        sample_texts = getattr(model, "sample_texts", None)
        if sample_texts is None:
            return
        with temporary_eval_mode(model):
            texts, step = list(sample_texts(self.num_samples)), trainer.global_step
        if trainer.fast_dev_run or not trainer.is_global_zero:  # type: ignore[attr-defined]
            return
        path = self.run / "samples" / f"step-{step:08d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = "".join(f"[{i}] {text}\n" for i, text in enumerate(texts))
        atomic_write_text(path, content)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows: list[list[Any]] = [[step, text] for text in texts]
                logger.log_text("samples", columns=["step", "text"], data=rows, step=step - 1)
