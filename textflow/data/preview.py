"""The beginning of a source: enough to try a recipe on, however large the whole is."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.build import Split
from textflow.data.fingerprint import fingerprint
from textflow.data.module import DataModule, too_few
from textflow.data.sources.hub import Hub
from textflow.data.sources.mixture import Mixture
from textflow.data.sources.pairs import Pairs
from textflow.data.tokenizers.sentencepiece import SentencePiece

CHARACTERS = 2_000_000  # of text that is tried at most


@dataclass(frozen=True)
class Head(Source):
    """The first documents of a source; a Hub set is streamed for them where it can be.

    Args:
        source: the whole.
        first: number of documents, at least 1.
        characters: no further document after this many, so that memory and time stay bounded.
    """

    source: Source
    first: int = 64
    characters: int = CHARACTERS

    def __post_init__(self) -> None:
        if self.first < 1 or self.characters < 1:
            raise ValueError(f"first={self.first} documents and {self.characters} characters: at least 1 is needed")

    def documents(self) -> Iterator[Document]:
        left = self.characters
        for document in islice(streamed(self.source), self.first):
            yield document
            left -= len(document.text)
            if left <= 0:
                return

    def key(self) -> str:
        return fingerprint("Head 1", self.source.key(), self.first, self.characters)


def streamed(source: Source) -> Iterator[Document]:
    """The documents of a source; a Hub set without a copy of the whole, unless only the copy can be read."""
    if isinstance(source, Mixture):
        return replace(source, sources={name: Streamed(part) for name, part in source.sources.items()}).documents()
    if not isinstance(source, Hub | Pairs) or source.streaming:
        return source.documents()
    stream = replace(source, streaming=True, split=source.split.split("[")[0]).documents()
    try:
        first = next(stream, None)
    except ValueError:  # no network, but perhaps a copy of an earlier day
        return source.documents()
    return iter(()) if first is None else joined(first, stream)


@dataclass(frozen=True)
class Streamed(Source):
    """A source without a copy of the whole.

    Args:
        source: the whole.
    """

    source: Source

    def documents(self) -> Iterator[Document]:
        return streamed(self.source)

    def key(self) -> str:
        return self.source.key()


def joined(first: Document, rest: Iterator[Document]) -> Iterator[Document]:
    """A document taken from an iterator, and what follows it."""
    yield first
    yield from rest


def begin(data: DataModule) -> bool:
    """Build rows from the beginning of the text, from more of it while it is too little; whether that is all of it.

    Args:
        data: its source, split, part and, where even CHARACTERS are too few for its pieces, its tokenizer are replaced.
    """
    source, split, part, first = data.source, data.split, data.part, 64
    while True:
        sizes = [len(document.text) for document in Head(source, first + 1).documents()]
        much = sum(sizes) >= CHARACTERS
        whole = len(sizes) <= first and not much
        data.source = Head(source, first)
        data.split, data.part = (split, part) if whole else (Split(0.0, 0.0), "train")
        fewer = stand_in(data.tokenizer) if much else None
        if attempt(data, last=whole or (much and fewer is None)):
            return whole
        if fewer is None:
            first *= 4
        else:
            data.tokenizer = fewer


def stand_in(tokenizer: Tokenizer) -> Tokenizer | None:
    """Half as many pieces, which need less text; None if there is no such tokenizer."""
    if not isinstance(tokenizer, SentencePiece) or tokenizer.model or tokenizer.vocab < 602:
        return None
    return SentencePiece(tokenizer.vocab // 2)


def attempt(data: DataModule, last: bool) -> bool:
    """Build the rows; whether that went well. The last attempt fails with its error."""
    try:
        data.prepare_data()
        data.setup()
        if not len(data.rows):
            raise ValueError(too_few(0, data.batch_size, data.part, data.shape.length))
        return True
    except ValueError:
        if last:
            raise
        return False
