"""textflow check RECIPE [OVERLAY ...] [--key value]"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

State = TypeVar("State")

HELP = """usage: textflow check RECIPE [OVERLAY ...] [--key value ...]

Validate a recipe in seconds, with the same arguments as `textflow fit`: the recipe parses, the text can be read, the
tokenizer reproduces it, shapes match and one training step succeeds. Prints memory and tokens. Leaves no files.

With --devices, plan a large job without its GPUs, its text or a network: memory per device, time from the FLOP formula.

  --devices 64           number of devices on all machines; requests the plan
  --epoch-tokens 9.04e9  number of tokens in an epoch, to estimate its time without the text
  --gpu H100             GPU whose peak FLOP/s the estimate assumes
  --mfu .4               fraction of the GPU's peak that training is assumed to reach (MFU)
  --vocab-size 32100     vocabulary size, if the tokenizer cannot be loaded"""


def check(argv: list[str]) -> int:
    """Validate a recipe, with the arguments after the verb; raise all errors together as a ValueError."""
    if not argv or {"-h", "--help"} & set(argv):
        print(HELP)
        return 0
    from .fit import silence_warnings

    silence_warnings()
    with silence_lightning(), tempfile.TemporaryDirectory() as folder:
        if any(argument.partition("=")[0] == "--devices" for argument in argv):
            os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported
            from . import plan

            run_checks(plan.STEPS, plan.parse_plan(argv))
        else:
            from .preflight import STEPS, CheckState

            run_checks(STEPS, CheckState(argv, Path(folder)))
    return 0


def run_checks(steps: Mapping[str, tuple[Callable[[State], str], set[str]]], state: State) -> None:
    """Run every step, with its function and prerequisites, whose prerequisites passed; raise the errors together."""
    passed, errors = set[str](), dict[str, Exception]()
    for name, (step, needs) in steps.items():
        if needs <= passed:
            try:
                print(f"ok   {name:<10}{step(state)}", flush=True)
                passed.add(name)
            except Exception as error:  # of any kind: a user's own class may raise any exception
                errors[name] = error
    if errors:
        messages = {name: " ".join(str(error).split())[:600] or type(error).__name__ for name, error in errors.items()}
        raise ValueError("\n".join(f"{name}: {line}" for name, line in messages.items())) from [*errors.values()][0]


@contextmanager
def silence_lightning() -> Iterator[None]:
    """Suppress Lightning's informational messages, which concern long runs."""
    names = ("lightning.pytorch.utilities.rank_zero", "lightning_utilities.core.rank_zero")
    levels = {logger: logger.level for logger in map(logging.getLogger, names)}
    try:
        for logger in levels:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
