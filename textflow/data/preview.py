"""Preview of a source: its first documents, enough to try a recipe on a source of any size."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.build import too_few_rows_error
from textflow.data.fingerprint import fingerprint
from textflow.data.module import DataModule
from textflow.data.sources.hub import HubDataset
from textflow.data.sources.mixture import Mixture
from textflow.data.sources.pairs import HubPairs
from textflow.data.splits import SplitRules
from textflow.data.tokenizers.sentencepiece import SentencePiece

MAX_CHARACTERS = 2_000_000  # maximum number of characters in a preview


@dataclass(frozen=True)
class FirstDocuments(Source):
    """First documents of a source; a Hub data set is streamed where possible.

    Args:
        source: the full source.
        num_documents: number of documents, at least 1.
        max_characters: number of characters after which no further document is read, to bound memory and time.
    """

    source: Source
    num_documents: int = 64
    max_characters: int = MAX_CHARACTERS

    def __post_init__(self) -> None:
        if self.num_documents < 1 or self.max_characters < 1:
            numbers = f"num_documents={self.num_documents} documents and {self.max_characters} characters"
            raise ValueError(f"{numbers}: at least 1 is needed")

    def documents(self) -> Iterator[Document]:
        left = self.max_characters
        for document in islice(stream_documents(self.source), self.num_documents):
            yield document
            left -= len(document.text)
            if left <= 0:
                return

    def key(self) -> str:
        return fingerprint("FirstDocuments 1", self.source.key(), self.num_documents, self.max_characters)


def stream_documents(source: Source) -> Iterator[Document]:
    """Iterate over a source; a Hub data set is streamed instead of downloaded, unless only a local copy can be read."""
    if isinstance(source, Mixture):
        parts: dict[str, Source] = {name: StreamingSource(part) for name, part in source.sources.items()}
        return replace(source, sources=parts).documents()
    if not isinstance(source, HubDataset | HubPairs) or source.streaming:
        return source.documents()
    stream = replace(source, streaming=True, split=source.split.split("[")[0]).documents()
    try:
        first = next(stream, None)
    except ValueError:  # no network, but there may be a local copy
        return source.documents()
    return iter(()) if first is None else chain([first], stream)


@dataclass(frozen=True)
class StreamingSource(Source):
    """A source that is streamed where possible."""

    source: Source

    def documents(self) -> Iterator[Document]:
        return stream_documents(self.source)

    def key(self) -> str:
        return self.source.key()


def build_preview(data: DataModule) -> bool:
    """Build rows from the first documents, adding more while they are too few; True if all documents were used.

    Args:
        data: data module, changed in place: its source, split_rules and split, and its tokenizer where
            MAX_CHARACTERS are too few to train it.
    """
    source, split, part, first = data.source, data.split_rules, data.split, 64
    while True:
        sizes = [len(document.text) for document in FirstDocuments(source, first + 1).documents()]
        at_limit = sum(sizes) >= MAX_CHARACTERS
        complete = len(sizes) <= first and not at_limit
        data.source = FirstDocuments(source, first)
        data.split_rules, data.split = (split, part) if complete else (SplitRules(0.0, 0.0, split.skip), "train")
        smaller = smaller_tokenizer(data.tokenizer) if at_limit else None
        if try_build(data, last=complete or (at_limit and smaller is None)):
            return complete
        if smaller is None:
            first *= 4
        else:
            data.tokenizer = smaller


def smaller_tokenizer(tokenizer: Tokenizer) -> Tokenizer | None:
    """SentencePiece tokenizer with half as many pieces, which needs less text; None where it cannot be halved."""
    if not isinstance(tokenizer, SentencePiece) or tokenizer.model_file or tokenizer.vocab_size < 602:
        return None
    return SentencePiece(tokenizer.vocab_size // 2)


def try_build(data: DataModule, last: bool) -> bool:
    """Build the rows; True if it succeeds. The last attempt raises its error."""
    try:
        data.prepare_data()
        data.setup()
        if not len(data.rows):
            raise ValueError(too_few_rows_error(0, data.batch_size, 1, data.split, data.row_format.seq_length))
        return True
    except ValueError:
        if last:
            raise
        return False
