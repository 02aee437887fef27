"""Samples: what the model writes while it learns."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from textflow.runtime.atomic import replace_text
from textflow.training.callbacks.periodic import Every
from textflow.training.eval_mode import still


class Samples(Every):
    """Writes texts to RUN/samples/step-00000500.txt and to a W&B table, if the model has `sample_texts(n)`.

    Args:
        run: the run folder.
        every_n_steps: optimizer steps between samples, at least 1; the end of the fit has samples too.
        n: texts each time, at least 1.
    """

    def __init__(self, run: Path | str, every_n_steps: int = 1000, n: int = 8) -> None:
        super().__init__(every_n_steps)
        if n < 1:
            raise ValueError(f"Samples got n={n}; it needs at least 1")
        self.run, self.n = Path(run), n

    def act(self, trainer: Any, module: Any) -> None:
        """Samples on all ranks, writes on the first."""
        if not hasattr(module, "sample_texts"):
            return
        with still(module):
            texts, step = list(module.sample_texts(self.n)), trainer.global_step
        if trainer.fast_dev_run or not trainer.is_global_zero:
            return
        path = self.run / "samples" / f"step-{step:08d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        said = "".join(f"[{i}] {text}\n" for i, text in enumerate(texts, 1))
        replace_text(path, said)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                rows: list[list[Any]] = [[step, text] for text in texts]
                logger.log_text("samples", columns=["step", "text"], data=rows, step=step - 1)
