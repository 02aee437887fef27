"""Texts from a file of any origin; unreadable lines are counted and listed, never scored."""

from pathlib import Path
from typing import NamedTuple

from textflow.data.entries import read_entries
from textflow.data.lines import TextEntry, text_of

MAX_LISTED = 3  # unreadable lines listed


class ParsedTexts(NamedTuple):
    """Parsed contents of a text file.

    Args:
        texts: one text per readable line or record; an empty text is a sample too.
        ids: generator tokens of each text, if every line has them.
        errors: location and reason, one per unreadable line or record.
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
    """Read the texts of a file: the lines of plain text, or of records the field `text` and, if all have it, `ids`."""
    texts: list[str] = []
    ids: list[list[int]] = []
    errors: list[str] = []
    for entry in read_entries(path):
        try:
            text, own_ids = text_of(entry), token_ids(entry)
        except ValueError as error:
            errors.append(str(error))
            continue
        texts.append(text)
        ids += [] if own_ids is None else [own_ids]
    if not texts:
        reason = "; ".join(errors[:MAX_LISTED]) or "it is empty"
        raise ValueError(f"{path} holds no text that can be read ({reason}); give .jsonl with a `text` a line, or .txt")
    return ParsedTexts(texts, ids if len(ids) == len(texts) else None, errors)


def token_ids(entry: TextEntry) -> list[int] | None:
    """Tokens of a record; None if it has none."""
    ids = entry.value.get("ids") if isinstance(entry.value, dict) else None
    try:
        return None if ids is None else [int(i) for i in ids]
    except (TypeError, ValueError):
        raise ValueError(f"{entry.origin}: `ids` are not a list of whole numbers") from None
