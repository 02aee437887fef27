"""Ordered tokenisation in several processes, with a bounded amount of text in memory."""

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
from textflow.data.row_file import Array, ids_dtype
from textflow.data.splits import Assignment

MAX_CHARACTERS = 1 << 20  # number of characters at which a chunk ends


class EncodedDocument(NamedTuple):
    """Ids of a document, eos last; for a pair, the source's ids come first."""

    ids: Array
    source_length: int = 0


class Chunk(NamedTuple):
    """Consecutive documents, each with its split, and the state to resume after them."""

    documents: list[tuple[Assignment, Document]]
    resume_state: Any = None


def iter_chunks(
    documents: Iterator[tuple[Assignment, Document]], get_state: Callable[[], Any] = lambda: None
) -> Iterator[Chunk]:
    """Group documents into chunks of about MAX_CHARACTERS; `get_state` is called before the next document is read."""
    pending: list[tuple[Assignment, Document]] = []
    size = 0
    for assignment, document in documents:
        pending.append((assignment, document))
        size += document.num_characters
        if size >= MAX_CHARACTERS:
            yield Chunk(pending, get_state())
            pending, size = [], 0
    if pending:
        yield Chunk(pending, get_state())


def encode_documents(tokenizer: Tokenizer, documents: list[Document]) -> list[EncodedDocument]:
    """Ids of each document followed by eos, in a small dtype."""
    kind, eos = ids_dtype(tokenizer.vocab_size), tokenizer.eos
    sources = iter(tokenizer.encode([document.source for document in documents if document.source is not None]))
    texts = zip(documents, tokenizer.encode([document.text for document in documents]), strict=True)
    rows = ((next(sources) if document.source is not None else [], ids) for document, ids in texts)
    return [EncodedDocument(np.array([*source, *ids, eos], kind), len(source)) for source, ids in rows]


def encode_chunks(
    documents: Iterator[tuple[Assignment, Document]],
    tokenizer: Tokenizer,
    num_proc: int | None,
    get_state: Callable[[], Any] = lambda: None,
) -> Iterator[tuple[Chunk, list[EncodedDocument]]]:
    """Encode chunks in order. Processes are started only for more than one chunk."""
    chunks = iter_chunks(documents, get_state)
    first = list(islice(chunks, 2))
    count = min(num_proc or available_cores(), 64) if len(first) > 1 else 1
    chunks = chain(first, chunks)
    if count == 1:
        yield from ((chunk, encode_documents(tokenizer, [d for _, d in chunk.documents])) for chunk in chunks)
        return
    try:
        yield from encode_in_pool(chunks, tokenizer, count)
    except BrokenProcessPool:
        reason = f"one of {count} tokenising processes was killed"
        raise ValueError(f"{reason}; if memory ran out: --data.num_proc 1") from None


def encode_in_pool(
    chunks: Iterator[Chunk], tokenizer: Tokenizer, num_proc: int
) -> Iterator[tuple[Chunk, list[EncodedDocument]]]:
    """Encode chunks in a process pool, at most two pending chunks a process; a killed process raises an error."""
    context = multiprocessing.get_context("fork" if sys.platform.startswith("linux") else "spawn")
    waiting: deque[tuple[Chunk, Future[list[EncodedDocument]]]] = deque()
    with ProcessPoolExecutor(num_proc, context, initializer=_init_worker, initargs=(tokenizer,)) as pool:
        for chunk in chunks:
            waiting.append((chunk, pool.submit(_encode, [document for _, document in chunk.documents])))
            if len(waiting) > 2 * num_proc:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def available_cores() -> int:
    """Number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_tokenizer: Tokenizer  # set in each worker process


def _init_worker(tokenizer: Tokenizer) -> None:
    global _tokenizer
    _tokenizer = tokenizer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit a worker whose parent was killed; it would otherwise wait for work forever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _encode(documents: list[Document]) -> list[EncodedDocument]:
    return encode_documents(_tokenizer, documents)
