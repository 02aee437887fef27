"""Row cache: documents are split, tokenised in several processes, packed and stored on disk under a key."""

import os
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

from tqdm.auto import tqdm  # type: ignore[import-untyped]

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.fingerprint import fingerprint
from textflow.data.packing import RowFormat, RowPacker
from textflow.data.shards import tokenized_shards
from textflow.data.splits import SPLITS, SplitRules, Splitter, no_documents_error
from textflow.data.stats import DataStats
from textflow.runtime.atomic import files_under, fsync
from textflow.runtime.lock import hold_lock

CACHE_VERSION = 3  # format version of the cache


def rows_key(source: Source, tokenizer: Tokenizer, row_format: RowFormat, rules: SplitRules) -> str:
    """Key of the row cache: a fingerprint of everything that the rows depend on."""
    return fingerprint(CACHE_VERSION, source.key(), tokenizer.key(), row_format.key(), asdict(rules))


def build(
    source: Source,
    tokenizer: Tokenizer,
    row_format: RowFormat,
    rules: SplitRules,
    folder: Path,
    num_proc: int | None = None,
) -> DataStats:
    """Build the folder of rows unless it exists. An interrupted build leaves no such folder, but its tokenised shards
    are kept, and the next build resumes after them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(folder.with_suffix(".lock")):
        if not (folder / "stats.json").is_file():
            building = folder.with_suffix(".building")
            shutil.rmtree(building / "rows", ignore_errors=True)
            (building / "rows").mkdir(parents=True)
            try:
                write_rows(source, tokenizer, row_format, rules, building, num_proc)
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
    rules: SplitRules,
    building: Path,
    num_proc: int | None,
) -> None:
    """Write the rows of every split and their statistics into building/rows; shards are cached in building."""
    report, folder = DataStats(type(source).__name__, tokenizer.vocab_size, row_format.seq_length), building / "rows"
    check = partial(check_pairs, source=report.source, row_format=row_format)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=source.count(), desc="tokenising", unit=" documents", disable=None))
        packers = {
            name: stack.enter_context(RowPacker(folder / f"{name}.arrow", tokenizer, row_format)) for name in SPLITS
        }
        splitter = Splitter(rules, source, report)
        for shard in tokenized_shards(splitter, tokenizer, check, building, num_proc):
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


def no_validation_error(stats: DataStats, rules: SplitRules) -> str:
    """Error message for a validation split without rows."""
    documents = f"{stats.documents['validation']} of {stats.documents.total()} documents"
    return (
        f"val_fraction={rules.val_fraction} takes {documents} with {stats.tokens['validation']} tokens, too few "
        f"for a row of {stats.seq_length}; raise --data.val_fraction, cut the text into more documents (TextFiles: "
        "separator=line), or turn it off with 0"
    )


def too_few_rows_error(num_rows: int, batch_size: int, num_devices: int, split: str, seq_length: int) -> str:
    """Error message for a split with fewer rows than a batch over all devices, each of which takes `batch_size`."""
    batch = f"--data.batch_size {num_rows // num_devices} or " if num_rows >= num_devices else ""
    devices = f"at most {num_rows} devices or " if 0 < num_rows < num_devices else ""
    needed = f"a batch of {batch_size * num_devices} over all devices"
    return (
        f"the {split} part has {num_rows} rows of {seq_length} tokens, fewer than {needed}; give more text, or "
        f"{batch}{devices}a smaller --data.seq_length"
    )
