"""Lightning data module for any source and tokenizer, with exact resume."""

import os
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch.utils.data import DataLoader, DistributedSampler

from textflow.data.base import Source, Tokenizer
from textflow.data.build import CACHE_VERSION, build, no_validation_error, rows_key, too_few_rows_error
from textflow.data.fingerprint import fingerprint
from textflow.data.packing import RowFormat
from textflow.data.row_file import PackedBatch, RowFile
from textflow.data.samplers import InfiniteBatchSampler, SequentialBatchSampler, check_rows_per_step, rows_per_step
from textflow.data.sources.bible import Bible
from textflow.data.sources.files import source_from_files
from textflow.data.splits import SplitRules
from textflow.data.stats import DataStats
from textflow.data.tokenizers.sentencepiece import SentencePiece
from textflow.runtime.rank_zero import rank_zero_info, rank_zero_warn
from textflow.types import Batch


class DataModule(L.LightningDataModule):
    """Batches of ids and masks from a text source. A stopped run resumes with exactly the next batch.

    Args:
        source: source of the documents.
        tokenizer: tokenizer of the texts; SentencePiece is trained on the training documents.
        seq_length: number of ids in a row, at least 2.
        batch_size: number of rows in a batch on each device.
        files: files that replace `source`: text, JSON lines, a JSON array, CSV, TSV or Parquet, also compressed
            (.gz, .bz2, .xz, .zst); folders of them, or a save_to_disk folder.
        pack: fill each row with several documents, each ended by eos; otherwise, and for pairs, a row holds one.
        val_fraction: share of the documents used for validation, in [0, 1); 0 turns validation off.
        scorer_holdout: share of the documents reserved for training a scorer, in [0, 1).
        split: split to train on: train, or scorer_holdout for a scorer.
        seed: random seed of the row order.
        num_workers: number of processes that load batches; 0 loads them in the main process.
        num_proc: number of processes that tokenise; default: all cores.
        cache: folder for rows and tokenizers; default: $TEXTFLOW_CACHE or ~/.cache/textflow.
        max_source_length: maximum number of ids of a pair's source, in [1, seq_length); a row is source, target, eos.
        skip: documents to leave out and count: records that cannot be read (bad), documents that equal an earlier one
            (duplicates), or both. Default: the former are an error; the latter stay in the split of the first.
    """

    def __init__(
        self,
        source: Source = Bible(),
        tokenizer: Tokenizer = SentencePiece(),
        seq_length: int = 128,
        batch_size: int = 64,
        files: str | list[str] | None = None,
        pack: bool = True,
        val_fraction: float = 0.02,
        scorer_holdout: float = 0.0,
        split: Literal["train", "scorer_holdout"] = "train",
        seed: int = 0,
        num_workers: int = 0,
        num_proc: int | None = None,
        cache: str | None = None,
        max_source_length: int | None = None,
        skip: Literal["bad", "duplicates", "both"] | None = None,
    ) -> None:
        super().__init__()
        if seq_length < 2 or batch_size < 1:
            raise ValueError(f"seq_length={seq_length} and batch_size={batch_size}: at least 2 and 1 are needed")
        if max_source_length is not None and not 0 < max_source_length < seq_length:
            lengths = f"max_source_length={max_source_length} with seq_length={seq_length}"
            raise ValueError(f"{lengths}: a source needs at least 1 and leaves some to its target")
        self.source = source if files is None else source_from_files(files)
        self.tokenizer = copy(tokenizer)  # this copy is trained on this source alone
        self.row_format = RowFormat(seq_length, pack, max_source_length)
        self.split_rules = SplitRules(val_fraction, scorer_holdout, skip)
        self.batch_size, self.split, self.seed = batch_size, split, seed
        self.num_workers, self.num_proc = num_workers, num_proc
        self.cache = Path(cache or os.environ.get("TEXTFLOW_CACHE") or "~/.cache/textflow").expanduser()
        self.stats: DataStats | None = None
        self.rows_before_fit = 0  # rows used by all ranks before the current fit
        self.batches_before_fit: int | None = None  # the trainer's batch count at that point; None before a fit

    @property
    def vocab_size(self) -> int:
        """Number of ids; available before any text is read."""
        return self.tokenizer.vocab_size

    @property
    def has_validation(self) -> bool:
        """True if some rows are held out; needs setup()."""
        return len(self.validation_rows) > 0

    @property
    def rows_folder(self) -> Path:
        """Folder of the row cache."""
        return self.cache / "rows" / rows_key(self.source, self.tokenizer, self.row_format, self.split_rules)

    def prepare_data(self) -> None:
        """Train the tokenizer and build the rows unless they are cached."""
        try:
            self._prepare_tokenizer()
            parts = (self.source, self.tokenizer, self.row_format, self.split_rules)
            self.stats = build(*parts, self.rows_folder, self.num_proc)
        except OSError as error:
            reason = f"({error}); set --data.cache or TEXTFLOW_CACHE"
            raise ValueError(f"cannot write the cache {self.cache} {reason}") from error
        rank_zero_info(str(self.stats))

    def setup(self, stage: str | None = None) -> None:
        """Open the row files."""
        self._prepare_tokenizer()
        self.stats = DataStats.read(self.rows_folder / "stats.json")
        self.rows = RowFile(self.rows_folder / f"{self.split}.arrow")
        self.validation_rows = RowFile(self.rows_folder / "validation.arrow")
        if stage == "fit" and self.batches_before_fit is not None:  # a new fit, unless its state is loaded
            self.rows_before_fit, self.batches_before_fit = 0, None
        if self.split_rules.val_fraction and not len(self.validation_rows):
            raise ValueError(no_validation_error(self.stats, self.split_rules))

    def describe(self) -> dict[str, Any]:
        """Summary counts of the data; call prepare_data() first."""
        report = self.stats or DataStats.read(self.rows_folder / "stats.json")
        return {
            "documents": report.documents.total(),
            "tokens": report.tokens[self.split],
            "rows": report.rows[self.split],
            "validation_rows": report.rows["validation"],
            "vocab_size": self.vocab_size,
            "truncated": report.truncated,
            "skipped": dict(report.skipped),
            "repeated": dict(report.repeated),
        }

    def first_rows(self, num_rows: int, held_out: bool = False) -> Batch:
        """The first `num_rows` rows (or fewer) of the training or validation split, in file order; needs setup()."""
        part = self.validation_rows if held_out else self.rows
        return self.on_after_batch_transfer(part[range(min(num_rows, len(part)))], 0)

    def train_dataloader(self) -> DataLoader[PackedBatch]:
        rank, world = self._rank_and_world_size()
        if (num_rows := len(self.rows)) < self.batch_size * world:
            length = self.row_format.seq_length
            raise ValueError(too_few_rows_error(num_rows, self.batch_size, world, self.split, length))
        self.rows_before_fit, self.batches_before_fit = self.rows_consumed(), self._num_batches()
        sampler = InfiniteBatchSampler(len(self.rows), self.batch_size, self.seed, self.rows_consumed, rank, world)
        return self._loader(self.rows, sampler)

    def val_dataloader(self) -> DataLoader[PackedBatch] | list[Any]:
        if not len(self.validation_rows):
            return []
        sampler = SequentialBatchSampler(len(self.validation_rows), self.batch_size, *self._rank_and_world_size())
        return self._loader(self.validation_rows, sampler)

    def on_after_batch_transfer(self, batch: PackedBatch, dataloader_idx: int) -> Batch:
        """Ids as int64 and masks, built on the device to keep the transfer small."""
        positions = torch.arange(batch.ids.shape[1], device=batch.ids.device)[None]
        fixed = None if batch.source_lengths is None else positions < batch.source_lengths[:, None]
        return Batch(batch.ids.long(), positions < batch.lengths[:, None], fixed)  # [B, L] each

    def rows_consumed(self) -> int:
        """Number of rows that all ranks together have used, from the count of finished batches."""
        if self.batches_before_fit is None:
            return self.rows_before_fit
        batches = self._num_batches() - self.batches_before_fit
        return self.rows_before_fit + batches * self.batch_size * self._rank_and_world_size()[1]

    def state_dict(self) -> dict[str, Any]:
        step = rows_per_step(self.trainer, self.batch_size)
        return {"rows_consumed": self.rows_consumed(), "rows": len(self.rows), "rows_per_step": step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        current = rows_per_step(self.trainer, self.batch_size)
        check_rows_per_step(state_dict.get("rows_per_step", 0), current, self._rank_and_world_size()[1])
        self.rows_before_fit, self.batches_before_fit = state_dict["rows_consumed"], None
        saved_rows = state_dict.get("rows")
        if self.stats and saved_rows not in (None, now := self.stats.rows[self.split]):
            rank_zero_warn(f"the data has {now} rows, but {saved_rows} when the state was saved: the row order differs")

    def _prepare_tokenizer(self) -> None:
        name = fingerprint(CACHE_VERSION, self.source.key(), self.tokenizer.key(), asdict(self.split_rules))
        self.tokenizer.prepare(lambda: self.split_rules.texts(self.source), self.cache / "tokenizers" / name)

    def _num_batches(self) -> int:
        # `processed` grows between the optimizer's step and on_train_batch_end; checkpoints are written after that
        progress: Any = self.trainer.fit_loop.epoch_loop.batch_progress.total if self.trainer else None
        return progress.processed if progress else 0

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _loader(self, rows: RowFile, sampler: DistributedSampler[list[int]]) -> DataLoader[PackedBatch]:
        pin = torch.cuda.is_available()
        return DataLoader(dataset=rows, sampler=sampler, batch_size=None, num_workers=self.num_workers, pin_memory=pin)
