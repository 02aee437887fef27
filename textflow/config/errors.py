"""One-line parser errors: the value found, the value needed and the closest valid name."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator

from jsonargparse import ArgumentParser

from textflow.models.base import Trainable

UNKNOWN_KEY_PATTERNS = (
    r"Option '([\w.]+)' is not accepted",
    r"[Uu]nrecognized arguments: --([\w.]+)",
    r"[Kk]ey '([\w.]+)' is not expected",
    r"Unexpected keys?:? ([\w.]+)",
    r"Expected a dot import path string: ([\w.]*\w)",
    r"does not accept option '([\w.]+)'",
)


def explain_parser_error(message: str, parser: ArgumentParser) -> str:
    """Rewrite a parser error as one line, with the closest valid key or value.

    Args:
        message: error message of the parser.
        parser: recipe parser that raised the error.
    """
    for pattern in UNKNOWN_KEY_PATTERNS:
        if match := re.search(pattern, message):
            return unknown_key_message(match[1], parser)
    where = ".".join(re.findall(r'Parser key "([\w.]+)"', message)) or "the recipe"
    if match := re.search(r"Expected a typing.Literal\[(.*?)\]\. Got value: (\S*\w)", message):
        choices = re.findall(r"'([^']*)'", match[1])
        return f"{where} is {match[2]!r}, needs one of {', '.join(choices)}{suggestion(match[2], choices)}"
    if match := re.search(r"arguments are required: ([\w, ]*\w)", message):
        return (
            f"{where} needs {match[1]}, which the recipe does not give (a codec's recipe is fitted through its parent)"
        )
    if match := re.search(r"Expected a <class '(\w+)'>\. Got value: (.*?)(?:\. Got value: .*)?$", message, re.M):
        return f"{where} is {match[2][:80]!r}, needs {match[1]}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip())[:600]


def unknown_key_message(name: str, parser: ArgumentParser) -> str:
    """Error line for an unknown key or class."""
    known = sorted(set(known_keys(parser)))
    sections = sorted({action.dest.split(".")[0] for action in parser._actions})
    first, last = name.split(".")[0], name.split(".")[-1]
    hint = "" if first in sections else suggestion(first, sections, 0.7)
    return f"unknown key or class {name!r}" + (hint or suggestion(name, known) or suggestion(last, known))


def suggestion(name: str, candidates: Iterable[str], cutoff: float = 0.5) -> str:
    """`; did you mean ...?`, or an empty string if no candidate is close."""
    near = difflib.get_close_matches(name, list(candidates), 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def known_keys(parser: ArgumentParser) -> Iterator[str]:
    """All valid recipe keys: section keys, class names and constructor arguments."""
    yield from (action.dest for action in parser._actions)
    yield from (action.dest.split(".")[-1] for action in parser._actions)
    for part in known_parts():
        yield part.__name__
        yield from list(inspect.signature(part).parameters)


def known_parts() -> Iterator[type]:
    """All classes that a recipe may name by class_path."""
    from textflow import (
        codecs,
        data,
        diagnostics,
        discrete,
        distill,
        escapes,
        nets,
        objectives,
        paths,
        readouts,
        samplers,
        schedules,
        training,
    )
    from textflow.distill import targets

    packages = (
        codecs,
        data,
        diagnostics,
        discrete,
        distill,
        targets,
        escapes,
        nets,
        objectives,
        paths,
        readouts,
        samplers,
        schedules,
        training,
    )
    for package in packages:
        yield from (part for part in vars(package).values() if isinstance(part, type))
    yield from subclasses(Trainable)


def subclasses(cls: type) -> Iterator[type]:
    """All direct and indirect subclasses of a class."""
    children: list[type] = cls.__subclasses__()
    for child in children:
        yield child
        yield from subclasses(child)
