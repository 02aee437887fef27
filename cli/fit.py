"""textflow fit RECIPE [OVERLAY ...] [--key value]"""

import logging
import shlex
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .recipes import read_title
from .resume import check_max_steps, check_same_tokenizer, lock_run, resume_point

HELP = """usage: textflow fit RECIPE [OVERLAY ...] [--key value ...]

Train a model from a recipe and save it in a run folder (run.folder, by default checkpoints/<recipe>). Running the same
command again resumes an unfinished run exactly (bit for bit). Ctrl-C, SIGTERM and the signals of schedulers save the
state and stop. RECIPE and OVERLAY are files, or names that textflow recipes lists. Common keys:

  --seed 1                        random seed for data order, noise and initial weights
  --data.files mine.txt           training text: text, JSON, CSV or Parquet files, or a save_to_disk folder
  --trainer.max_steps 2000        number of optimizer steps, where a cosine schedule ends; more extend a finished run
  --trainer.fast_dev_run true     test one training and one validation step; writes nothing
  --run.folder checkpoints/mine   folder for checkpoints, logs and samples
  --run.wandb false               disable logging to Weights & Biases

textflow check RECIPE validates a recipe first; textflow fit RECIPE --print-config prints every key."""


def fit(argv: list[str]) -> int:
    """Train a model from a recipe, or resume its run."""
    if not argv or {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    silence_warnings()
    from textflow.config import recipe
    from textflow.config.shipped import find_recipe

    config = recipe.load_recipe([argument for argument in argv if argument != "--print_config"])
    if "--print_config" in argv:
        print(recipe.dump(config))
        return 0
    with use_temporary_folder(config):
        return fit_config(config, read_title(find_recipe(argv[0])))


@contextmanager
def use_temporary_folder(config: Any) -> Iterator[None]:
    """Replace the run folder of a recipe by a temporary one for a fast_dev_run."""
    if not config.trainer.fast_dev_run:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        config.run.folder = folder
        yield


def silence_warnings() -> None:
    """Suppress advertisements and irrelevant warnings of Lightning."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*|.*tensorboardX.*|.*Sparse invariant.*")
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", ".*Mismatch dtype between input and weight.*|.*lr_scheduler.step.*")
    warnings.filterwarnings("ignore", ".*torch.distributed.* is deprecated.*|.*treespec, LeafSpec.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())


def fit_config(config: Any, title: str, prepare: Callable[[Any], None] = lambda model: None) -> int:
    """Train the model of a validated recipe; return 0, or 130 if it was interrupted.

    Args:
        config: validated recipe.
        title: title that is printed before the fit.
        prepare: function applied to the new model before a saved state is loaded.
    """
    from textflow.config.paths import make_absolute

    make_absolute(config)
    with lock_run(Path(config.run.folder)):
        return fit_locked(config, title, prepare)


def fit_locked(config: Any, title: str, prepare: Callable[[Any], None]) -> int:
    """Train as `fit_config` does, after the run folder is locked."""
    import lightning as L

    from textflow import run_folder
    from textflow.config import recipe
    from textflow.models.generator import Generator
    from textflow.runtime.atomic import atomic_write_text
    from textflow.training import CheckpointCallback
    from textflow.training.interrupt import StopRequested
    from textflow.training.wandb_server import wandb_mode

    run, text = Path(config.run.folder), recipe.dump(config)
    if config.run.wandb and not config.trainer.fast_dev_run:
        wandb_mode()  # raises an error for an unknown mode, before the text is read
    state = resume_point(run, text)
    if state:
        check_max_steps(run, state, config.trainer.max_steps)
    codec = None if state or config.trainer.fast_dev_run else codec_run_folder(config, run)
    if codec and is_recipe(config.codec):
        print(f"Fitting the codec first: {config.codec}")
        if code := fit_config(recipe.codec_recipe(config, codec), read_title(Path(config.codec))):
            return code

    L.seed_everything(config.seed, verbose=False)
    data, model, built = recipe.instantiate(config)
    trainer: Any = built
    if codec and isinstance(model, Generator):
        model.load_codec(run_folder.read_weights_file(codec))
    prepare(model)
    if state:
        check_same_tokenizer(run, data.tokenizer)
    saved = run / "recipe.yaml"
    previous = saved.read_text(encoding="utf-8") if state and saved.is_file() else text
    add_callbacks(trainer, config, run)
    checkpoints = [callback for callback in trainer.callbacks if isinstance(callback, CheckpointCallback)]
    if trainer.is_global_zero:
        print(f"{title}\nRun folder {run}{f', continued from {state.parent.name}' if state else ''}; recipe:\n\n{text}")
        run_folder.write_run(run, text, data.tokenizer, model, title)
    try:
        trainer.fit(model, data, ckpt_path=state)
    except StopRequested:  # in the middle of a validation; the state is saved
        return 130
    except Exception:
        if trainer.is_global_zero and not any(callback.has_started for callback in checkpoints):
            atomic_write_text(saved, previous)  # restore the recipe that the saved state belongs to
        raise
    if time_limit_reached(trainer) or any(callback.stopped for callback in checkpoints):
        return 130
    if not trainer.global_step and not trainer.fast_dev_run:
        raise ValueError("no training step was taken: increase trainer.limit_train_batches or trainer.max_time")
    if trainer.is_global_zero and not config.trainer.fast_dev_run:
        print_summary(run)
    return 0


def time_limit_reached(trainer: Any) -> bool:
    """True if max_time ended a run before its last step; prints how to resume it."""
    from lightning.pytorch.callbacks import Timer

    remaining = [timer.time_remaining() for timer in trainer.callbacks if isinstance(timer, Timer)]
    is_over = any(seconds is not None and seconds <= 0 for seconds in remaining)
    is_stopped = trainer.global_step < trainer.max_steps and is_over
    if is_stopped and trainer.is_global_zero:
        print(f"max_time is over at step {trainer.global_step} of {trainer.max_steps}; the same command resumes it")
    return is_stopped


def add_callbacks(trainer: Any, config: Any, run: Path) -> None:
    """Add checkpoints, samples, loggers (before the recipe's own), throughput and a progress bar to a trainer."""
    from textflow import training

    samples = training.SampleLogger(run, config.run.sample_every, config.run.num_samples)
    bar = [] if config.trainer.enable_progress_bar is False else [training.StepProgressBar()]
    checkpoints = training.CheckpointCallback(run, config.run.save_every, config.run.keep_checkpoints)
    trainer.callbacks += [training.ReseedEachBatch(config.seed), training.Throughput(), samples, *bar, checkpoints]
    if not trainer.fast_dev_run:
        loggers = training.make_loggers(run, config.run.wandb, config.run.wandb_project, config.run.wandb_group)
        trainer.loggers = [*loggers, *trainer.loggers]


def print_summary(run: Path) -> None:
    """Print the last samples and the commands to use next."""
    texts = sorted((run / "samples").glob("step-*.txt"))
    if texts:
        print(f"\nSamples ({texts[-1]}):\n\n{texts[-1].read_text(encoding='utf-8')}")
        name = shlex.quote(str(run))
        print(f"More: textflow sample {name} -n 16    Score: textflow eval {name}")
    print(f"Trained: {run}")


def codec_run_folder(config: Any, run: Path) -> Path | None:
    """Run folder of a recipe's codec: the run it gives, or RUN/codec for a codec recipe to fit first."""
    if not config.codec:
        return None
    from textflow.config.shipped import find_run

    return run / "codec" if is_recipe(config.codec) else find_run(config.codec)


def is_recipe(codec: str | None) -> bool:
    """True if a codec is given as a recipe rather than as a run."""
    return bool(codec) and str(codec).endswith((".yaml", ".yml"))
