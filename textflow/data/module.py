"""The Lightning data module: any source, any tokenizer, exact order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader, DistributedSampler

from textflow.data.base import Source, Tokenizer
from textflow.data.build import Split, build, no_validation, rows_key
from textflow.data.fingerprint import fingerprint
from textflow.data.packing import Shape
from textflow.data.row_file import Packed, RowFile
from textflow.data.samplers import Endless, Once, refuse_another_batch, rows_a_step
from textflow.data.sources.bible import Bible
from textflow.data.sources.files import files_source
from textflow.data.stats import Report
from textflow.data.tokenizers.sentencepiece import SentencePiece
from textflow.types import Batch


class DataModule(L.LightningDataModule):
    """Text from a source, as batches of ids and mask. A run that is stopped anywhere goes on with the very next batch.

    Args:
        source: where documents come from.
        tokenizer: text to ids; SentencePiece is trained on the training documents.
        length: ids a row.
        batch_size: rows a batch on each device.
        files: your own text instead of `source`: .txt, .jsonl or .parquet files, folders of them,
            or a save_to_disk folder.
        pack: fill rows with documents, each ended by eos; otherwise a row holds one document. Pairs have a row each.
        validation: share of the documents that validation uses, in [0, 1); 0 is no validation.
        held_apart: share of the documents kept for a scorer, in [0, 1); nothing else sees them.
        part: what is trained on: train, or held_apart for a scorer.
        seed: another seed is another order of rows.
        workers: processes that load batches; 0 loads in the main process.
        processes: processes that tokenise; all cores unless given.
        cache: folder for rows and tokenizers; $TEXTFLOW_CACHE or ~/.cache/textflow unless given.
        given: of (source, target) pairs the most ids of a source, in [1, length): a row is the source, the target, eos.
    """

    def __init__(
        self,
        source: Source = Bible(),
        tokenizer: Tokenizer = SentencePiece(),
        length: int = 128,
        batch_size: int = 64,
        files: str | list[str] | None = None,
        pack: bool = True,
        validation: float = 0.02,
        held_apart: float = 0.0,
        part: Literal["train", "held_apart"] = "train",
        seed: int = 0,
        workers: int = 0,
        processes: int | None = None,
        cache: str | None = None,
        given: int | None = None,
    ) -> None:
        super().__init__()
        if length < 2 or batch_size < 1:
            raise ValueError(f"length={length} and batch_size={batch_size}: at least 2 and 1 are needed")
        if given is not None and not 0 < given < length:
            raise ValueError(
                f"given={given} of length={length}: a source needs at least 1 and leaves some to its target"
            )
        self.source = source if files is None else files_source(files)
        self.tokenizer = copy(tokenizer)  # it is prepared for this text alone
        self.shape, self.split = Shape(length, pack, given), Split(validation, held_apart)
        self.batch_size, self.part, self.seed = batch_size, part, seed
        self.workers, self.processes = workers, processes
        self.cache = Path(cache or os.environ.get("TEXTFLOW_CACHE") or "~/.cache/textflow").expanduser()
        self.report: Report | None = None
        self.start = 0  # rows used by all ranks before the present fit
        self.since: int | None = None  # batches that the trainer had counted then; None before a fit

    @property
    def vocab(self) -> int:
        """Number of ids; known without the text."""
        return self.tokenizer.vocab

    @property
    def folder(self) -> Path:
        """Where the rows are kept."""
        return self.cache / "rows" / rows_key(self.source, self.tokenizer, self.shape, self.split)

    def prepare_data(self) -> None:
        """Train the tokenizer and build the rows, where that has not been done."""
        with writable(self.cache):
            self._prepare_tokenizer()
            self.report = build(self.source, self.tokenizer, self.shape, self.split, self.folder, self.processes)
        rank_zero_info(str(self.report))

    def setup(self, stage: str | None = None) -> None:
        """Open the rows."""
        self._prepare_tokenizer()
        self.report = Report.read(self.folder / "report.json")
        self.rows = RowFile(self.folder / f"{self.part}.arrow")
        self.validation_rows = RowFile(self.folder / "validation.arrow")
        if stage == "fit" and self.since is not None:  # a new fit begins at the beginning, unless its state is loaded
            self.start, self.since = 0, None
        if self.split.validation and not len(self.validation_rows):
            raise ValueError(no_validation(self.report, self.split))

    def describe(self) -> dict[str, Any]:
        """What the data is, in short; after prepare_data()."""
        report = self.report or Report.read(self.folder / "report.json")
        return {
            "documents": report.documents.total(),
            "tokens": report.tokens[self.part],
            "rows": report.rows[self.part],
            "validation_rows": report.rows["validation"],
            "vocab": self.vocab,
            "truncated": report.truncated,
            "skipped": dict(report.skipped),
        }

    def first(self, rows: int, held_out: bool = False) -> Batch:
        """The first rows of the training part, in the order of the text; after setup().

        Args:
            rows: at most.
            held_out: of the validation part instead.
        """
        part = self.validation_rows if held_out else self.rows
        packed = part.__getitem__(list(range(min(rows, len(part)))))
        return self.on_after_batch_transfer(packed, 0)

    def train_dataloader(self) -> DataLoader[Packed]:
        rank, world = self._place()
        if len(self.rows) < self.batch_size * world:
            raise ValueError(too_few(len(self.rows), self.batch_size * world, self.part, self.shape.length))
        self.start, self.since = self.consumed(), self._batches()
        return self._loader(self.rows, Endless(len(self.rows), self.batch_size, self.seed, self.consumed, rank, world))

    def val_dataloader(self) -> DataLoader[Packed] | list[Any]:
        if not len(self.validation_rows):
            return []
        return self._loader(self.validation_rows, Once(len(self.validation_rows), self.batch_size, *self._place()))

    def on_after_batch_transfer(self, batch: Packed, dataloader_idx: int) -> Batch:
        """Ids as int64 and the masks, made on the device from what is small to send."""
        spots = torch.arange(batch.ids.shape[1], device=batch.ids.device)[None]
        fixed = None if batch.given is None else spots < batch.given[:, None]
        return Batch(batch.ids.long(), spots < batch.lengths[:, None], fixed)  # [B, L] each

    def consumed(self) -> int:
        """Rows that all ranks together have used, counted by the batches that are done."""
        if self.since is None:
            return self.start
        return self.start + (self._batches() - self.since) * self.batch_size * self._place()[1]

    def state_dict(self) -> dict[str, Any]:
        return {"consumed": self.consumed(), "rows": len(self.rows), "step": rows_a_step(self.trainer, self.batch_size)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        refuse_another_batch(state_dict.get("step", 0), rows_a_step(self.trainer, self.batch_size), self._place()[1])
        self.start, self.since = state_dict["consumed"], None
        was = state_dict.get("rows")
        if self.report and was not in (None, now := self.report.rows[self.part]):
            rank_zero_warn(f"the data has {now} rows, {was} when the state was saved: the order of rows is another one")

    def _prepare_tokenizer(self) -> None:
        name = fingerprint(self.source.key(), self.tokenizer.key(), self.split.validation, self.split.held_apart)
        self.tokenizer.prepare(lambda: self.split.texts(self.source), self.cache / "tokenizers" / name)

    def _batches(self) -> int:
        # `processed` grows between the optimizer's step and on_train_batch_end; checkpoints are written after that
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total if self.trainer else None
        return progress.processed if progress else 0

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, rows: RowFile, sampler: DistributedSampler[list[int]]) -> DataLoader[Packed]:
        pin = torch.cuda.is_available()
        return DataLoader(dataset=rows, sampler=sampler, batch_size=None, num_workers=self.workers, pin_memory=pin)


@contextmanager
def writable(cache: Path) -> Iterator[None]:
    """Say what to do where the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cannot write the cache {cache} ({error}); set --data.cache or TEXTFLOW_CACHE") from error


def too_few(rows: int, needed: int, part: str, length: int) -> str:
    """The error where an order would repeat a row within a batch."""
    return (
        f"the {part} part has {rows} rows of {length} tokens, fewer than a batch of {needed} over all devices; "
        f"give more text, or --data.batch_size {max(rows, 1)} or a smaller --data.length"
    )
