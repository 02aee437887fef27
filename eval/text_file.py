"""Texts from a file of any origin; unreadable lines are counted and listed, never scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

MAX_LISTED = 3  # unreadable lines listed


class ParsedTexts(NamedTuple):
    """Parsed contents of a text file.

    Args:
        texts: one text per readable line; an empty text is a sample too.
        ids: generator tokens of each text, if every line has them.
        errors: location and reason, one per unreadable line.
    """

    texts: list[str]
    ids: list[list[int]] | None
    errors: list[str]

    def take(self, n: int) -> "ParsedTexts":
        """First n texts."""
        return self._replace(texts=self.texts[:n], ids=None if self.ids is None else self.ids[:n])

    @property
    def listed_errors(self) -> list[str]:
        """First unreadable lines, and the number of others."""
        more = len(self.errors) - MAX_LISTED
        return self.errors[:MAX_LISTED] + ([f"and {more} more"] if more > 0 else [])


def read_texts(path: Path) -> ParsedTexts:
    """Read the texts of a file.

    Args:
        path: .jsonl with a string or an object {`text`, optional `ids`} per line; any other file: one text per line.
    """
    parse = parse_json if path.suffix == ".jsonl" else parse_text
    parsed: list[ParsedLine] = []
    errors: list[str] = []
    for number, line in enumerate(path.read_bytes().removesuffix(b"\n").split(b"\n"), 1):
        result = parse_line(parse, line)
        if isinstance(result, str):
            errors.append(f"{path.name}:{number} {result}")
        else:
            parsed.append(result)
    if not parsed or not path.stat().st_size:
        reason = "; ".join(errors[:MAX_LISTED]) or "it is empty"
        raise ValueError(f"{path} holds no text that can be read ({reason}); give .jsonl with a `text` a line, or .txt")
    ids = [row for _, row in parsed if row is not None]
    return ParsedTexts([text for text, _ in parsed], ids if len(ids) == len(parsed) else None, errors)


ParsedLine = tuple[str, list[int] | None]


def parse_line(parse: Callable[[str], ParsedLine], line: bytes) -> ParsedLine | str:
    """Parsed line, or the reason why it is unreadable."""
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


def parse_text(line: str) -> ParsedLine:
    """Parse a plain-text line."""
    return line.removesuffix("\r"), None


def parse_json(line: str) -> ParsedLine:
    """Parse a JSON string, or an object with `text` and `ids`."""
    data = json.loads(line)
    if isinstance(data, str):
        return data, None
    if not isinstance(data, dict) or not isinstance(data["text"], str):
        raise TypeError
    ids = data.get("ids")
    return data["text"], None if ids is None else [int(i) for i in ids]
