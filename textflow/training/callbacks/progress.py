"""Progress of a fit: completed steps, time left, loss terms, tokens per second and processor time."""

import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from torch import Tensor


class Throughput(L.Callback):
    """Log train/lr and train/tokens_per_second: valid tokens on all ranks; evaluation time is excluded."""

    def __init__(self) -> None:
        self.tokens: Tensor | int = 0  # stays on the device between two logs
        self.started_at = self.paused_at = time.perf_counter()
        self.last_step, self.eval_seconds = 0, 0.0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.tokens, self.started_at, self.last_step = 0, time.perf_counter(), trainer.global_step
        self.eval_seconds = module.eval_seconds

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.paused_at = time.perf_counter()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.started_at += time.perf_counter() - self.paused_at

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count tokens; log every log_every_n_steps optimizer steps."""
        self.tokens = self.tokens + batch.mask.sum()
        step = trainer.global_step
        if step != self.last_step and trainer.log_every_n_steps and step % trainer.log_every_n_steps == 0:
            now = time.perf_counter()
            self.started_at += module.eval_seconds - self.eval_seconds
            rate = int(self.tokens) * trainer.world_size / max(now - self.started_at, 1e-9)
            module.log("train/tokens_per_second", rate, prog_bar=True, batch_size=1)
            module.log("train/lr", trainer.optimizers[0].param_groups[0]["lr"], batch_size=1)
            self.tokens, self.started_at, self.eval_seconds = 0, now, module.eval_seconds
        self.last_step = step


class CpuClock(L.Callback):
    """Log train/cpu_seconds: processor seconds of this process in the optimizer steps so far, without validation, the
    loading of data, and the callbacks after this one. A resumed run continues the count."""

    def __init__(self) -> None:
        self.seconds = self.started_at = 0.0

    def state_dict(self) -> dict[str, float]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.seconds = state_dict["seconds"]

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.started_at = time.process_time()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Add the step's time."""
        self.seconds += time.process_time() - self.started_at
        module.log("train/cpu_seconds", self.seconds, batch_size=1)


class StepProgressBar(TQDMProgressBar):
    """One bar over all optimizer steps of the run, with the time left.

    Args:
        refresh_seconds: seconds between two updates of the bar; by default 0.5 on a terminal, otherwise 10.
    """

    def __init__(self, refresh_seconds: float | None = None) -> None:
        super().__init__()
        self.refresh_seconds = (0.5 if sys.stdout.isatty() else 10.0) if refresh_seconds is None else refresh_seconds
        self.refreshed_at = 0.0

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        super().on_train_start(trainer, *_)
        bar = self.train_progress_bar
        if not bar.disable:
            bar.total = trainer.max_steps if trainer.max_steps > 0 else None
            bar.initial = bar.n = trainer.global_step
            bar.set_description(type(trainer.lightning_module).__name__)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Do nothing, since one bar covers all epochs."""

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Refresh at intervals, since reading the losses synchronises with the device."""
        now = time.monotonic()
        is_due = now - self.refreshed_at >= self.refresh_seconds or trainer.global_step == trainer.max_steps
        if self.is_enabled and is_due:
            self.refreshed_at = now
            self.train_progress_bar.n = trainer.global_step
            self.train_progress_bar.set_postfix(self.get_metrics(trainer, module), refresh=False)
            self.train_progress_bar.refresh()

    def get_metrics(self, trainer: L.Trainer, module: Any) -> dict[str, Any]:
        """Loss terms without the train/ prefix, and tok/s."""
        metrics = {name.removeprefix("train/"): value for name, value in trainer.progress_bar_metrics.items()}
        rate = metrics.pop("tokens_per_second", None)
        return metrics if rate is None else metrics | {"tok/s": f"{float(rate):,.0f}"}
