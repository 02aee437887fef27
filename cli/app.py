"""Entry point of textflow VERB ...: dispatch to the verb and report a user's mistake in one line."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from threading import current_thread, main_thread
from types import FrameType

from .parsing import normalize_recipe_argv, run_command

VERBS = {
    "fit": "train a model from a recipe, or resume its run: fit RECIPE [OVERLAY ...] [--key value]",
    "distill": "distil a trained run into students that need fewer sampling steps: distill RECIPE --teacher RUN",
    "check": "validate a recipe in seconds: files, tokenizer, shapes, memory, one training step",
    "sample": "generate texts with a run: sample RUN [OVERLAY ...] [-n 16 --steps 32 --seed 0 --out samples.jsonl]",
    "eval": "score a run or a text file under a protocol: perplexity, entropy, repetition and more",
    "compare": "print the evaluation records of runs in one table: compare RUN [RUN ...] [--published few_step]",
    "diagnose": "measure where and why sampling fails: diagnose RUN [OVERLAY ...], or diagnose --oracle chain",
    "report": "write an HTML page of results, curves and trajectories: report RUN [RUN ...] --out report.html",
    "reproduce": "draw the paper's figures, rank escapes, tabulate runs: reproduce fig2|...|escapes|systems [RUN ...]",
    "league": "train systems in equal time on one text whose truth is known, and compare them: league --minutes 10",
    "recipes": "list the recipes and overlays",
    "convert": "convert a published checkpoint into a run, or a run for transformers: convert elf SOURCE TARGET",
    "bench": "measure speed and memory against the reference implementation",
}
RECIPE_VERBS = ("fit", "distill", "check")  # these parse recipes from their arguments
TOO_DEEP = "a file is nested too deeply, or holds itself through a YAML alias; TEXTFLOW_TRACEBACK=1 shows where"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from textflow import __version__

        print(__version__)
        return 0
    # Spinning threads are slow on busy cores (measured: 4 times slower), so waiting threads sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        matches = get_close_matches(verb, VERBS, 1)
        return fail(
            f"no command {verb!r}" + (f"; did you mean {matches[0]!r}?" if matches else "; see textflow --help")
        )
    try:
        with handle_interrupts():
            return run_verb(verb, rest) or 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("TEXTFLOW_TRACEBACK"):
            raise
        if isinstance(error, RecursionError):
            return fail(f"textflow {verb}: {TOO_DEEP}")
        if isinstance(error, (ValueError, OSError, ImportError)):
            return fail(f"textflow {verb}: {error}")
        return fail(f"textflow {verb}: {describe_unexpected(error)}", 1)


def describe_unexpected(error: Exception) -> str:
    """Message for an unexpected error: a fault of textflow or of a user's own class."""
    from traceback import extract_tb

    last = extract_tb(error.__traceback__)[-1]
    message = " ".join(str(error).split())[:400]
    location = f"{os.path.basename(last.filename)}:{last.lineno}"
    return f"{type(error).__name__} at {location}: {message}; set TEXTFLOW_TRACEBACK=1 to see the traceback"


def run_verb(verb: str, argv: list[str]) -> int | None:
    """Call the function of a verb."""
    function = getattr(importlib.import_module(f"textflow.cli.{verb}"), verb)
    return function(normalize_recipe_argv(argv)) if verb in RECIPE_VERBS else run_command(verb, argv, function)


@contextmanager
def handle_interrupts() -> Iterator[None]:
    """Handle Ctrl-C with `raise_interrupt`, unless SIGINT is ignored or has another handler."""
    own = current_thread() is main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, raise_interrupt)
    try:
        yield
    finally:
        if own and signal.getsignal(signal.SIGINT) is raise_interrupt:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def raise_interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import exit at once, since libraries swallow exceptions there."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def usage() -> str:
    """Help text of `textflow --help`."""
    lines = [f"  {verb:<10}{line}" for verb, line in VERBS.items()]
    return "\n".join(["usage: textflow VERB ...", "", *lines, "", "textflow VERB --help shows the options of a verb."])


def fail(line: str, code: int = 2) -> int:
    """Print one line on stderr; return the exit code (2: a user's mistake, 1: an unexpected error)."""
    print(line, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
