"""Rows of ids in a memory-mapped Arrow file."""

from collections.abc import Callable, Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

Array: TypeAlias = npt.NDArray[Any]
BATCH_IDS = 1 << 20  # ids in one record batch
CHECKSUM_KEY = b"crc32"  # names the checksum of a record batch


class PackedBatch(NamedTuple):
    """Rows before the transfer to the device: ids [B, L] in a small dtype, lengths [B] (the rest is padding), and for
    pairs the lengths of their sources [B], which come first in the row."""

    ids: Tensor
    lengths: Tensor
    source_lengths: Tensor | None = None


def ids_dtype(vocab_size: int) -> type[np.generic]:
    """Smallest dtype that holds all ids and that torch supports."""
    return np.uint16 if vocab_size < 65536 else np.int32


def as_numpy(column: Any) -> Array:
    """Zero-copy view of a column; pyarrow's to_numpy would import pandas, which takes half a second."""
    return np.from_dlpack(column)


def checksum(batch: Any) -> int:
    """CRC-32 of a record batch's values."""
    arrays = [batch.column(0).values, *batch.columns[1:]]
    return reduce(lambda crc, array: crc32(as_numpy(array).data, crc), arrays, 0)


def import_pyarrow() -> Any:
    """Import pyarrow when rows are written or read; its own types are incomplete."""
    return import_module("pyarrow")


class RowWriter:
    """Writer of rows of `seq_length` ids, for pairs with the length of the source that begins the row; all record
    batches but the last hold the same number of rows."""

    def __init__(self, path: Path, seq_length: int, dtype: type[np.generic], pairs: bool = False) -> None:
        pa = import_pyarrow()
        self.seq_length, self.rows_per_batch = seq_length, max(BATCH_IDS // seq_length, 1)
        self.ids_type = pa.list_(pa.from_numpy_dtype(dtype), seq_length)
        counts = ["length", "source_length"] if pairs else ["length"]
        self.schema = pa.schema([("ids", self.ids_type), *((name, pa.int32()) for name in counts)])
        self.writer = pa.ipc.new_file(str(path), self.schema)
        self.pending: list[tuple[Array, ...]] = []  # ids [n, L], lengths [n], for pairs also source lengths [n]
        self.num_pending = self.rows = 0

    def write(self, ids: Array, *counts: Array) -> None:
        """Add rows [n, L] with their lengths [n] and, for pairs, their source lengths [n]."""
        assert len(counts) == len(self.schema) - 1, "pairs, and only pairs, have a second length"
        self.pending.append((ids, *counts))
        self.num_pending += len(ids)
        self.rows += len(ids)
        while self.num_pending >= self.rows_per_batch:
            self._flush(self.rows_per_batch)

    def _flush(self, count: int) -> None:
        pa = import_pyarrow()
        ids, *counts = (np.concatenate(part) for part in zip(*self.pending, strict=True))
        flat = pa.array(np.ascontiguousarray(ids[:count]).reshape(-1))
        columns = [pa.FixedSizeListArray.from_arrays(flat, self.seq_length)]
        columns += [pa.array(lengths[:count], pa.int32()) for lengths in counts]
        batch = pa.record_batch(columns, schema=self.schema)
        self.writer.write_batch(batch, custom_metadata={CHECKSUM_KEY: str(checksum(batch)).encode()})
        self.pending, self.num_pending = [(ids[count:], *(lengths[count:] for lengths in counts))], len(ids) - count

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Write the remaining rows, unless an error was raised, and close the file."""
        if kind is None and self.num_pending:
            self._flush(self.num_pending)
        self.writer.close()


class RowFile(Dataset[PackedBatch]):
    """Rows of a memory-mapped file of RowWriter; the checksum of a record batch is verified at its first use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        pa = import_pyarrow()
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            length = reader.schema.field("ids").type.list_size
            stored = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
            self.batches = [batch for batch, _ in stored]
            self.checksums = [None if note is None else note.get(CHECKSUM_KEY) for _, note in stored]
            flat = [batch.column(0).values for batch in self.batches]
            self.ids = [as_numpy(ids).reshape(-1, length) for ids in flat]
            counts = range(1, len(reader.schema))
            self.length_columns = [[as_numpy(batch.column(i)) for batch in self.batches] for i in counts]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, pa.ArrowException) as error:
            raise ValueError(damaged_error(path, " ".join(str(error).split())[:200])) from error
        self.verified: set[int] = set()  # indices of record batches whose checksum matched
        self.rows_per_batch = len(self.ids[0]) if self.ids else 1
        self.rows = sum(len(ids) for ids in self.ids)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Sequence[int]) -> PackedBatch:
        locations = [divmod(int(row), self.rows_per_batch) for row in rows]
        for batch in {batch for batch, _ in locations} - self.verified:
            if self.checksums[batch] != str(checksum(self.batches[batch])).encode():
                raise ValueError(damaged_error(self.path, f"record batch {batch} does not match its checksum"))
            self.verified.add(batch)
        ids = np.stack([self.ids[batch][i] for batch, i in locations])
        counts = [np.array([count[batch][i] for batch, i in locations], np.int32) for count in self.length_columns]
        return PackedBatch(torch.from_numpy(ids), *map(torch.from_numpy, counts))

    def __reduce__(self) -> tuple[Callable[[Path], "RowFile"], tuple[Path]]:
        return RowFile, (self.path,)  # each worker maps the file itself


def damaged_error(path: Path, why: str) -> str:
    """Error message for a damaged row file."""
    return f"{path} is damaged ({why}); remove the folder {path.parent}, and the same command builds it again"
