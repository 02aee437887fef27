"""Loading: rows on disk -> a batch on the device."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from textflow.data import DataModule
from textflow.data.row_file import PackedBatch, RowFile, RowWriter, ids_dtype

from .benchmark import Benchmark
from .sizes import BenchConfig

BATCHES_PER_RUN = 20


class DataLoaderBenchmark(Benchmark):
    """Batches of text: compact ids and lengths are transferred, masks are built on the device; the reference turns
    lists of numbers into int64 ids and a dense attention mask."""

    def __init__(self, config: BenchConfig) -> None:
        super().__init__(config)
        s, self.folder = config.size, TemporaryDirectory()
        path, draw = Path(self.folder.name) / "rows.arrow", np.random.default_rng(0)
        kind = ids_dtype(s.vocab)
        self.row_lists = draw.integers(s.vocab, size=(BATCHES_PER_RUN * s.rows, s.length)).tolist()
        with RowWriter(path, s.length, kind) as writer:
            writer.write(np.array(self.row_lists, kind), np.full(len(self.row_lists), s.length, np.int32))
        self.row_file, self.module = RowFile(path), DataModule(seq_length=s.length, batch_size=s.rows)
        self.order = draw.permutation(len(self.row_lists)).reshape(BATCHES_PER_RUN, s.rows)
        self.bytes: dict[str, float] = {}

    def run(self, variant: str) -> None:
        load = self.run_optimized if variant == "optimized" else self.run_reference
        for rows in self.order:
            self.ids = load(rows.tolist())

    def run_optimized(self, rows: list[int]) -> Tensor:
        """Batch loaded by the data module."""
        packed = self.row_file[rows]
        self.bytes["optimized"] = num_bytes(packed.ids, packed.lengths)
        sent = PackedBatch(packed.ids.to(self.config.device), packed.lengths.to(self.config.device))
        return self.module.on_after_batch_transfer(sent, 0).ids

    def run_reference(self, rows: list[int]) -> Tensor:
        """Batch built from lists, with a mask [B, L, L]."""
        ids = torch.tensor([self.row_lists[row] for row in rows])
        mask = torch.ones(*ids.shape, ids.shape[1], dtype=torch.float32)
        self.bytes["reference"] = num_bytes(ids, mask)
        mask.to(self.config.device)
        return ids.to(self.config.device)

    def result(self, variant: str) -> Tensor:
        self.run(variant)
        return self.ids.flatten().double()

    def extra_numbers(self) -> dict[str, float]:
        sizes = {f"{variant}_mb_per_batch": value / 1e6 for variant, value in self.bytes.items()}
        return sizes | {"batches": float(BATCHES_PER_RUN)}


def num_bytes(*tensors: Tensor) -> float:
    """Bytes of all tensors."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
