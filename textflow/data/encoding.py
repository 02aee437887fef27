"""Tokenising in several processes, in order, with a bounded amount of text under way."""

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import NamedTuple

import numpy as np

from .base import Document, Tokenizer
from .rows import Array, small

CHARACTERS = 1 << 20  # of text in one chunk, as long as no document is longer


class Chunk(NamedTuple):
    """Some documents that follow one another, each with its index."""

    documents: list[tuple[int, Document]]


def chunks(documents: Iterator[tuple[int, Document]]) -> Iterator[Chunk]:
    """The documents in chunks of about CHARACTERS."""
    held: list[tuple[int, Document]] = []
    size = 0
    for item in documents:
        held.append(item)
        size += len(item[1].text)
        if size >= CHARACTERS:
            yield Chunk(held)
            held, size = [], 0
    if held:
        yield Chunk(held)


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[Array]:
    """The ids of each text, then eos, in their small type."""
    kind = small(tokenizer.vocab)
    return [np.array([*ids, tokenizer.eos], kind) for ids in tokenizer.encode(texts)]


def encoded(
    documents: Iterator[tuple[int, Document]], tokenizer: Tokenizer, processes: int | None
) -> Iterator[tuple[Chunk, list[Array]]]:
    """Each chunk with its ids, in order. Processes are started only for more than one chunk."""
    todo = chunks(documents)
    first = list(islice(todo, 2))
    count = min(processes or available(), 64) if len(first) > 1 else 1
    todo = chain(first, todo)
    if count == 1:
        yield from ((chunk, ids_of(tokenizer, [d.text for _, d in chunk.documents])) for chunk in todo)
    else:
        try:
            yield from spread(todo, tokenizer, count)
        except BrokenProcessPool:
            raise ValueError(
                f"one of {count} tokenising processes was killed; if memory ran out: --data.processes 1"
            ) from None


def spread(todo: Iterator[Chunk], tokenizer: Tokenizer, processes: int) -> Iterator[tuple[Chunk, list[Array]]]:
    """The same through a pool, at most two chunks a process under way; a killed process is an error, not a wait."""
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    waiting: deque[tuple[Chunk, Future[list[Array]]]] = deque()
    with ProcessPoolExecutor(processes, context, initializer=_take, initargs=(tokenizer,)) as pool:
        for chunk in todo:
            waiting.append((chunk, pool.submit(_encode, [document.text for _, document in chunk.documents])))
            if len(waiting) > 2 * processes:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def available() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_tokenizer: Tokenizer  # of a worker process


def _take(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _encode(texts: list[str]) -> list[Array]:
    return ids_of(_tokenizer, texts)
