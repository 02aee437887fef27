"""Loading: rows on disk -> a batch on the device."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor

from textflow.data import DataModule
from textflow.data.row_file import Packed, RowFile, RowWriter, small

from .benchmark import Contest
from .sizes import Setting

ROUNDS = 20  # batches a run


class Loading(Contest):
    """Batches of text: ids in their small type and lengths travel, masks are made on the device; plain turns lists of
    numbers into int64 ids and a dense mask of who sees whom."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        s, self.folder = setting.size, TemporaryDirectory()
        path, draw = Path(self.folder.name) / "rows.arrow", np.random.default_rng(0)
        kind = small(s.vocab)
        self.lists = draw.integers(s.vocab, size=(ROUNDS * s.rows, s.length)).tolist()
        with RowWriter(path, s.length, kind) as writer:
            writer.write(np.array(self.lists, kind), np.full(len(self.lists), s.length, np.int32))
        self.file, self.module = RowFile(path), DataModule(length=s.length, batch_size=s.rows)
        self.order = draw.permutation(len(self.lists)).reshape(ROUNDS, s.rows)
        self.bytes: dict[str, float] = {}

    def run(self, form: str) -> None:
        for rows in self.order:
            self.ids = self.lean(rows.tolist()) if form == "lean" else self.plain(rows.tolist())

    def lean(self, rows: list[int]) -> Tensor:
        """As a run loads them."""
        packed = self.file[rows]
        self.bytes["lean"] = size(packed.ids, packed.lengths)
        sent = Packed(packed.ids.to(self.setting.device), packed.lengths.to(self.setting.device))
        return self.module.on_after_batch_transfer(sent, 0).ids

    def plain(self, rows: list[int]) -> Tensor:
        """By lists, with a mask [B, L, L]."""
        ids = torch.tensor([self.lists[row] for row in rows])
        mask = torch.ones(*ids.shape, ids.shape[1], dtype=torch.float32)
        self.bytes["plain"] = size(ids, mask)
        mask.to(self.setting.device)
        return ids.to(self.setting.device)

    def answer(self, form: str) -> Tensor:
        self.run(form)
        return self.ids.flatten().double()

    def figures(self) -> dict[str, float]:
        return {f"{form}_mb_a_batch": value / 1e6 for form, value in self.bytes.items()} | {"batches": float(ROUNDS)}


def size(*tensors: Tensor) -> float:
    """Bytes."""
    return float(sum(tensor.numel() * tensor.element_size() for tensor in tensors))
