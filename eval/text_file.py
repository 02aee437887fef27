"""Texts from a file, made by anything: what cannot be read is counted and named, never scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SHOWN = 3  # unreadable lines that are named


class Texts(NamedTuple):
    """What a file holds.

    Args:
        texts: one a readable line; an empty one is a sample too.
        ids: the generator's tokens of each, where every line has them.
        unreadable: where and why, one a line that could not be read.
    """

    texts: list[str]
    ids: list[list[int]] | None
    unreadable: list[str]

    def first(self, n: int) -> "Texts":
        """The first n of them."""
        return self._replace(texts=self.texts[:n], ids=None if self.ids is None else self.ids[:n])

    @property
    def named(self) -> list[str]:
        """The first unreadable lines, and how many more."""
        more = len(self.unreadable) - SHOWN
        return self.unreadable[:SHOWN] + ([f"and {more} more"] if more > 0 else [])


def read(path: Path) -> Texts:
    """The texts of a file.

    Args:
        path: .jsonl, a line each: a string, or an object with `text` and perhaps `ids`; any other file: a text a line.
    """
    parse = of_json if path.suffix == ".jsonl" else of_text
    texts: list[str] = []
    ids: list[list[int] | None] = []
    unreadable: list[str] = []
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), 1):
        found = attempt(parse, line)
        if isinstance(found, str):
            unreadable.append(f"{path.name}:{number} {found}")
        else:
            texts.append(found[0])
            ids.append(found[1])
    if not texts or not path.stat().st_size:
        why = "; ".join(unreadable[:SHOWN]) or "it is empty"
        raise ValueError(f"{path} holds no text that can be read ({why}); give .jsonl with a `text` a line, or .txt")
    whole = [row for row in ids if row is not None]
    return Texts(texts, whole if len(whole) == len(texts) else None, unreadable)


Parsed = tuple[str, list[int] | None]


def attempt(parse: Callable[[str], Parsed], line: bytes) -> Parsed | str:
    """What a line says, or why it cannot be read."""
    try:
        text, ids = parse(line.decode("utf-8"))
        text.encode("utf-8")
    except json.JSONDecodeError:
        return "is not JSON"
    except UnicodeError:
        return "is not UTF-8"
    except (KeyError, TypeError, ValueError):
        return "has no text"
    return text, ids


def of_text(line: str) -> Parsed:
    """A text, as it stands."""
    return line.removesuffix("\r"), None


def of_json(line: str) -> Parsed:
    """A string, or an object's `text` and `ids`."""
    said = json.loads(line)
    if isinstance(said, str):
        return said, None
    if not isinstance(said, dict) or not isinstance(said["text"], str):
        raise TypeError
    ids = said.get("ids")
    return said["text"], None if ids is None else [int(i) for i in ids]
