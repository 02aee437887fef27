"""textflow check RECIPE [OVERLAY ...] [--key value]"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HELP = """usage: textflow check RECIPE [OVERLAY ...] [--key value ...]

Look a recipe over in seconds, with the words that `textflow fit` takes: it parses, its text can be read, the tokenizer
gives text back, shapes fit, one real step works; how much memory and how many tokens it takes. Nothing is kept."""


def check(words: list[str]) -> int:
    """Look a recipe over; what is wrong is a ValueError, raised once all that can be looked at has been.

    Args:
        words: recipe, overlays and --key value.
    """
    if not words or {"-h", "--help"} & set(words):
        print(HELP)
        return 0
    from textflow.cli.fit import quiet
    from textflow.cli.preflight import STEPS, Look

    quiet()
    good, bad = set[str](), dict[str, Exception]()
    with hushed(), tempfile.TemporaryDirectory() as folder:
        look = Look(words, Path(folder))
        for name, (step, needs) in STEPS.items():
            if needs <= good:
                try:
                    print(f"ok   {name:<10}{step(look)}", flush=True)
                    good.add(name)
                except Exception as error:  # of any kind: a part of the user's own may raise what it likes
                    bad[name] = error
    if bad:
        raise ValueError("\n".join(line(name, error) for name, error in bad.items())) from next(iter(bad.values()))
    return 0


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
