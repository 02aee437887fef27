"""Statistics of a row cache."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textflow.data.base import Document

MAX_NAMED = 3  # documents named for a reason
COPIES, LEAKS = "copies", "leaks"  # kinds of documents that equal an earlier one
REPEATED = {
    COPIES: "equal to an earlier document, in its split",
    LEAKS: "held out by the source and equal to a document of another split",
}


@dataclass
class DataStats:
    """Counts collected while a row cache was built; dictionaries are keyed by split unless noted."""

    source: str = ""
    vocab_size: int = 0
    seq_length: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    dropped_tokens: Counter[str] = field(default_factory=Counter)  # tokens of the last, incomplete row
    truncated: int = 0  # documents cut at the row's length
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    repeated: Counter[str] = field(default_factory=Counter)  # documents equal to an earlier one, by kind
    first: dict[str, list[str]] = field(default_factory=dict)  # origins of the first documents counted for a reason

    def count_skipped(self, reason: str, document: Document) -> None:
        """Count a document that is left out."""
        self._count(self.skipped, reason, document)

    def count_repeated(self, kind: str, document: Document) -> None:
        """Count a document that equals an earlier one."""
        self._count(self.repeated, kind, document)

    def _count(self, counter: Counter[str], reason: str, document: Document) -> None:
        counter[reason] += 1
        if len(origins := self.first.setdefault(reason, [])) < MAX_NAMED:
            origins.append(document.origin)

    def describe_skipped(self) -> str:
        """Summary of the skipped documents; empty if there are none."""
        return ", ".join(f"{n} {reason} {self._first(reason)}" for reason, n in self.skipped.items())

    def describe_repeated(self) -> str:
        """Summary of the documents that equal an earlier one; empty if there are none."""
        counts = (f"{n:,} {REPEATED.get(kind, kind)} {self._first(kind)}" for kind, n in self.repeated.items())
        return f"{', '.join(counts)}; to leave them out: --data.skip duplicates" if self.repeated else ""

    def _first(self, reason: str) -> str:
        return f"(first: {'; '.join(map(str, self.first.get(reason, [])))})"

    def reading_state(self) -> dict[str, Any]:
        """Counts of the documents read so far, as plain data for `resume_reading`."""
        first = {reason: list(origins) for reason, origins in self.first.items()}
        return {"skipped": dict(self.skipped), "repeated": dict(self.repeated), "first": first}

    def resume_reading(self, state: dict[str, Any]) -> None:
        """Continue to count after the documents of `reading_state`."""
        self.skipped.update(state["skipped"])
        self.repeated.update(state["repeated"])
        self.first.update(state["first"])

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> "DataStats":
        report = DataStats()
        try:
            for name, value in json.loads(path.read_text(encoding="utf-8")).items():
                field_type = type(getattr(report, name))
                setattr(report, name, field_type(value))
                if field_type is Counter and not all(isinstance(count, int) for count in value.values()):
                    raise ValueError(f"{name} does not hold counts")
                if field_type is dict and not all(isinstance(origins, list) for origins in value.values()):
                    raise ValueError(f"{name} does not hold lists")
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove the folder {path.parent}, and the same command builds it again"
            ) from error
        return report

    def __str__(self) -> str:
        tokens, documents, rows = (sum(part.values()) for part in (self.tokens, self.documents, self.rows))
        line = f"{self.source}: {documents:,} documents, {tokens:,} tokens, {rows:,} rows of {self.seq_length}"
        if self.truncated:
            line += f"; {self.truncated:,} documents cut at {self.seq_length} tokens"
        line += f"; skipped: {self.describe_skipped()}" if self.skipped else ""
        return line + (f"; repeated: {self.describe_repeated()}" if self.repeated else "")
