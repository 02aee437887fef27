"""Rows of ids in a memory-mapped Arrow file."""

from collections.abc import Callable, Sequence
from functools import reduce
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

Array: TypeAlias = npt.NDArray[Any]
BATCH = 1 << 20  # ids in one record batch
SUM = b"crc32"  # names the checksum of a record batch


class Packed(NamedTuple):
    """Rows as they travel to the device: ids [B, L] in their small type, lengths [B] (what follows is padding), and for
    pairs the lengths of their sources [B], which come first."""

    ids: Tensor
    lengths: Tensor
    given: Tensor | None = None


def small(vocab: int) -> type[np.generic]:
    """The smallest type that holds all ids and that torch reads."""
    return np.uint16 if vocab < 65536 else np.int32


def view(column: Any) -> Array:
    """The values of a column where they lie; its own to_numpy imports pandas, half a second of every command."""
    values: Array = np.from_dlpack(column)
    return values


def checksum(batch: Any) -> int:
    """CRC-32 of a record batch's values."""
    arrays = [batch.column(0).values, *batch.columns[1:]]
    return reduce(lambda crc, array: crc32(view(array).data, crc), arrays, 0)


def arrow() -> Any:
    """The library pyarrow, imported when rows are written or read; its own types are incomplete."""
    return import_module("pyarrow")


class RowWriter:
    """Writes rows of exactly `length` ids; all record batches but the last hold the same number of rows.

    Args:
        path: of the file.
        length: ids a row.
        dtype: of the ids.
        pairs: whether rows begin with a source, whose length is kept, too.
    """

    def __init__(self, path: Path, length: int, dtype: type[np.generic], pairs: bool = False) -> None:
        pa = arrow()
        self.length, self.each = length, max(BATCH // length, 1)
        self.type = pa.list_(pa.from_numpy_dtype(dtype), length)
        counts = ["length", "given"] if pairs else ["length"]
        self.schema = pa.schema([("ids", self.type), *((name, pa.int32()) for name in counts)])
        self.writer = pa.ipc.new_file(str(path), self.schema)
        self.waiting: list[tuple[Array, ...]] = []  # ids [n, L], lengths [n], of pairs the sources' lengths [n]
        self.held = self.rows = 0

    def write(self, ids: Array, *counts: Array) -> None:
        """Add rows [n, L] with their lengths [n] and, of pairs, those of their sources [n]."""
        assert len(counts) == len(self.schema) - 1, "pairs, and only pairs, have a second length"
        self.waiting.append((ids, *counts))
        self.held += len(ids)
        self.rows += len(ids)
        while self.held >= self.each:
            self._flush(self.each)

    def _flush(self, count: int) -> None:
        pa = arrow()
        ids, *counts = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
        flat = pa.array(np.ascontiguousarray(ids[:count]).reshape(-1))
        columns = [pa.FixedSizeListArray.from_arrays(flat, self.length)]
        columns += [pa.array(lengths[:count], pa.int32()) for lengths in counts]
        batch = pa.record_batch(columns, schema=self.schema)
        self.writer.write_batch(batch, custom_metadata={SUM: str(checksum(batch)).encode()})
        self.waiting, self.held = [(ids[count:], *(lengths[count:] for lengths in counts))], len(ids) - count

    def close(self) -> None:
        """Write what is left and end the file."""
        if self.held:
            self._flush(self.held)
        self.writer.close()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.writer.close()


class RowFile(Dataset[Packed]):
    """The rows of a file, taken many at a time; a record batch is read whole once, to see that it is as it was written.

    Args:
        path: written by RowWriter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        pa = arrow()
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            length = reader.schema.field("ids").type.list_size
            found = [reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)]
            self.batches = [batch for batch, _ in found]
            self.sums = [None if note is None else note.get(SUM) for _, note in found]
            flat = [batch.column(0).values for batch in self.batches]
            self.ids = [view(ids).reshape(-1, length) for ids in flat]
            counts = range(1, len(reader.schema))
            self.counts = [[view(batch.column(i)) for batch in self.batches] for i in counts]
        except (OSError, ValueError, KeyError, AttributeError, TypeError, pa.ArrowException) as error:
            raise ValueError(damaged(path, " ".join(str(error).split())[:200])) from error
        self.seen: set[int] = set()  # batches that are as they were written
        self.each = len(self.ids[0]) if self.ids else 1
        self.rows = sum(len(ids) for ids in self.ids)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Sequence[int]) -> Packed:
        spots = [divmod(int(row), self.each) for row in rows]
        for batch in {batch for batch, _ in spots} - self.seen:
            if self.sums[batch] != str(checksum(self.batches[batch])).encode():
                raise ValueError(damaged(self.path, f"record batch {batch} does not have its checksum"))
            self.seen.add(batch)
        ids = np.stack([self.ids[batch][spot] for batch, spot in spots])
        counts = [np.array([count[batch][spot] for batch, spot in spots], np.int32) for count in self.counts]
        return Packed(torch.from_numpy(ids), *map(torch.from_numpy, counts))

    def __reduce__(self) -> tuple[Callable[[Path], "RowFile"], tuple[Path]]:
        return RowFile, (self.path,)  # a worker maps the file itself


def damaged(path: Path, why: str) -> str:
    """The error for a file of rows that is not as it was written."""
    return f"{path} is damaged ({why}); remove the folder {path.parent}, and the same command builds it anew"
