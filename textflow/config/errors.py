"""One-line parser errors: the value found, the value needed and the closest valid name."""

import difflib
import inspect
import re
from collections.abc import Iterable, Iterator

from jsonargparse import ArgumentParser

from textflow.models.base import Trainable
from textflow.runtime.lazy import import_names

UNKNOWN_KEY_PATTERNS = (
    r"Option '([\w.]+)' is not accepted",
    r"[Uu]nrecognized arguments: --([\w.]+)",
    r"[Kk]ey '([\w.]+)' is not expected",
    r"Unexpected keys?:? ([\w.]+)",
    r"Expected a dot import path string: ([\w.]*\w)",
    r"does not accept option '([\w.]+)'",
)
PART_PACKAGES = (
    *("codecs", "data", "diagnostics", "discrete", "distill", "distill.targets", "escapes", "nets"),
    *("objectives", "paths", "readouts", "samplers", "schedules", "training"),
)


def explain_parser_error(message: str, parser: ArgumentParser) -> str:
    """Rewrite the message of a parser error as one line, with the closest valid key or value."""
    for pattern in UNKNOWN_KEY_PATTERNS:
        if match := re.search(pattern, message):
            return unknown_key_message(match[1], parser)
    where = ".".join(re.findall(r'Parser key "([\w.]+)"', message)) or "the recipe"
    literal = r"typing\.Literal\[(.*?)\](?:\.|, <class 'NoneType'>\].*?)\s*(?:Given|Got) value: (\S*\w)"  # or null
    if match := re.search(literal, message, re.DOTALL):
        choices = re.findall(r"'([^']*)'", match[1])
        return f"{where} is {match[2]!r}, needs one of {', '.join(choices)}{suggestion(match[2], choices)}"
    if match := re.search(r"arguments are required: ([\w, ]*\w)", message):
        reason = "which the recipe does not give (a codec's recipe is fitted through its parent)"
        return f"{where} needs {match[1]}, {reason}"
    if match := re.search(r"Expected a <class '(\w+)'>\. Got value: (.*?)(?:\. Got value: .*)?$", message, re.M):
        return f"{where} is {match[2][:80]!r}, needs {match[1]}"
    if match := re.search(r"Parser key \"([\w.]+)\": Unable to load config ['\"](.*?)['\"]", message):
        files = f"; text of your own is --data.files {match[2]}" if match[1] == "data" else ""
        return f"{match[1]} is {match[2][:80]!r}, needs keys and values, as --{match[1]}.KEY VALUE{files}"
    if match := re.search(r"No module named .*?Got value: (\S*\w)", message):
        return f"{where} is {match[1]!r}, needs a class of textflow by name or of your own by module.Class"
    return " ".join(line.strip() for line in message.splitlines() if line.strip())[:600]


def unknown_key_message(name: str, parser: ArgumentParser) -> str:
    """Error line for an unknown key or class."""
    known = sorted(set(known_keys(parser)))
    sections = sorted({action.dest.split(".")[0] for action in parser._actions})
    first, last = name.split(".")[0], name.split(".")[-1]
    if name in {action.dest for action in parser._actions}:  # below a section, as `data: {run.folder: x}`
        below = f", or {last!r} below {first!r}" if last != name else ""
        return f"{name!r} is the full name of a key: write it at the top of the file{below}"
    if place := misplaced(last, parser):
        return f"unknown key or class {name!r}{place}"
    hint = "" if first in sections else suggestion(first, sections, 0.7)
    return f"unknown key or class {name!r}" + (hint or suggestion(name, known) or suggestion(last, known))


def misplaced(name: str, parser: ArgumentParser) -> str:
    """`; did you mean ...?` for a known name in a wrong place, or an empty string."""
    keys = sorted(action.dest for action in parser._actions if action.dest.split(".")[-1] == name)
    if keys:
        return f"; did you mean {' or '.join(map(repr, keys))}?"
    parts = {part.__name__: part for part in known_parts()}
    if name in parts:
        return f": the class {name} does not fit there"
    owners = sorted(part.__name__ for part in parts.values() if name in inspect.signature(part).parameters)
    others = " and others" if len(owners) > 3 else ""
    return f": {name} is an argument of {', '.join(owners[:3])}{others}; write it below its part" if owners else ""


def suggestion(name: str, candidates: Iterable[str], cutoff: float = 0.5) -> str:
    """`; did you mean ...?`, or an empty string if no candidate is close."""
    near = difflib.get_close_matches(name, list(candidates), 1, cutoff)
    return f"; did you mean {near[0]!r}?" if near else ""


def known_keys(parser: ArgumentParser) -> Iterator[str]:
    """All valid recipe keys: section keys, class names and constructor arguments."""
    yield from (name for action in parser._actions for name in (action.dest, action.dest.split(".")[-1]))
    yield from (name for part in known_parts() for name in (part.__name__, *inspect.signature(part).parameters))


def known_parts() -> Iterator[type]:
    """All classes that a recipe may name by class_path."""
    for name in PART_PACKAGES:
        yield from (part for part in import_names(f"textflow.{name}").values() if isinstance(part, type))
    yield from subclasses(Trainable)


def subclasses(cls: type) -> Iterator[type]:
    """All direct and indirect subclasses of a class."""
    children: list[type] = cls.__subclasses__()
    for child in children:
        yield child
        yield from subclasses(child)
