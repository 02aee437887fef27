"""What a run shows: steps done and time left, loss parts, tokens a second."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor


class Speed(L.Callback):
    """Logs train/lr and train/tokens_per_second: valid tokens, all ranks; the time of looking on is not counted."""

    def __init__(self) -> None:
        self.tokens: Tensor | int = 0  # stays on the device between two logs
        self.since = self.paused = time.perf_counter()
        self.seen, self.looked = 0, 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Starts the clock."""
        self.tokens, self.since, self.seen = 0, time.perf_counter(), trainer.global_step
        self.looked = module.looked

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Stops the clock."""
        self.paused = time.perf_counter()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Lets it go on."""
        self.since += time.perf_counter() - self.paused

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts; every log_every_n_steps optimizer steps also logs."""
        self.tokens = self.tokens + batch.mask.sum()
        step = trainer.global_step
        if step != self.seen and trainer.log_every_n_steps and step % trainer.log_every_n_steps == 0:
            now = time.perf_counter()
            self.since += module.looked - self.looked
            rate = int(self.tokens) * trainer.world_size / max(now - self.since, 1e-9)
            module.log("train/tokens_per_second", rate, prog_bar=True, batch_size=1)
            module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"], batch_size=1)
            self.tokens, self.since, self.looked = 0, now, module.looked
        self.seen = step


class Progress(TQDMProgressBar):
    """One bar over all optimizer steps of the run, with the time left.

    Args:
        seconds: between two updates of the bar; by default .5 on a terminal and 10 in a file.
    """

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__()
        self.seconds = (0.5 if sys.stdout.isatty() else 10.0) if seconds is None else seconds
        self.drawn = 0.0

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Makes the bar, which starts at the step that the run continues at."""
        super().on_train_start(trainer, *_)
        bar = self.train_progress_bar
        if not bar.disable:
            bar.total = trainer.max_steps if trainer.max_steps > 0 else None
            bar.initial = bar.n = trainer.global_step
            bar.set_description(type(trainer.lightning_module).__name__)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Nothing: the bar goes on over the epochs."""

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Redraws now and then: reading the losses makes the host wait for the device."""
        now = time.monotonic()
        if self.is_enabled and (now - self.drawn >= self.seconds or trainer.global_step == trainer.max_steps):
            self.drawn = now
            self.train_progress_bar.n = trainer.global_step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, module), refresh=False)
            self.train_progress_bar.refresh()

    def get_metrics(self, trainer: L.Trainer, module: Any) -> dict[str, Any]:
        """Loss parts under short names, and tok/s."""
        shown = {name.removeprefix("train/"): value for name, value in trainer.progress_bar_metrics.items()}
        rate = shown.pop("tokens_per_second", None)
        return shown if rate is None else shown | {"tok/s": f"{float(rate):,.0f}"}
