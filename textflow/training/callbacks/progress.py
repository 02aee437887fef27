"""Progress of a fit: completed steps, time left, loss terms, tokens per second and processor time."""

import signal
import sys
import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from torch import Tensor


class Throughput(L.Callback):
    """Log train/lr and train/tokens_per_second: valid tokens on all ranks; evaluation time is excluded."""

    def __init__(self) -> None:
        self.tokens: Tensor | int = 0  # stays on the device between two logs
        self.started_at = self.paused_at = time.perf_counter()
        self.last_step, self.eval_seconds = 0, 0.0
        self.learning_rate = 0.0  # of the present step; the schedule has moved on when the step ends

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.tokens, self.started_at, self.last_step = 0, time.perf_counter(), trainer.global_step
        self.eval_seconds = module.model.eval_seconds

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.paused_at = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.started_at += time.perf_counter() - self.paused_at

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self.learning_rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Count tokens; log every log_every_n_steps optimizer steps."""
        self.tokens = self.tokens + batch.mask.sum()
        step = trainer.global_step
        if step != self.last_step and trainer.log_every_n_steps and step % trainer.log_every_n_steps == 0:
            now = time.perf_counter()
            self.started_at += module.model.eval_seconds - self.eval_seconds
            rate = int(self.tokens) * trainer.world_size / max(now - self.started_at, 1e-9)
            module.log("train/tokens_per_second", rate, prog_bar=True, batch_size=1)
            module.log("train/lr", self.learning_rate, batch_size=1)
            self.tokens, self.started_at, self.eval_seconds = 0, now, module.model.eval_seconds
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

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        self.started_at = time.process_time()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add the step's time."""
        self.seconds += time.process_time() - self.started_at
        module.log("train/cpu_seconds", self.seconds, batch_size=1)


class StepProgressBar(TQDMProgressBar):
    """One bar over all optimizer steps of the run, with the time left; where there is no terminal, a line a minute.

    Args:
        refresh_seconds: seconds between two updates of the bar; by default 0.5 on a terminal, otherwise 60.
    """

    LINE_FORMAT = "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

    def __init__(self, refresh_seconds: float | None = None) -> None:
        super().__init__()
        self.on_terminal = sys.stdout.isatty()
        self.refresh_seconds = (0.5 if self.on_terminal else 60.0) if refresh_seconds is None else refresh_seconds
        self.refreshed_at, self.started_at, self.first_step = 0.0, time.monotonic(), 0

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        super().on_train_start(trainer, *_)
        self.started_at, self.first_step = time.monotonic(), trainer.global_step
        bar = self.train_progress_bar
        if not bar.disable:
            bar.total = trainer.max_steps if trainer.max_steps > 0 else None
            bar.initial = bar.n = trainer.global_step
            bar.set_description(model_name(trainer.lightning_module))

    def init_train_tqdm(self) -> Tqdm:
        """The bar over all steps; without a terminal none, since `on_train_batch_end` prints lines."""
        return super().init_train_tqdm() if self.on_terminal else Tqdm(disable=True)

    def init_validation_tqdm(self) -> Tqdm:
        """A bar that leaves nothing behind; without a terminal none."""
        return super().init_validation_tqdm() if self.on_terminal else Tqdm(disable=True)

    def init_sanity_tqdm(self) -> Tqdm:
        """As `init_validation_tqdm`."""
        return super().init_sanity_tqdm() if self.on_terminal else Tqdm(disable=True)

    def on_train_epoch_start(self, *_: Any) -> None:
        """Do nothing, since one bar covers all epochs."""

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Refresh at intervals, since reading the losses synchronises with the device."""
        now = time.monotonic()
        is_due = now - self.refreshed_at >= self.refresh_seconds or trainer.global_step == trainer.max_steps
        if not self.is_enabled or not is_due:
            return
        self.refreshed_at = now
        if not self.on_terminal:
            try:
                return print(self.line(trainer, module, now - self.started_at), flush=True)
            except OSError:  # nobody reads the output, or its disk is full
                return signal.raise_signal(signal.SIGHUP)  # as when a terminal closes: save and stop
        self.train_progress_bar.n = trainer.global_step
        self.train_progress_bar.set_postfix(self.get_metrics(trainer, module), refresh=False)
        self.train_progress_bar.refresh()

    def line(self, trainer: L.Trainer, module: L.LightningModule, elapsed: float) -> str:
        """The state of the bar as one line, `elapsed` seconds after the first step of this process."""
        values = (
            (k, Tqdm.format_num(v) if isinstance(v, float) else v) for k, v in self.get_metrics(trainer, module).items()
        )
        options = {"prefix": model_name(module), "bar_format": self.LINE_FORMAT, "initial": self.first_step}
        postfix = ", ".join(f"{name}={value}" for name, value in values)
        return str(Tqdm.format_meter(trainer.global_step, trainer.max_steps, elapsed, postfix=postfix, **options))

    def get_metrics(self, trainer: L.Trainer, module: L.LightningModule) -> dict[str, Any]:
        """Loss terms without the train/ prefix, and tok/s."""
        metrics = {name.removeprefix("train/"): value for name, value in trainer.progress_bar_metrics.items()}
        rate = metrics.pop("tokens_per_second", None)
        return metrics if rate is None else metrics | {"tok/s": f"{float(rate):,.0f}"}


def model_name(module: Any) -> str:
    """Class of the model that a TrainingModule trains."""
    return type(module.model).__name__
