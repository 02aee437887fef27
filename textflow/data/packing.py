"""Packing of token ids into rows of fixed length, or padding of one document to a row."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from textflow.data.base import Tokenizer
from textflow.data.row_file import Array, RowWriter, ids_dtype
from textflow.data.tokenize import EncodedDocument

FLUSH_IDS = 1 << 18  # number of pending ids of a split before they are written


@dataclass(frozen=True)
class RowFormat:
    """Layout of documents in rows.

    Args:
        seq_length: number of ids in a row.
        pack: fill each row with consecutive documents; otherwise a row holds one document.
        max_source_length: maximum number of ids of a pair's source; None for single texts. A row holds one pair.
    """

    seq_length: int
    pack: bool
    max_source_length: int | None = None

    def key(self) -> dict[str, int]:
        """Options that the rows depend on, for the cache key."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class RowPacker:
    """Fills the rows of one split with the ids of its documents, in order."""

    def __init__(self, path: Path, tokenizer: Tokenizer, row_format: RowFormat) -> None:
        self.row_format, self.pad, self.dtype = row_format, tokenizer.pad, ids_dtype(tokenizer.vocab_size)
        self.has_pairs, self.eos_is_pad = row_format.max_source_length is not None, tokenizer.eos == tokenizer.pad
        self.packs_documents = row_format.pack and not self.has_pairs
        self.writer = RowWriter(path, row_format.seq_length, self.dtype, self.has_pairs)
        self.pending: list[Array] = []
        self.source_lengths: list[int] = []  # source lengths of the pending pairs
        self.num_pending_ids = self.documents = self.tokens = self.dropped_tokens = self.truncated = 0

    def add(self, encoded: EncodedDocument) -> None:
        """Add a document's ids, which end with eos; a source that is too long is truncated."""
        ids, source_length = encoded
        if self.row_format.max_source_length is not None:
            source_length = min(source_length, self.row_format.max_source_length)
            self.truncated += source_length < encoded.source_length
            ids = np.concatenate([ids[:source_length], ids[encoded.source_length :]])
            self.source_lengths.append(source_length)
        self.documents += 1
        self.tokens += len(ids)
        self.pending.append(ids)
        self.num_pending_ids += len(ids) if self.packs_documents else self.row_format.seq_length
        if self.num_pending_ids >= FLUSH_IDS:
            self.flush()

    def flush(self) -> None:
        """Write the complete rows."""
        if not self.pending:
            return
        sources = [np.array(self.source_lengths, np.int32)] if self.has_pairs else []
        rows, lengths = self._packed() if self.packs_documents else self._padded()
        self.num_pending_ids, self.source_lengths = sum(len(ids) for ids in self.pending), []
        if len(rows):
            self.writer.write(rows, lengths, *sources)

    def _packed(self) -> tuple[Array, Array]:
        flat, length = np.concatenate(self.pending), self.row_format.seq_length
        num_rows = len(flat) // length
        self.pending = [flat[num_rows * length :]]
        return flat[: num_rows * length].reshape(num_rows, length), np.full(num_rows, length, np.int32)

    def _padded(self) -> tuple[Array, Array]:
        length = self.row_format.seq_length
        rows = np.full((len(self.pending), length), self.pad, self.dtype)
        for row, ids in zip(rows, self.pending, strict=True):
            row[: len(ids)] = ids[:length]
        lengths = np.array([len(ids) for ids in self.pending], np.int32)
        self.truncated += int((lengths > length + 1).sum())  # losing only eos does not lose text
        self.pending = []
        if self.has_pairs and self.eos_is_pad:  # the eos of a pair is its first pad, as in ELF
            lengths = lengths - 1
        return rows, np.minimum(lengths, length)

    def __enter__(self) -> "RowPacker":
        self.writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()
            self.dropped_tokens = self.num_pending_ids
        self.writer.__exit__(kind)
