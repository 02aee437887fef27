"""Row cache: documents are split, tokenised in several processes, packed and stored on disk under a key."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.fingerprint import fingerprint
from textflow.data.packing import RowFormat, RowPacker
from textflow.data.shards import skip_empty, tokenized_shards
from textflow.data.stats import DataStats
from textflow.runtime.atomic import files_under, fsync

CACHE_VERSION = 2  # format version of the cache
FRACTION_SPLITS = ("train", "validation", "scorer_holdout")
SPLITS = (*FRACTION_SPLITS, "test")  # the test split is fixed by the source


@dataclass(frozen=True)
class SplitFractions:
    """Assignment of documents to splits, a function of the document index and these fractions alone.

    Args:
        val_fraction: share of the documents used for validation, in [0, 1).
        scorer_holdout: share of the documents that only a scorer is trained on, in [0, 1).
    """

    val_fraction: float
    scorer_holdout: float

    def __post_init__(self) -> None:
        fractions = (self.val_fraction, self.scorer_holdout)
        if not (min(fractions) >= 0 and sum(fractions) < 1):  # also refuses nan
            names = "val_fraction={} and scorer_holdout={}".format(*fractions)
            raise ValueError(f"{names} must leave some to train on")

    def split_of_index(self, index: int) -> str:
        """Split of the document with this index."""
        position = int.from_bytes(blake2b(index.to_bytes(8, "big"), digest_size=8).digest(), "big") / 2**64
        if position < self.val_fraction:
            return "validation"
        return "scorer_holdout" if position < self.val_fraction + self.scorer_holdout else "train"

    def split_of(self, index: int, document: Document) -> str:
        """Split of a document: the one that its source fixes, otherwise the one of its index."""
        return document.split or self.split_of_index(index)

    def texts(self, source: Source, split: str = "train") -> Iterator[str]:
        """Iterate over the non-empty texts of a split, both texts of a pair; raises if there are none."""
        report, is_empty = DataStats(type(source).__name__), True
        for index, document in skip_empty(source.documents(), report):
            if self.split_of(index, document) == split:
                is_empty = False
                yield from (text for text in (document.source, document.text) if text is not None)
        if is_empty:
            raise ValueError(no_documents_error(report, " to train" if split == "train" else f" for {split}"))


def rows_key(source: Source, tokenizer: Tokenizer, row_format: RowFormat, fractions: SplitFractions) -> str:
    """Key of the row cache: a fingerprint of everything that the rows depend on."""
    return fingerprint(CACHE_VERSION, source.key(), tokenizer.key(), row_format.key(), asdict(fractions))


def build(
    source: Source,
    tokenizer: Tokenizer,
    row_format: RowFormat,
    fractions: SplitFractions,
    folder: Path,
    num_proc: int | None = None,
) -> DataStats:
    """Build the folder of rows unless it exists. An interrupted build leaves no such folder, but its tokenised shards
    are kept, and the next build resumes after them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "stats.json").is_file():
            building = folder.with_suffix(".building")
            shutil.rmtree(building / "rows", ignore_errors=True)
            (building / "rows").mkdir(parents=True)
            try:
                write_rows(source, tokenizer, row_format, fractions, building, num_proc)
                shutil.rmtree(folder, ignore_errors=True)  # a folder without its statistics
                os.replace(building / "rows", folder)
            finally:
                if (folder / "stats.json").is_file() or not any(building.glob("shard-*")):
                    shutil.rmtree(building, ignore_errors=True)
    return DataStats.read(folder / "stats.json")


def write_rows(
    source: Source,
    tokenizer: Tokenizer,
    row_format: RowFormat,
    fractions: SplitFractions,
    building: Path,
    num_proc: int | None,
) -> None:
    """Write the rows of every split and their statistics into building/rows; shards are cached in building."""
    report, folder = DataStats(type(source).__name__, tokenizer.vocab_size, row_format.seq_length), building / "rows"

    def check_and_split(index: int, document: Document) -> str:
        check_pairs(document, report.source, row_format)
        return fractions.split_of(index, document)

    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=source.count(), desc="tokenising", unit=" documents", disable=None))
        packers = {
            name: stack.enter_context(RowPacker(folder / f"{name}.arrow", tokenizer, row_format)) for name in SPLITS
        }
        for shard in tokenized_shards(source, tokenizer, check_and_split, building, report, num_proc):
            for name, row in shard.documents:
                packers[name].add(row)
            bar.update(len(shard.documents))
    for name, packer in packers.items():
        report.documents[name], report.tokens[name] = packer.documents, packer.tokens
        report.rows[name], report.dropped_tokens[name] = packer.writer.rows, packer.dropped_tokens
        report.truncated += packer.truncated
    if not sum(report.documents.values()):
        raise ValueError(no_documents_error(report))
    report.write(folder / "stats.json")
    for path in files_under(folder):
        fsync(path)


def check_pairs(document: Document, source: str, row_format: RowFormat) -> None:
    """Require max_source_length for pairs, and refuse it for single texts."""
    if document.source is not None and row_format.max_source_length is None:
        raise ValueError(
            f"{source} gives pairs: set data.max_source_length, the most tokens of a source, below data.seq_length"
        )
    if document.source is None and row_format.max_source_length is not None:
        raise ValueError(
            f"data.max_source_length is {row_format.max_source_length}, but {source} gives single texts: leave it out, "
            "or choose a source of pairs, such as HubPairs or Verses"
        )


def no_documents_error(stats: DataStats, purpose: str = "") -> str:
    """Error message for a source without documents to use."""
    reason = f": {stats.describe_skipped()}" if stats.skipped else "; give more text"
    return f"{stats.source} gave no documents{purpose}{reason}"


def no_validation_error(stats: DataStats, fractions: SplitFractions) -> str:
    """Error message for a validation split without rows."""
    documents = f"{stats.documents['validation']} of {stats.documents.total()} documents"
    return (
        f"val_fraction={fractions.val_fraction} takes {documents} with {stats.tokens['validation']} tokens, too few "
        f"for a row of {stats.seq_length}; raise --data.val_fraction, cut the text into more documents (TextFiles: "
        "separator=line), or turn it off with 0"
    )


def too_few_rows_error(num_rows: int, rows_per_batch: int, split: str, seq_length: int) -> str:
    """Error message for a split with fewer rows than a batch over all devices."""
    return (
        f"the {split} part has {num_rows} rows of {seq_length} tokens, fewer than a batch of {rows_per_batch} over all "
        f"devices; give more text, or --data.batch_size {max(num_rows, 1)} or a smaller --data.seq_length"
    )
