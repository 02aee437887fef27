"""Save: the checkpoints of a run folder, also when the run is interrupted."""

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Checkpoint
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn

from textflow.runtime.atomic import replace
from textflow.training.checkpoint_io import FILE, begin, damage, discard, finish, prune, states, unfinished
from textflow.training.interrupt import Interrupt
from textflow.training.loggers import Metrics
from textflow.training.weights import read_weights, write_weights


@contextmanager
def first(trainer: Any) -> Iterator[bool]:
    """Tells whether this rank is the first, and lets none go on where that one failed: what it raises is raised on all.

    Args:
        trainer: of all ranks.
    """
    error: Exception | None = None
    try:
        yield trainer.is_global_zero
    except Exception as raised:
        error = raised
    said = error and (getattr(error, "errno", None), getattr(error, "strerror", None) or str(error))
    told = trainer.strategy.broadcast(said)
    if error is not None:
        raise error
    if told is not None:
        raise ValueError(told[1]) if told[0] is None else OSError(*told)


class Save(Checkpoint):
    """Saves training state and averaged weights: now and then, at the end, on Ctrl-C and on SIGTERM.

    A state is written before the next step begins, when all that its step logs, looks at and samples is on the disk: a
    kill while it is written loses no row of the log.

    Args:
        run: the run folder.
        every: optimizer steps between checkpoints, at least 1.
        keep: training states kept, at least 1.
    """

    def __init__(self, run: Path | str, every: int = 1000, keep: int = 2) -> None:
        if every < 1 or keep < 1:
            raise ValueError(f"Save got every={every}, keep={keep}; both must be at least 1")
        self.run, self.every, self.keep = Path(run), every, keep
        self.seen = 0  # the step of the last batch
        self.saved = -1  # the step of the last checkpoint
        self.due: dict[str, Any] | None = None  # a checkpoint, before the next step: the progress after its own
        self.stopped = False  # by a signal
        self.begun = False  # to train: what a state says has been taken over
        self.hosts: Any = None  # the processes, where they tell each other something that no GPU waits for
        self.interrupt = Interrupt(
            "\nfinishing this step, saving, then stopping; once more stops at once and loses the steps since the"
            " last checkpoint"
        )

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Finds out before the first step whether the folder can be written."""
        if stage != "fit" or trainer.fast_dev_run:
            return
        with first(trainer) as writes:
            if writes:
                self._try()

    def on_fit_start(self, trainer: L.Trainer, module: Any) -> None:
        """Takes Ctrl-C before the data workers start, which then ignore it."""
        self.stopped = self.interrupt.asked = False
        self.due = None
        self.interrupt.install(signal.SIGINT)
        self.hosts = dist.new_group(backend="gloo") if trainer.world_size > 1 else None

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        """Takes SIGTERM after Lightning did; sets the log back to the step that the run continues at."""
        self.interrupt.install(signal.SIGTERM)
        self.seen = step = trainer.global_step
        self.saved = step or -1
        if trainer.world_size > 1:
            other = trainer.strategy.broadcast(step) != step
            if trainer.strategy.reduce_boolean_decision(other, all=False):
                raise ValueError(
                    f"the processes of this run would go on from different steps, this one from {step}: all of them"
                    f" need to see one run folder {self.run}, on a disk that the machines share"
                )
        for logger in trainer.loggers:
            if isinstance(logger, Metrics):
                logger.rewind(trainer.global_step)
        self.begun = True

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Saves and stops if that was asked for; else sees whether the batch ended a step after which it is time."""
        step = trainer.global_step
        if step == self.seen:  # gradients still add up: nothing to save that could be continued
            return
        self.seen = step
        if self._asked(trainer):
            self.save(trainer, module)
            if step != trainer.max_steps:
                self._stop(trainer)
        elif step % self.every == 0 or step == trainer.max_steps:
            self.due = deepcopy(trainer.fit_loop.state_dict())

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        """Saves the step before, if it is time."""
        if self.due is not None:
            self.save(trainer, module)

    def on_save_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """The progress of the loops is that which Lightning goes on from: at the end of the step's batch."""
        checkpoint["accumulated"] = trainer.accumulate_grad_batches
        if self.due is not None:
            checkpoint["loops"]["fit_loop"] = self.due

    def on_load_checkpoint(self, trainer: L.Trainer, module: Any, checkpoint: dict[str, Any]) -> None:
        """Counts the batches as if the steps so far had taken as many as those to come: Lightning takes a step where
        the count is a multiple of that."""
        checkpoint.get("callbacks", {}).pop("Timer", None)  # max_time is of each call
        was, now = checkpoint.get("accumulated", trainer.accumulate_grad_batches), trainer.accumulate_grad_batches
        if was != now:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            for part in ("total", "current"):
                more = -(-progress[part]["ready"] // was) * now - progress[part]["ready"]
                progress[part] = {name: count + more for name, count in progress[part].items()}

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        """Saves what is not saved yet; says how to continue an interrupted run."""
        if trainer.global_step not in (0, self.saved):
            self.save(trainer, module)
        if self.stopped:
            command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
            rank_zero_info(f"stopped at step {trainer.global_step} and saved in {self.run}; to continue: {command}")

    def on_fit_end(self, trainer: Any, module: Any) -> None:
        """Writes the weights anew where a kill or the disk came between the state and them."""
        if trainer.fast_dev_run or trainer.global_step == 0:
            return
        missing = trainer.is_global_zero and not self._written(trainer.global_step)
        if trainer.strategy.reduce_boolean_decision(missing, all=False) if trainer.world_size > 1 else missing:
            self.write(trainer, module)

    def on_exception(self, trainer: L.Trainer, module: Any, exception: BaseException) -> None:
        """Saves the step that was to be saved, where a look at it failed; gives the signals back."""
        try:
            if self.due is not None and isinstance(exception, Exception) and trainer.world_size == 1:
                self.save(trainer, module)
        finally:
            self.interrupt.restore()

    def teardown(self, trainer: L.Trainer, module: Any, stage: str) -> None:
        """Gives the signals back."""
        self.interrupt.restore()

    def save(self, trainer: Any, module: Any) -> None:
        """Writes the state and the weights of this step, then removes older states. Called on all ranks."""
        if trainer.fast_dev_run:
            return
        step, file = trainer.global_step, unfinished(self.run, trainer.global_step) / FILE
        try:
            whole = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
            with first(trainer) as writes:
                if writes:
                    begin(self.run, step)
            with first(trainer):  # which ranks write is the strategy's matter
                trainer.strategy.save_checkpoint(whole, file)
            with first(trainer) as writes:
                if writes:
                    finish(self.run, step)
            self.write(trainer, module)
            with first(trainer) as writes:
                if writes:
                    prune(self.run, step, self.keep)
        except Exception as error:
            self.due = None
            if trainer.is_global_zero:
                discard(self.run, step)
            if isinstance(error, OSError):
                raise self._failure(f"step {step}", error) from error
            raise
        self.saved, self.due = step, None

    def write(self, trainer: Any, module: Any) -> None:
        """Writes the averaged weights of this step. Called on all ranks, which may each hold a part of them."""
        weights = module.weights()
        with first(trainer) as writes:
            if writes:
                write_weights(self.run / "model.safetensors", weights, {"step": str(trainer.global_step)})

    def _written(self, step: int) -> bool:
        """Whether the file of the weights is whole and of this step."""
        path = self.run / "model.safetensors"
        try:
            return read_weights(path)[1].get("step") == str(step)
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            rank_zero_warn(f"{path} is damaged ({error}); written anew")
            return False

    def _asked(self, trainer: L.Trainer) -> bool:
        if trainer.world_size == 1:
            return self.interrupt.asked
        asked = torch.tensor(int(self.interrupt.asked))
        dist.all_reduce(asked, dist.ReduceOp.MAX, self.hosts)
        return bool(asked)

    def _stop(self, trainer: L.Trainer) -> None:
        """Ends the fit after this step, without a last validation and whatever the least number of steps."""
        self.stopped = trainer.should_stop = True
        trainer.limit_val_batches = 0
        trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None

    def _try(self) -> None:
        try:
            (self.run / "state").mkdir(parents=True, exist_ok=True)
            replace(self.run / "state" / "writable", lambda path: path.touch())
            (self.run / "state" / "writable").unlink()
        except OSError as error:
            raise self._failure("in the run folder", error) from error

    def _failure(self, what: str, error: OSError) -> OSError:
        before = [state.name for state in states(self.run) if damage(state) is None] if self.run.is_dir() else []
        last = f"the checkpoint before it, {before[-1]}, is untouched" if before else "there is no checkpoint yet"
        return OSError(
            error.errno,
            f"cannot save {what}: {error.strerror or error}; {last}."
            " Free some space or make the folder writable, then run the same command again",
            str(self.run),
        )
