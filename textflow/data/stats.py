"""Statistics of a row cache."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from textflow.data.base import Document


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
    first_skipped: dict[str, str] = field(default_factory=dict)  # the first document skipped for a reason

    def count_skipped(self, reason: str, document: Document) -> None:
        """Count a document that is left out."""
        self.skipped[reason] += 1
        self.first_skipped.setdefault(reason, document.origin)

    def describe_skipped(self) -> str:
        """Summary of the skipped documents; empty if there are none."""
        return ", ".join(f"{n} {reason} (first: {self.first_skipped[reason]})" for reason, n in self.skipped.items())

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
        return line + (f"; skipped: {self.describe_skipped()}" if self.skipped else "")
