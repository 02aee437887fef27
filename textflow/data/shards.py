"""Shards of tokenised documents, saved during a build: an interrupted build resumes after the last one."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.stats import DataStats
from textflow.data.tokenize import EncodedDocument, encode_chunks
from textflow.runtime.atomic import atomic_write

MAX_CHARACTERS = 1 << 26  # maximum number of characters in a shard; all but the last shard are saved
ARRAYS = ("ids", "lengths", "source_lengths", "splits", "resume_state")  # arrays in a shard file


class TokenizedShard(NamedTuple):
    """Consecutive tokenised documents."""

    documents: list[tuple[str, EncodedDocument]]  # split and ids of each document
    resume_state: dict[str, Any]  # position of the source after them and the counts skipped so far, as plain data


def tokenized_shards(
    source: Source,
    tokenizer: Tokenizer,
    split_of: Callable[[int, Document], str],
    folder: Path,
    stats: DataStats,
    num_proc: int | None,
) -> Iterator[TokenizedShard]:
    """Iterate over the tokenised documents of a source, in order: first the saved shards, then the rest, whose full
    shards are saved.

    Args:
        source: source, read from the first document that is not saved.
        tokenizer: tokenizer, ready to encode.
        split_of: maps index and document to a split.
        folder: folder of the saved shards.
        stats: statistics that count skipped documents.
        num_proc: number of processes that tokenise; default: all cores.
    """
    number, after = 0, None
    while (shard := read_shard(folder / shard_name(number))) is not None:
        yield shard
        number, after = number + 1, shard.resume_state
    for torn in folder.glob("shard-*"):
        if torn.name >= shard_name(number):
            torn.unlink()
    if after:
        stats.skipped.update(after["skipped"])
        stats.first_skipped.update(after["first_skipped"])
        num_read = after["source_state"]["num_read"]
        rank_zero_info(f"resuming after {num_read:,} documents tokenised before an interruption")
    for shard in tokenize_shards(source, tokenizer, split_of, stats, num_proc, after):
        if shard.resume_state:
            atomic_write(folder / shard_name(number), partial(write_shard, shard))
            number += 1
        yield shard


def tokenize_shards(
    source: Source,
    tokenizer: Tokenizer,
    split_of: Callable[[int, Document], str],
    stats: DataStats,
    num_proc: int | None,
    resume_state: dict[str, Any] | None,
) -> Iterator[TokenizedShard]:
    """Tokenise the shards after a position; the last shard ends the source and has no resume state."""
    reading = source.resume(resume_state["source_state"] if resume_state else None)

    def get_state() -> dict[str, Any]:
        skipped = {"skipped": dict(stats.skipped), "first_skipped": dict(stats.first_skipped)}
        return {"source_state": reading.state_dict(), **skipped}

    pending: list[tuple[str, EncodedDocument]] = []
    size = 0
    for chunk, ids in encode_chunks(skip_empty(reading, stats, reading.num_read), tokenizer, num_proc, get_state):
        pending += [(split_of(i, document), row) for (i, document), row in zip(chunk.documents, ids, strict=True)]
        size += sum(document.num_characters for _, document in chunk.documents)
        if size >= MAX_CHARACTERS:
            yield TokenizedShard(pending, chunk.resume_state)
            pending, size = [], 0
    yield TokenizedShard(pending, {})


def skip_empty(documents: Iterator[Document], stats: DataStats, first_index: int = 0) -> Iterator[tuple[int, Document]]:
    """Number the documents from `first_index`; empty texts and pairs with an empty side are counted as skipped."""
    for index, document in enumerate(documents, first_index):
        if document.text.strip() and (document.source is None or document.source.strip()):
            yield index, document
        else:
            stats.count_skipped("empty", document)


def shard_name(number: int) -> str:
    """File name of a shard."""
    return f"shard-{number:06d}.npz"


def write_shard(shard: TokenizedShard, path: Path) -> None:
    """Write a shard as one file of plain arrays, each with a checksum."""
    rows = [row for _, row in shard.documents]
    with path.open("wb") as file:
        np.savez(
            file,
            ids=np.concatenate([row.ids for row in rows]),
            lengths=np.array([len(row.ids) for row in rows], np.int64),
            source_lengths=np.array([row.source_length for row in rows], np.int64),
            splits=np.array([split for split, _ in shard.documents]),
            resume_state=np.array(json.dumps(shard.resume_state)),
        )


def read_shard(path: Path) -> TokenizedShard | None:
    """Read a saved shard; None if it is missing or damaged, with a warning if damaged."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if (torn := file.zip.testzip()) is not None:  # also covers bytes that a damaged header skips
                raise ValueError(f"{torn} does not have its checksum")
            ids, lengths, source_lengths, splits, state = (file[key] for key in ARRAYS)
        rows = np.split(ids, np.cumsum(lengths)[:-1])
        triples = zip(splits.tolist(), rows, source_lengths.tolist(), strict=True)
        return TokenizedShard([(split, EncodedDocument(row, n)) for split, row, n in triples], json.loads(str(state)))
    except Exception as error:  # a damaged archive raises many error types
        rank_zero_warn(f"{path} is damaged ({error}); tokenised again from there")
        return None
