"""textflow VERB ...: finds the verb, and turns a user's mistake into one line."""

import importlib
import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from inspect import Parameter, signature
from itertools import pairwise
from typing import Any, get_args

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
RUNLESS = ("diagnose", "sample")  # their run may be missing, so the parser takes it for an option
SEVERAL = ("compare", "report")  # RUN RUN ...
OVERLAID = ("sample", "eval", "diagnose")  # RUN OVERLAY ...: overlays follow the run


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
        return run(verb, rest) or 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("TEXTFLOW_TRACEBACK"):
            raise
        return fail(f"textflow {verb}: {error}")
    except Exception as error:
        if os.environ.get("TEXTFLOW_TRACEBACK"):
            raise
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
    if verb in RAW:
        return function(words)
    from jsonargparse import ArgumentError, auto_cli

    if verb in OVERLAID:
        words = overlaid(words)
    if verb in SEVERAL:
        words = overlaid(["", *words], "runs")[1:]
    if verb in RUNLESS and words and not words[0].startswith("-"):
        words = ["--run", *words]
    words = ["-" + word if len(word) == 2 and word[0] == "-" and word[1] not in "-h" else word for word in words]
    words = switched([underscored(word) for word in words], function)
    try:
        return auto_cli(function, args=words, prog=f"textflow {verb}", exit_on_error=False, as_positional=True)
    except ArgumentError as error:
        raise ValueError(f"{error}; see textflow {verb} --help") from error


def overlaid(words: list[str], name: str = "overlays") -> list[str]:
    """RUN a.yaml b.yaml --key value -> RUN --overlays+ a.yaml --overlays+ b.yaml --key value."""
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:1], *(part for word in words[1:count] for part in (f"--{name}+", word)), *words[max(count, 1) :]]


def underscored(word: str) -> str:
    """--prompt-file -> --prompt_file."""
    name, equals, value = word.partition("=")
    return (name[:2] + name[2:].replace("-", "_") if name.startswith("--") else name) + equals + value


def kinds(part: Parameter) -> tuple[Any, ...]:
    """What an argument may be."""
    return get_args(part.annotation) or (part.annotation,)


def switched(words: list[str], function: Callable[..., Any]) -> list[str]:
    """--quick -> --quick true, for an argument that is true or false and has no word after it."""
    names = {f"--{name}" for name, part in signature(function).parameters.items() if bool in kinds(part)}
    bare = [word in names and then.startswith("-") for word, then in pairwise([*words, "--"])]
    return [part for word, alone in zip(words, bare, strict=True) for part in ((word, "true") if alone else (word,))]


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
