"""Shards of tokenised documents, saved during a build: an interrupted build resumes after the last one."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from textflow.data.base import Document, Tokenizer
from textflow.data.splits import Splitter
from textflow.data.tokenize import EncodedDocument, encode_chunks
from textflow.runtime.atomic import atomic_write
from textflow.runtime.rank_zero import rank_zero_info, rank_zero_warn

MAX_CHARACTERS = 1 << 26  # maximum number of characters in a shard; all but the last shard are saved
ARRAYS = ("ids", "lengths", "source_lengths", "splits", "digests", "resume_state")  # arrays in a shard file


class TokenizedShard(NamedTuple):
    """Consecutive tokenised documents."""

    documents: list[tuple[str, EncodedDocument]]  # split and ids of each document
    digests: list[int]  # of their texts, by `Splitter`
    resume_state: dict[str, Any]  # position of the source after them and the counts skipped so far, as plain data


def tokenized_shards(
    splitter: Splitter,
    tokenizer: Tokenizer,
    check: Callable[[Document], None],
    folder: Path,
    num_proc: int | None,
) -> Iterator[TokenizedShard]:
    """Iterate over the tokenised documents of a source, in order: first the saved shards, then the rest, whose full
    shards are saved.

    Args:
        splitter: source and its splits; the source is read from the first document that is not saved.
        tokenizer: tokenizer, ready to encode.
        check: raises an error for a document that does not fit the rows.
        folder: folder of the saved shards.
        num_proc: number of processes that tokenise; default: all cores.
    """
    number, after = 0, None
    while (shard := read_shard(folder / shard_name(number))) is not None:
        splitter.resume((split for split, _ in shard.documents), shard.digests)
        yield shard
        number, after = number + 1, shard.resume_state
    for torn in folder.glob("shard-*"):
        if torn.name >= shard_name(number):
            torn.unlink()
    if after:
        splitter.stats.resume_reading(after["counts"])
        num_read = after["source_state"]["num_read"]
        rank_zero_info(f"resuming after {num_read:,} documents tokenised before an interruption")
    for shard in tokenize_shards(splitter, tokenizer, check, num_proc, after):
        if shard.resume_state:
            atomic_write(folder / shard_name(number), partial(write_shard, shard))
            number += 1
        yield shard


def tokenize_shards(
    splitter: Splitter,
    tokenizer: Tokenizer,
    check: Callable[[Document], None],
    num_proc: int | None,
    resume_state: dict[str, Any] | None,
) -> Iterator[TokenizedShard]:
    """Tokenise the shards after a position; the last shard ends the source and has no resume state."""
    reading = splitter.source.resume(resume_state["source_state"] if resume_state else None)

    def get_state() -> dict[str, Any]:
        return {"source_state": reading.state_dict(), "counts": splitter.stats.reading_state()}

    shard, size = TokenizedShard([], [], {}), 0
    for chunk, ids in encode_chunks(splitter.assign(reading, reading.num_read), tokenizer, num_proc, get_state):
        for (assignment, document), row in zip(chunk.documents, ids, strict=True):
            check(document)
            shard.documents.append((assignment.split, row))
            shard.digests.append(assignment.digest)
            size += document.num_characters
        if size >= MAX_CHARACTERS:
            yield shard._replace(resume_state=chunk.resume_state)
            shard, size = TokenizedShard([], [], {}), 0
    yield shard


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
            digests=np.array(shard.digests, np.uint64),
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
            ids, lengths, source_lengths, splits, digests, state = (file[key] for key in ARRAYS)
        rows = np.split(ids, np.cumsum(lengths)[:-1])
        triples = zip(splits.tolist(), rows, source_lengths.tolist(), strict=True)
        documents = [(split, EncodedDocument(row, n)) for split, row, n in triples]
        return TokenizedShard(documents, digests.tolist(), json.loads(str(state)))
    except Exception as error:  # a damaged archive raises many error types
        rank_zero_warn(f"{path} is damaged ({error}); tokenised again from there")
        return None
