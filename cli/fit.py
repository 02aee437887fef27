"""textflow fit RECIPE [OVERLAY ...] [--key value]"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .recipes import title
from .resume import alone, refuse_another_tokenizer, resume_point

HELP = """usage: textflow fit RECIPE [OVERLAY ...] [--key value ...]

Train a recipe in its run folder (run.folder, by default checkpoints/<recipe>). The same command continues a run that
is unfinished, bit for bit; Ctrl-C saves and stops. Some keys:

  --seed 1                        another order, noise and initial weights
  --data.files mine.txt           your own text: .txt, .jsonl, .parquet, or a save_to_disk folder
  --trainer.max_steps 2000        a longer run; a finished one goes on
  --trainer.fast_dev_run true     one step of training and validation, nothing written
  --run.folder checkpoints/mine   another run folder
  --run.wandb false               no Weights & Biases

textflow check RECIPE looks it over first; textflow fit RECIPE --print_config shows every key."""


def fit(words: list[str]) -> int:
    """Train a recipe, or go on with its run.

    Args:
        words: recipe, overlays and --key value.
    """
    if not words or {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    show = "--print_config" in words
    quiet()
    from textflow.config import recipe

    config = recipe.read([word for word in words if word != "--print_config"])
    if show:
        print(recipe.write(config))
        return 0
    with tried(config):
        return fit_config(config, title(recipe.find(words[0])))


@contextmanager
def tried(config: Any) -> Iterator[None]:
    """What is only tried writes into a folder that is gone after it.

    Args:
        config: a recipe, whose run.folder that becomes.
    """
    if not config.trainer.fast_dev_run:
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        config.run.folder = folder
        yield


def quiet() -> None:
    """Lightning's adverts and hints that do not fit here."""
    warnings.filterwarnings("ignore", ".*does not have many workers.*|.*tensorboardX.*|.*Sparse invariant.*")
    warnings.filterwarnings("ignore", ".*in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", ".*Mismatch dtype between input and weight.*|.*lr_scheduler.step.*")
    warnings.filterwarnings("ignore", ".*torch.distributed.* is deprecated.*|.*treespec, LeafSpec.*")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda r: "litlogger" not in r.getMessage())


def fit_config(config: Any, name: str, prepare: Callable[[Any], None] = lambda model: None) -> int:
    """Train what a checked recipe describes; returns 0, or 130 where Ctrl-C stopped it.

    Args:
        config: the recipe.
        name: its title.
        prepare: is given the fresh model, before a saved state is loaded.
    """
    with alone(Path(config.run.folder)):
        return fit_alone(config, name, prepare)


def fit_alone(config: Any, name: str, prepare: Callable[[Any], None] = lambda model: None) -> int:
    """`fit_config`, once the run folder is ours."""
    import lightning as L

    from textflow import run_folder
    from textflow.config import recipe
    from textflow.models.generator import Generator
    from textflow.runtime.atomic import replace_text
    from textflow.training import Save

    run, text = Path(config.run.folder), recipe.write(config)
    state = resume_point(run, text)
    codec = None if state or config.trainer.fast_dev_run else codec_run(config, run)
    if codec and str(codec) != config.codec and (code := fit_codec(config, codec)):
        return code

    L.seed_everything(config.seed, verbose=False)
    data, model, built = recipe.build(config)
    trainer: Any = built
    if codec and isinstance(model, Generator):
        model.take_codec(run_folder.weights(codec))
    prepare(model)
    if state:
        refuse_another_tokenizer(run, data.tokenizer)
    saved = run / "recipe.yaml"
    kept = saved.read_text(encoding="utf-8") if state and saved.is_file() else text
    watch(trainer, config, run)
    if trainer.is_global_zero:
        print(f"{name}\nRun folder {run}{f', continued from {state.parent.name}' if state else ''}; recipe:\n\n{text}")
        run_folder.start(run, text, data.tokenizer, model, name)
    try:
        trainer.fit(model, data, ckpt_path=state)
    except Exception:
        if trainer.is_global_zero and not any(isinstance(each, Save) and each.begun for each in trainer.callbacks):
            replace_text(saved, kept)  # a state that was refused stays that of its recipe
        raise
    if out_of_time(trainer):
        return 130
    if any(isinstance(callback, Save) and callback.stopped for callback in trainer.callbacks):
        return 130
    if not trainer.global_step and not trainer.fast_dev_run:
        raise ValueError("no step was taken, so nothing is trained: give trainer.limit_train_batches and max_time more")
    if trainer.is_global_zero and not config.trainer.fast_dev_run:
        finish(run)
    return 0


def out_of_time(trainer: Any) -> bool:
    """Whether max_time ended a run before its last step, which is said: it is not trained yet."""
    from lightning.pytorch.callbacks import Timer

    left = [each.time_remaining() for each in trainer.callbacks if isinstance(each, Timer)]
    over = trainer.global_step < trainer.max_steps and any(seconds is not None and seconds <= 0 for seconds in left)
    if over and trainer.is_global_zero:
        print(f"max_time is over at step {trainer.global_step} of {trainer.max_steps}; the same command goes on")
    return over


def watch(trainer: Any, config: Any, run: Path) -> None:
    """Checkpoints, samples, logs (the recipe's loggers after ours), speed and a progress bar for a trainer."""
    from textflow.training import Progress, Samples, Save, Seeds, Speed, loggers

    ours = [Seeds(config.seed), Speed(), Samples(run, config.run.samples_every, config.run.samples)]
    bar = [] if config.trainer.enable_progress_bar is False else [Progress()]
    trainer.callbacks.extend([*ours, *bar, Save(run, config.run.save_every, config.run.keep)])
    if not trainer.fast_dev_run:
        ways = loggers(run, config.run.wandb, config.run.project, config.run.group)
        trainer.loggers = [*ways, *trainer.loggers]


def finish(run: Path) -> None:
    """Say what came out, and what to do with it."""
    texts = sorted((run / "samples").glob("step-*.txt"))
    if texts:
        print(f"\nSamples ({texts[-1]}):\n\n{texts[-1].read_text()}")
        print(f"More: textflow sample {run} -n 16    Score: textflow eval {run}")
    print(f"Trained: {run}")


def codec_run(config: Any, run: Path) -> Path | None:
    """The run of the codec that a recipe builds on: the one named, or the one to be fitted in the run's folder."""
    if not config.codec:
        return None
    return run / "codec" if config.codec.endswith((".yaml", ".yml")) else Path(config.codec)


def fit_codec(config: Any, folder: Path) -> int:
    """Fit the codec's recipe, or go on with it."""
    from textflow.config import recipe

    print(f"First the codec: {config.codec}")
    return fit_config(recipe.codec_of(config, folder), title(Path(config.codec)))
