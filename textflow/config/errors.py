"""A parser's complaint about a recipe in one line: what was found, what is known, the nearest."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator

from jsonargparse import ArgumentParser

from textflow.models.base import Trainable

UNKNOWN = (
    r"Option '([\w.]+)' is not accepted",
    r"[Uu]nrecognized arguments: --([\w.]+)",
    r"[Kk]ey '([\w.]+)' is not expected",
    r"Unexpected keys?:? ([\w.]+)",
    r"Expected a dot import path string: ([\w.]*\w)",
    r"does not accept option '([\w.]+)'",
)


def explain(message: str, checker: ArgumentParser) -> str:
    """The parser's error in one line, with the nearest valid key or value.

    Args:
        message: of the parser.
        checker: the parser.
    """
    for pattern in UNKNOWN:
        if found := re.search(pattern, message):
            return unknown(found[1], checker)
    where = ".".join(re.findall(r'Parser key "([\w.]+)"', message)) or "the recipe"
    if found := re.search(r"Expected a typing.Literal\[(.*?)\]\. Got value: (\S*\w)", message):
        choices = re.findall(r"'([^']*)'", found[1])
        return f"{where} is {found[2]!r}, needs one of {', '.join(choices)}{nearest(found[2], choices)}"
    if found := re.search(r"arguments are required: ([\w, ]*\w)", message):
        return (
            f"{where} needs {found[1]}, which the recipe does not give (a codec's recipe is fitted through its parent)"
        )
    if found := re.search(r"Expected a <class '(\w+)'>\. Got value: (.*?)(?:\. Got value: .*)?$", message, re.M):
        return f"{where} is {found[2][:80]!r}, needs {found[1]}"
    return " ".join(line.strip() for line in message.splitlines() if line.strip())[:600]


def unknown(wrong: str, checker: ArgumentParser) -> str:
    """The line for a key or class that nothing knows."""
    known = sorted(set(keys(checker)))
    sections = sorted({action.dest.split(".")[0] for action in checker._actions})
    first, last = wrong.split(".")[0], wrong.split(".")[-1]
    hint = "" if first in sections else nearest(first, sections, 0.7)
    return f"unknown key or class {wrong!r}" + (hint or nearest(wrong, known) or nearest(last, known))


def nearest(wrong: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """`; did you mean ...?`, or nothing where nothing is near."""
    near = difflib.get_close_matches(wrong, list(known), 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def keys(checker: ArgumentParser) -> Iterator[str]:
    """Every key that a recipe knows: those of the sections, and the arguments and names of all parts."""
    yield from (action.dest for action in checker._actions)
    yield from (action.dest.split(".")[-1] for action in checker._actions)
    for part in parts():
        yield part.__name__
        yield from list(inspect.signature(part).parameters)


def parts() -> Iterator[type]:
    """All classes that a recipe may name."""
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

    rooms = (
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
    for room in rooms:
        yield from (part for part in vars(room).values() if isinstance(part, type))
    yield from below(Trainable)


def below(kind: type) -> Iterator[type]:
    """The subclasses of a class, and theirs."""
    found: list[type] = kind.__subclasses__()
    for part in found:
        yield part
        yield from below(part)
