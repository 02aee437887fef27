"""CheckpointCallback: save checkpoints to a run folder, also on interruption."""

import shlex
import signal
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint

from textflow.runtime.rank_zero import rank_zero_info
from textflow.training import checkpoint_io
from textflow.training.engines.collectives import call_and_share_error
from textflow.training.interrupt import Interrupt, StopRequested
from textflow.training.loggers import MetricsCSVLogger
from textflow.training.weights import weights_are_current, write_weights


class CheckpointCallback(Checkpoint):
    """Save training state and EMA weights at intervals, at the end, on Ctrl-C, SIGTERM and SIGUSR1.

    A state is written after all logs, diagnostics and samples of its step, so a kill during the write loses no row.

    Args:
        run: the run folder.
        every_n_steps: optimizer steps between checkpoints, at least 1.
        keep_last_n: number of newest training states to keep, at least 1.
    """

    def __init__(self, run: Path | str, every_n_steps: int = 1000, keep_last_n: int = 2) -> None:
        if every_n_steps < 1 or keep_last_n < 1:
            values = f"every_n_steps={every_n_steps}, keep_last_n={keep_last_n}"
            raise ValueError(f"CheckpointCallback got {values}; both must be at least 1")
        self.run, self.every_n_steps, self.keep_last_n = Path(run), every_n_steps, keep_last_n
        self.last_step = 0  # the step of the last batch
        self.last_saved_step = -1  # the step of the last checkpoint
        self.pending_loop_state: dict[str, Any] | None = None  # loop progress of a checkpoint not written yet
        self.step_loop_state: dict[str, Any] | None = None  # loop progress at the end of the last step
        self.stopped = False  # by a signal
        self.has_started = False  # training has started, so a loaded state has been restored
        self.cpu_group: Any = None  # gloo process group, for messages without GPU synchronisation
        self.interrupt = Interrupt(
            "\nfinishing this step, saving, then stopping; once more stops at once and loses the steps since the last"
            " checkpoint"
        )

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        """Check before the first step that the folder is writable."""
        if stage == "fit" and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            call_and_share_error(trainer, checkpoint_io.check_writable, self.run)

    def on_fit_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Install the Ctrl-C handler before the data workers start, so that they ignore Ctrl-C."""
        self.stopped = self.interrupt.requested = False
        self.pending_loop_state = None
        self.interrupt.install(signal.SIGINT)
        self.cpu_group = dist.new_group(backend="gloo") if trainer.world_size > 1 else None

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Install the handlers of stop signals after Lightning's; rewind the log to the current step."""
        self.interrupt.install_stop_signals()
        self.last_step = step = trainer.global_step
        self.last_saved_step = step or -1
        if trainer.world_size > 1:
            differs = trainer.strategy.broadcast(step) != step
            if trainer.strategy.reduce_boolean_decision(differs, all=False):
                raise ValueError(
                    f"the processes of this run would resume from different steps, this one from {step}: all of them"
                    f" need access to one run folder {self.run}, on a disk that the machines share"
                )
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSVLogger):
                logger.rewind(step)
        self.has_started = True

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and stop if requested; otherwise schedule a checkpoint if the batch completed a step that needs one."""
        step = trainer.global_step
        if step == self.last_step:  # mid-accumulation: a checkpoint here could not be resumed
            return
        self.last_step = step
        self.step_loop_state = deepcopy(trainer.fit_loop.state_dict())
        if self._stop_requested(trainer):
            self.save(trainer, module)
            if step != trainer.max_steps:  # stop without a final validation and regardless of min_steps
                self.stopped = trainer.should_stop = True
                trainer.limit_val_batches = 0
                trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
        elif step % self.every_n_steps == 0 or step == trainer.max_steps:
            self.pending_loop_state = self.step_loop_state

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        """Save the previous step if a checkpoint is pending."""
        if self.pending_loop_state is not None:
            self.save(trainer, module)

    def on_validation_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Save the step before the validation and stop in the middle of it, if requested."""
        if trainer.sanity_checking or self.step_loop_state is None or not self._stop_requested(trainer):
            return
        if trainer.global_step != self.last_saved_step:
            self.pending_loop_state = self.step_loop_state
            self.save(trainer, module)
        self.stopped = True
        self._report_stop(trainer)
        raise StopRequested(f"the validation of step {trainer.global_step} is left out, to save and stop")

    def on_save_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the loop progress at the end of the step's batch, from which Lightning resumes."""
        checkpoint["accumulated"] = trainer.accumulate_grad_batches
        if self.pending_loop_state is not None:
            checkpoint["loops"]["fit_loop"] = self.pending_loop_state

    def on_load_checkpoint(self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Rescale the batch counts to the present gradient accumulation: Lightning steps at its multiples."""
        checkpoint.get("callbacks", {}).pop("Timer", None)  # max_time applies to each call
        now = trainer.accumulate_grad_batches
        if (before := checkpoint.get("accumulated", now)) != now:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            for part in ("total", "current"):
                added = -(-progress[part]["ready"] // before) * now - progress[part]["ready"]
                progress[part] = {name: count + added for name, count in progress[part].items()}

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save the last step if needed; log the command that resumes an interrupted run."""
        if trainer.global_step not in (0, self.last_saved_step):
            self.save(trainer, module)
        if self.stopped:
            self._report_stop(trainer)

    def on_fit_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Rewrite the weights if they are missing, damaged or older than the state."""
        if trainer.fast_dev_run or trainer.global_step == 0:  # type: ignore[attr-defined]
            return
        missing = trainer.is_global_zero and not weights_are_current(
            self.run / "model.safetensors", trainer.global_step
        )
        if trainer.strategy.reduce_boolean_decision(missing, all=False):
            self.save_weights(trainer, module)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Save a pending checkpoint if a diagnostic failed."""
        try:
            if self.pending_loop_state is not None and isinstance(exception, Exception) and trainer.world_size == 1:
                self.save(trainer, module)
        finally:
            self.interrupt.restore()

    def teardown(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self.interrupt.restore()

    def save(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write the state and weights of this step, then remove older states. Called on all ranks."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        step = trainer.global_step
        file = checkpoint_io.unfinished_folder(self.run, step) / checkpoint_io.STATE_FILE
        try:
            checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            call_and_share_error(trainer, checkpoint_io.begin_state, self.run, step)
            call_and_share_error(trainer, trainer.strategy.save_checkpoint, checkpoint, file, all_ranks=True)
            call_and_share_error(trainer, checkpoint_io.finish_state, self.run, step)
            self.save_weights(trainer, module)
            call_and_share_error(trainer, checkpoint_io.prune_states, self.run, step, self.keep_last_n)
        except Exception as error:
            self.pending_loop_state = None
            if trainer.is_global_zero:
                checkpoint_io.discard_state(self.run, step)
            if isinstance(error, OSError):
                raise checkpoint_io.save_error(self.run, f"step {step}", error) from error
            raise
        self.last_saved_step, self.pending_loop_state = step, None

    def save_weights(self, trainer: L.Trainer, module: Any) -> None:
        """Write the EMA weights of this step. Called on all ranks, each of which may hold a shard."""
        metadata = {"step": str(trainer.global_step)}
        call_and_share_error(trainer, write_weights, self.run / "model.safetensors", module.model.weights(), metadata)

    def _report_stop(self, trainer: L.Trainer) -> None:
        command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
        rank_zero_info(f"stopped at step {trainer.global_step} and saved in {self.run}; to continue: {command}")

    def _stop_requested(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.interrupt.requested
        requested = torch.tensor(int(self.interrupt.requested))
        dist.all_reduce(requested, dist.ReduceOp.MAX, self.cpu_group)
        return bool(requested)
