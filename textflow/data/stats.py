"""What was counted while rows were built."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from textflow.data.base import Document


@dataclass
class Report:
    """What was counted while a cache was built; by part where it is a dictionary."""

    source: str = ""
    vocab: int = 0
    length: int = 0
    documents: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)  # tokens of the last, incomplete row
    truncated: int = 0  # documents cut at the row's length
    skipped: Counter[str] = field(default_factory=Counter)  # by reason
    first: dict[str, str] = field(default_factory=dict)  # the first document skipped for a reason

    def skip(self, reason: str, document: Document) -> None:
        """Count a document that is left out."""
        self.skipped[reason] += 1
        self.first.setdefault(reason, document.origin)

    def skips(self) -> str:
        """The skipped documents in words, '' if there are none."""
        return ", ".join(f"{n} {reason} (first: {self.first[reason]})" for reason, n in self.skipped.items())

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(vars(self), indent=1) + "\n")

    @staticmethod
    def read(path: Path) -> "Report":
        report = Report()
        try:
            for name, value in json.loads(path.read_text(encoding="utf-8")).items():
                wanted = type(getattr(report, name))
                setattr(report, name, wanted(value))
                if wanted is Counter and not all(isinstance(count, int) for count in value.values()):
                    raise ValueError(f"{name} holds no counts")
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove the folder {path.parent}, and the same command builds it anew"
            ) from error
        return report

    def __str__(self) -> str:
        tokens, documents, rows = (sum(part.values()) for part in (self.tokens, self.documents, self.rows))
        line = f"{self.source}: {documents:,} documents, {tokens:,} tokens, {rows:,} rows of {self.length}"
        if self.truncated:
            line += f"; {self.truncated:,} documents cut at {self.length} tokens"
        return line + (f"; skipped: {self.skips()}" if self.skipped else "")
