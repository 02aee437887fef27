"""Rows of ids in a memory-mapped Arrow file."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

Array: TypeAlias = npt.NDArray[Any]
BATCH = 1 << 20  # ids in one record batch


class Packed(NamedTuple):
    """Rows as they travel to the device: ids [B, L] in their small type, lengths [B] (what follows is padding)."""

    ids: Tensor
    lengths: Tensor


def small(vocab: int) -> type[np.generic]:
    """The smallest type that holds all ids and that torch reads."""
    return np.uint16 if vocab < 65536 else np.int32


def arrow() -> Any:
    """The library pyarrow, imported when rows are written or read; its own types are incomplete."""
    return import_module("pyarrow")


class RowWriter:
    """Writes rows of exactly `length` ids; all record batches but the last hold the same number of rows."""

    def __init__(self, path: Path, length: int, dtype: type[np.generic]) -> None:
        pa = arrow()
        self.length, self.each = length, max(BATCH // length, 1)
        self.type = pa.list_(pa.from_numpy_dtype(dtype), length)
        self.schema = pa.schema([("ids", self.type), ("length", pa.int32())])
        self.writer = pa.ipc.new_file(str(path), self.schema)
        self.waiting: list[tuple[Array, Array]] = []  # (ids [n, L], lengths [n])
        self.held = self.rows = 0

    def write(self, ids: Array, lengths: Array) -> None:
        """Add rows [n, L] with their lengths [n]."""
        self.waiting.append((ids, lengths))
        self.held += len(ids)
        self.rows += len(ids)
        while self.held >= self.each:
            self._flush(self.each)

    def _flush(self, count: int) -> None:
        pa = arrow()
        ids, lengths = (np.concatenate(part) for part in zip(*self.waiting, strict=True))
        flat = pa.array(np.ascontiguousarray(ids[:count]).reshape(-1))
        columns = [pa.FixedSizeListArray.from_arrays(flat, self.length), pa.array(lengths[:count], pa.int32())]
        self.writer.write_batch(pa.record_batch(columns, schema=self.schema))
        self.waiting, self.held = [(ids[count:], lengths[count:])], len(ids) - count

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
    """The rows of a file, taken many at a time; nothing but the rows asked for is read from disk.

    Args:
        path: written by RowWriter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        pa = arrow()
        reader = pa.ipc.open_file(pa.memory_map(str(path)))
        length = reader.schema.field("ids").type.list_size
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self.ids = [batch.column(0).values.to_numpy(zero_copy_only=True).reshape(-1, length) for batch in batches]
        self.lengths = [batch.column(1).to_numpy(zero_copy_only=True) for batch in batches]
        self.each = len(self.ids[0]) if self.ids else 1
        self.rows = sum(len(ids) for ids in self.ids)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: Sequence[int]) -> Packed:
        spots = [divmod(int(row), self.each) for row in rows]
        ids = np.stack([self.ids[batch][spot] for batch, spot in spots])
        lengths = np.array([self.lengths[batch][spot] for batch, spot in spots], np.int32)
        return Packed(torch.from_numpy(ids), torch.from_numpy(lengths))

    def __reduce__(self) -> tuple[Callable[[Path], "RowFile"], tuple[Path]]:
        return RowFile, (self.path,)  # a worker maps the file itself
