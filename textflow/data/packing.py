"""Ids to rows: packed one after another, or a row each."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from textflow.data.base import Tokenizer
from textflow.data.row_file import Array, RowWriter, small
from textflow.data.tokenize import Encoded

HELD = 1 << 18  # ids of a part that wait to be written


@dataclass(frozen=True)
class Shape:
    """How documents become rows.

    Args:
        length: ids a row.
        pack: fill rows with one document after another; otherwise a row holds one document.
        given: most ids of a pair's source; None where documents are single texts. A row holds one pair.
    """

    length: int
    pack: bool
    given: int | None = None

    def key(self) -> dict[str, int]:
        """What the rows depend on."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Filler:
    """Fills the rows of one part from its documents' ids, in order."""

    def __init__(self, path: Path, tokenizer: Tokenizer, shape: Shape) -> None:
        self.shape, self.pad, self.type = shape, tokenizer.pad, small(tokenizer.vocab)
        self.pairs, self.one = shape.given is not None, tokenizer.eos == tokenizer.pad
        self.packs = shape.pack and not self.pairs
        self.writer = RowWriter(path, shape.length, self.type, self.pairs)
        self.waiting: list[Array] = []
        self.sources: list[int] = []  # lengths of the waiting pairs' sources
        self.held = self.documents = self.tokens = self.lost = self.truncated = 0

    def add(self, encoded: Encoded) -> None:
        """Add a document's ids, which end with eos; a source that is too long loses its end."""
        ids, given = encoded
        if self.shape.given is not None:
            given = min(given, self.shape.given)
            self.truncated += given < encoded.given
            ids = np.concatenate([ids[:given], ids[encoded.given :]])
            self.sources.append(given)
        self.documents += 1
        self.tokens += len(ids)
        self.waiting.append(ids)
        self.held += len(ids) if self.packs else self.shape.length
        if self.held >= HELD:
            self.flush()

    def flush(self) -> None:
        """Hand whole rows to the writer."""
        if not self.waiting:
            return
        sources = [np.array(self.sources, np.int32)] if self.pairs else []
        rows, lengths = self._packed() if self.packs else self._padded()
        self.held, self.sources = sum(len(ids) for ids in self.waiting), []
        if len(rows):
            self.writer.write(rows, lengths, *sources)

    def _packed(self) -> tuple[Array, Array]:
        flat, length = np.concatenate(self.waiting), self.shape.length
        whole = len(flat) // length
        self.waiting = [flat[whole * length :]]
        return flat[: whole * length].reshape(whole, length), np.full(whole, length, np.int32)

    def _padded(self) -> tuple[Array, Array]:
        length = self.shape.length
        rows = np.full((len(self.waiting), length), self.pad, self.type)
        for row, ids in zip(rows, self.waiting, strict=True):
            row[: len(ids)] = ids[:length]
        lengths = np.array([len(ids) for ids in self.waiting], np.int32)
        self.truncated += int((lengths > length + 1).sum())  # losing eos alone is no loss of text
        self.waiting = []
        if self.pairs and self.one:  # the eos of a pair is its first pad, as in ELF
            lengths = lengths - 1
        return rows, np.minimum(lengths, length)

    def __enter__(self) -> "Filler":
        self.writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.flush()
            self.lost = self.held
        self.writer.__exit__(*error)  # type: ignore[arg-type]
