"""textflow check RECIPE [OVERLAY ...] [--key value]"""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HELP = """usage: textflow check RECIPE [OVERLAY ...] [--key value ...]

Look a recipe over in seconds, with the words that `textflow fit` takes: it parses, its text can be read, the tokenizer
gives text back, shapes fit, one real step works; how much memory and how many tokens it takes. Nothing is kept.

Plan a big job, without its hardware, text or network: memory a device under its engine, time by the FLOP formula.

  --devices 64     of all machines; this asks for a plan
  --tokens 9.04e9  of an epoch, for its time where the text is not at hand
  --card H100      whose peak is taken; --mfu .4 the share of it that is assumed
  --vocab 32100    number of ids, where the tokenizer is not at hand"""


def check(words: list[str]) -> int:
    """Look a recipe over; what is wrong is a ValueError, raised once all that can be looked at has been.

    Args:
        words: recipe, overlays and --key value.
    """
    if not words or {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    from .fit import quiet

    quiet()
    with hushed(), tempfile.TemporaryDirectory() as folder:
        if any(word.partition("=")[0] == "--devices" for word in words):
            os.environ["HF_HUB_OFFLINE"] = "1"  # before the library that obeys it is imported
            from . import plan

            walk(plan.STEPS, plan.asked(words))
        else:
            from .preflight import STEPS, Look

            walk(STEPS, Look(words, Path(folder)))
    return 0


def walk(steps: Mapping[str, tuple[Callable[[Any], str], set[str]]], state: Any) -> None:
    """Every step whose needs were met; prints the good ones and raises the bad ones together.

    Args:
        steps: by name: what is done, what must have gone well before.
        state: what the steps find out.
    """
    good, bad = set[str](), dict[str, Exception]()
    for name, (step, needs) in steps.items():
        if needs <= good:
            try:
                print(f"ok   {name:<10}{step(state)}", flush=True)
                good.add(name)
            except Exception as error:  # of any kind: a part of the user's own may raise what it likes
                bad[name] = error
    if bad:
        raise ValueError("\n".join(line(name, error) for name, error in bad.items())) from next(iter(bad.values()))


def line(name: str, error: Exception) -> str:
    """What went wrong in a step, in one line."""
    return f"{name}: {' '.join(str(error).split())[:600] or type(error).__name__}"


@contextmanager
def hushed() -> Iterator[None]:
    """Without the remarks that belong to a long run."""
    names = ("lightning.pytorch.utilities.rank_zero", "lightning_utilities.core.rank_zero")
    loggers = [(logger, logger.level) for logger in map(logging.getLogger, names)]
    try:
        for logger, _ in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in loggers:
            logger.setLevel(level)
