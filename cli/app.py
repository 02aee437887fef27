"""textflow VERB ...: finds the verb, and turns a user's mistake into one line."""

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from threading import current_thread, main_thread
from types import FrameType

from .parsing import parsed

VERBS = {
    "fit": "train a recipe, or continue its run: fit RECIPE [OVERLAY ...] [--key value]",
    "distill": "teach students of fewer steps: distill RECIPE --teacher RUN",
    "check": "look a recipe over in seconds: files, tokenizer, shapes, memory, one step",
    "sample": "write texts: sample RUN [OVERLAY ...] [-n 16 --steps 32 --seed 0 --out samples.jsonl]",
    "eval": "score a run or a file of texts by a protocol: perplexity with all that it must stand beside",
    "compare": "the kept records of several runs in one table: compare RUN [RUN ...] [--published few_step]",
    "diagnose": "where and why it fails: diagnose RUN [OVERLAY ...], or diagnose --world chain",
    "report": "one page of several runs: numbers, curves, the way of a sample: report RUN [RUN ...] --out report.html",
    "reproduce": "draw the paper's figures and the ranking of escapes: reproduce escapes|fig2|...|all [--run RUN]",
    "recipes": "list the recipes",
    "convert": "another repository's checkpoint -> a textflow folder: convert elf SOURCE TARGET",
    "bench": "measure speed and memory against the plain version",
}
RAW = ("fit", "distill", "check")  # these read recipes from their words
DEEP = "what it reads is nested too deeply, or holds itself, as a YAML alias can; TEXTFLOW_TRACEBACK=1 shows where"


def main(words: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = sys.argv[1:] if words is None else words
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] == "--version":
        from textflow import __version__

        print(__version__)
        return 0
    # Threads that spin while they wait for each other crawl where the cores have other work, too (measured: 4 times).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    verb, rest = words[0], words[1:]
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, 1)
        return fail(f"no command {verb!r}" + (f"; did you mean {near[0]!r}?" if near else "; see textflow --help"))
    try:
        with interruptible():
            return run(verb, rest) or 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if os.environ.get("TEXTFLOW_TRACEBACK"):
            raise
        if isinstance(error, RecursionError):
            return fail(f"textflow {verb}: {DEEP}")
        if isinstance(error, (ValueError, OSError, ImportError)):
            return fail(f"textflow {verb}: {error}")
        return fail(f"textflow {verb}: {unforeseen(error)}", 1)


def unforeseen(error: Exception) -> str:
    """What is said of an error that nobody thought of: a fault of textflow, or of a part from outside."""
    from traceback import extract_tb

    last = extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())[:400]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    return f"{type(error).__name__} at {where}: {said}; the same command with TEXTFLOW_TRACEBACK=1 shows the way there"


def run(verb: str, words: list[str]) -> int | None:
    """Call the function of a verb."""
    function = getattr(importlib.import_module(f"textflow.cli.{verb}"), verb)
    return function(words) if verb in RAW else parsed(verb, words, function)


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is `stop`'s until someone else takes it; where it is ignored or another's already, it stays so."""
    own = current_thread() is main_thread() and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if own:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        if own and signal.getsignal(signal.SIGINT) is stop:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def stop(number: int, frame: FrameType | None) -> None:
    """Ends the process while it imports, since libraries swallow what is raised there; raises otherwise."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt


def usage() -> str:
    """What `textflow --help` prints."""
    lines = [f"  {verb:<10}{line}" for verb, line in VERBS.items()]
    return "\n".join(["usage: textflow VERB ...", "", *lines, "", "textflow VERB --help tells more."])


def fail(line: str, code: int = 2) -> int:
    """One line on stderr; the exit code: 2 for a user's mistake, 1 for what was not foreseen."""
    print(line, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
