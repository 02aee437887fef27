"""The words of a verb: as its user writes them, as the parser takes them, and what is said of those it refuses."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from inspect import Parameter, getdoc, signature
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

RUNLESS = ("diagnose", "sample")  # their run may be missing, so the parser takes it for an option
SEVERAL = ("compare", "report")  # RUN RUN ...
OVERLAID = ("sample", "eval", "diagnose")  # RUN OVERLAY ...: overlays follow the run
NEGATIVE = re.compile(r"-(\.?\d.*|inf|nan)")
KINDS: dict[Any, list[str]] = {
    int: ["a whole number"],
    float: ["a number"],
    bool: ["true", "false"],
    str: ["a text"],
    Path: ["a path"],
}


def parsed(verb: str, words: list[str], function: Callable[..., Any]) -> Any:
    """Call the function of a verb with what its words say; returns what it returns.

    Args:
        verb: its name.
        words: after it.
        function: whose arguments they name.
    """
    from jsonargparse import ArgumentError, auto_cli

    about: dict[str, Any] = {"prog": f"textflow {verb}", "usage": form(verb, function), "description": told(function)}
    try:
        return auto_cli(
            function, args=ready(verb, words, function), exit_on_error=False, formatter_class=formatter(), **about
        )
    except ArgumentError as error:
        raise ValueError(f"{refusal(str(error), verb, function)}; see textflow {verb} --help") from error


def form(verb: str, function: Callable[..., Any]) -> str:
    """How a verb is written, such as `textflow sample RUN [OVERLAY ...] [--key value ...]`."""
    needed = [name.upper() for name, part in arguments(function).items() if part.default is Parameter.empty]
    places = ["RUN [RUN ...]"] if verb in SEVERAL else ["RUN [OVERLAY ...]"] if verb in OVERLAID else needed
    return " ".join(["textflow", verb, *places, "[--key value ...]"])


def told(function: Callable[..., Any]) -> str:
    """What a docstring says before its arguments; the parser would take its first line alone."""
    return (getdoc(function) or "").split("\n\nArgs:")[0]


def formatter() -> Any:
    """The class that writes the help, with types by their bare names."""
    from jsonargparse import DefaultHelpFormatter

    class Plain(DefaultHelpFormatter):
        def _get_type_str(self, action: Any) -> str | None:
            said = super()._get_type_str(action)
            return said and re.sub(r"<class '([\w.]+)'>", r"\1", said)

    return Plain


def ready(verb: str, words: list[str], function: Callable[..., Any]) -> list[str]:
    """Words as the parser takes them."""
    if verb in OVERLAID:
        words = overlaid(words)
    if verb in SEVERAL:
        words = overlaid(["", *words], "runs")[1:]
    if verb in RUNLESS and words and not words[0].startswith("-"):
        words = ["--run", *words]
    return switched(joined([underscored(word) for word in words]), function)


def overlaid(words: list[str], name: str = "overlays") -> list[str]:
    """RUN a.yaml b.yaml --key value -> RUN --overlays+ a.yaml --overlays+ b.yaml --key value."""
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    return [*words[:1], *(part for word in words[1:count] for part in (f"--{name}+", word)), *words[max(count, 1) :]]


def underscored(word: str) -> str:
    """--prompt-file -> --prompt_file, and -n -> --n; -h and -1 stay."""
    name, equals, value = word.partition("=")
    if re.fullmatch("-[a-zA-Z]", name) and name != "-h":
        name = "-" + name
    return (name[:2] + name[2:].replace("-", "_") if name.startswith("--") else name) + equals + value


def joined(words: list[str]) -> list[str]:
    """--seed -1 -> --seed=-1; apart, the parser takes a negative number for an option."""
    made: list[str] = []
    for word in words:
        if made and NEGATIVE.fullmatch(word) and re.fullmatch(r"--\w+", made[-1]):
            made[-1] += f"={word}"
        else:
            made.append(word)
    return made


def switched(words: list[str], function: Callable[..., Any]) -> list[str]:
    """--quick -> --quick true, for an argument that is true or false and has no word after it."""
    names = {f"--{name}" for name, part in arguments(function).items() if "true" in choices(part.annotation)}
    bare = [word in names and then.startswith("-") for word, then in pairwise([*words, "--"])]
    return [part for word, alone in zip(words, bare, strict=True) for part in ((word, "true") if alone else (word,))]


def refusal(message: str, verb: str, function: Callable[..., Any]) -> str:
    """The parser's complaint in one line: the option, what was given, what is needed, the nearest.

    Args:
        message: of the parser.
        verb: whose words it refuses.
        function: of the verb.
    """
    known = arguments(function)
    if found := re.search(r"unrecognized arguments: (\S+)", message):
        return stray(found[1].partition("=")[0], verb, function)
    if found := re.search(r"arguments are required: ([\w, ]+)", message):
        return f"no {found[1].upper()}: {form(verb, function)}"
    if (found := re.search(r"argument --(\w+).*: expected one argument", message)) and found[1] in known:
        name, part = found[1], known[found[1]]
        hint = f" (one that begins with - as --{name}=-...)" if "a text" in choices(part.annotation) else ""
        return f"{written(name, part)} has no value, needs {needed(part)}{hint}"
    given = re.search(r"Given value: (.*)", message, re.S) or re.search(r"Got value: (.*)", message, re.S)
    if (found := re.search(r'Parser key "(\w+)"', message)) and given and found[1] in known:
        part, value = known[found[1]], " ".join(given[1].split())[:80]
        return f"{written(found[1], part)} is {value!r}, needs {needed(part)}{nearest(value, choices(part.annotation))}"
    return " ".join(message.split())[:600]


def stray(word: str, verb: str, function: Callable[..., Any]) -> str:
    """The line for a word that a verb has no place for."""
    if not word.startswith("-"):
        return f"no place for the word {word!r} in {form(verb, function)}"
    options = [written(name, part) for name, part in arguments(function).items() if part.default is not Parameter.empty]
    return f"no option {word}{nearest(word, options)}"


def arguments(function: Callable[..., Any]) -> dict[str, Parameter]:
    """The arguments of a function by their names."""
    return dict(signature(function).parameters)


def written(name: str, part: Parameter) -> str:
    """An argument as its user writes it: WHAT, -n, --steps."""
    return name.upper() if part.default is Parameter.empty else f"-{name}" if len(name) == 1 else f"--{name}"


def needed(part: Parameter) -> str:
    """What an argument may be, in words."""
    words = choices(part.annotation)
    return ("one of " if len(words) > 1 else "") + ", ".join(words)


def choices(kind: Any) -> list[str]:
    """The words that a type takes, or the type in words; None is never asked for."""
    if get_origin(kind) is Literal:
        return [str(value) for value in get_args(kind)]
    return KINDS.get(kind) or [word for part in get_args(kind) for word in choices(part)]


def nearest(word: str, known: list[str]) -> str:
    """` (did you mean ...?)`, or nothing where nothing is near."""
    near = get_close_matches(word, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""
