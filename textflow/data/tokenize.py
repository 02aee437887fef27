"""Tokenising in several processes, in order, with a bounded amount of text under way."""

import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, islice
from typing import Any, NamedTuple

import numpy as np

from textflow.data.base import Document, Tokenizer
from textflow.data.row_file import Array, small

CHARACTERS = 1 << 20  # of text in one chunk, as long as no document is longer


class Encoded(NamedTuple):
    """Ids of a document, eos last.

    Args:
        ids: of a pair those of its source come first.
        given: number of the source's ids.
    """

    ids: Array
    given: int = 0


class Chunk(NamedTuple):
    """Some documents that follow one another, each with its index.

    Args:
        documents: pairs (index, document).
        after: a mark of the place after them.
    """

    documents: list[tuple[int, Document]]
    after: Any = None


def chunks(documents: Iterator[tuple[int, Document]], mark: Callable[[], Any] = lambda: None) -> Iterator[Chunk]:
    """The documents in chunks of about CHARACTERS.

    Args:
        documents: pairs (index, document).
        mark: called after the last document of a chunk was read, and before the next one is.
    """
    held: list[tuple[int, Document]] = []
    size = 0
    for item in documents:
        held.append(item)
        size += len(item[1].text) + len(item[1].given or "")
        if size >= CHARACTERS:
            yield Chunk(held, mark())
            held, size = [], 0
    if held:
        yield Chunk(held, mark())


def ids_of(tokenizer: Tokenizer, documents: list[Document]) -> list[Encoded]:
    """The ids of each document, then eos, in their small type."""
    kind, eos = small(tokenizer.vocab), tokenizer.eos
    before = iter(tokenizer.encode([document.given for document in documents if document.given is not None]))
    texts = zip(documents, tokenizer.encode([document.text for document in documents]), strict=True)
    rows = ((next(before) if document.given is not None else [], ids) for document, ids in texts)
    return [Encoded(np.array([*given, *ids, eos], kind), len(given)) for given, ids in rows]


def encoded(
    documents: Iterator[tuple[int, Document]],
    tokenizer: Tokenizer,
    processes: int | None,
    mark: Callable[[], Any] = lambda: None,
) -> Iterator[tuple[Chunk, list[Encoded]]]:
    """Each chunk with its ids, in order. Processes are started only for more than one chunk."""
    todo = chunks(documents, mark)
    first = list(islice(todo, 2))
    count = min(processes or available(), 64) if len(first) > 1 else 1
    todo = chain(first, todo)
    if count == 1:
        yield from ((chunk, ids_of(tokenizer, [d for _, d in chunk.documents])) for chunk in todo)
    else:
        try:
            yield from spread(todo, tokenizer, count)
        except BrokenProcessPool:
            raise ValueError(
                f"one of {count} tokenising processes was killed; if memory ran out: --data.processes 1"
            ) from None


def spread(todo: Iterator[Chunk], tokenizer: Tokenizer, processes: int) -> Iterator[tuple[Chunk, list[Encoded]]]:
    """The same through a pool, at most two chunks a process under way; a killed process is an error, not a wait."""
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    waiting: deque[tuple[Chunk, Future[list[Encoded]]]] = deque()
    with ProcessPoolExecutor(processes, context, initializer=_take, initargs=(tokenizer,)) as pool:
        for chunk in todo:
            waiting.append((chunk, pool.submit(_encode, [document for _, document in chunk.documents])))
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
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    """Ends a worker whose parent was killed: it would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _encode(documents: list[Document]) -> list[Encoded]:
    return ids_of(_tokenizer, documents)
