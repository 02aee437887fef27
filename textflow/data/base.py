"""Base types of the data pipeline: documents, document sources and tokenizers."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from textflow.data.fingerprint import staged_folder
from textflow.runtime.atomic import checksums, sha256

BAD = "bad"  # reason to leave out a record that cannot be read
MANIFEST = "textflow_tokenizer.json"  # names the class in a saved tokenizer's folder


class Document(NamedTuple):
    """One text and its origin, e.g. mine.txt:12; an empty text is skipped and counted.

    Args:
        text: the text; for a pair, its target.
        origin: file or data set and position of the text.
        source: source of a pair, which precedes the text as its prompt; None for a single text.
        split: validation or test, where the source fixes it; otherwise `SplitRules` assigns the split.
        skip: reason to leave the document out, under which it is counted; None for one to use. A record that cannot
            be read has the reason BAD and its error message as origin.
    """

    text: str
    origin: str
    source: str | None = None
    split: str | None = None
    skip: str | None = None

    @property
    def num_characters(self) -> int:
        """Number of characters of the text and its source."""
        return len(self.text) + len(self.source or "")


def bad_document(error: str) -> Document:
    """Document in place of a record that cannot be read."""
    return Document("", error, skip=BAD)


class DocumentIterator(Iterator[Document]):
    """Iterator over the documents of a source after the first `num_read`; its position is saved to resume reading.

    Args:
        documents: documents still to be read.
        num_read: number of documents already read.
        source_state: returns the further state that the source needs to resume, as plain data.
    """

    def __init__(
        self, documents: Iterator[Document], num_read: int = 0, source_state: Callable[[], object] = lambda: None
    ) -> None:
        self.documents, self.num_read, self.source_state = documents, num_read, source_state

    def __next__(self) -> Document:
        document = next(self.documents)
        self.num_read += 1
        return document

    def state_dict(self) -> dict[str, Any]:
        """Current position, as plain data for `Source.resume`."""
        return {"num_read": self.num_read, "source_state": self.source_state()}


class Source(ABC):
    """A source of documents in a fixed order."""

    draws_independently: ClassVar[bool] = False  # documents are draws of a law: equal ones are chance and no copies

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """Iterate over all documents; only one is held in memory at a time."""

    @abstractmethod
    def key(self) -> str:
        """Fingerprint of the inputs and options; a changed key rebuilds the cache."""

    def count(self) -> int | None:
        """Number of documents; None where it is unknown before reading them."""
        return None

    def resume(self, iterator_state: dict[str, Any] | None = None) -> DocumentIterator:
        """Continue from a position of `DocumentIterator.state_dict`; this default reads the documents before it."""
        done = iterator_state["num_read"] if iterator_state else 0
        return DocumentIterator(islice(self.documents(), done, None), done)


class Tokenizer(ABC):
    """Maps text to ids and back; defines the ids that end a text (eos) and fill a row (pad)."""

    registry: ClassVar[dict[str, type["Tokenizer"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Tokenizer.registry[cls.__name__] = cls

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of ids; available before any text is read."""

    @property
    @abstractmethod
    def eos(self) -> int:
        """Id that ends a text."""

    @property
    @abstractmethod
    def pad(self) -> int:
        """Id that fills a row after its text."""

    @abstractmethod
    def key(self) -> str:
        """Fingerprint that determines every id, together with the training text of a trained tokenizer."""

    @abstractmethod
    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        """Train or load the tokenizer, so that it can encode; a trained model is cached in `cache` and reused."""

    @abstractmethod
    def encode(self, texts: list[str]) -> list[list[int]]:
        """Encode each text, without eos."""

    @abstractmethod
    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        """Decode rows of ids that contain neither eos nor pad."""

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """Write the tokenizer's files into `folder`; returns the options for `read`."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "Tokenizer":
        """Read a tokenizer from the files of `write`, ready to encode."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Decode rows, each cut at its first eos, without pads."""
        rows = [[int(i) for i in row] for row in ids]
        rows = [row[: row.index(self.eos)] if self.eos in row else row for row in rows]
        return self.decode_ids([[i for i in row if i != self.pad] for row in rows])

    def save(self, folder: Path) -> None:
        """Write a self-describing folder for `Tokenizer.load`; each file is replaced atomically."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with staged_folder(folder) as staging:
            options = self.write(staging)
            manifest = {"class": type(self).__name__, "options": options, "sha256": checksums(staging)}
            (staging / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Tokenizer":
        """Load a tokenizer from the folder of `save`; runs no code from the folder."""
        folder, manifest = Path(folder), Path(folder) / MANIFEST
        if not manifest.is_file():
            reason = f"{MANIFEST} is missing; give a folder that Tokenizer.save wrote"
            raise ValueError(f"no tokenizer in {folder}: {reason}")
        name, options = read_manifest(folder, manifest)
        if name not in Tokenizer.registry:
            raise ValueError(f"{manifest} names the tokenizer {name!r}, known are {sorted(Tokenizer.registry)}")
        try:
            return Tokenizer.registry[name].read(folder, options)
        except (TypeError, KeyError) as error:  # options that the class does not accept
            raise ValueError(f"{manifest} is damaged ({error}); copy the folder {folder} again") from error


def read_manifest(folder: Path, manifest: Path) -> tuple[str, dict[str, Any]]:
    """Class and options of a saved tokenizer, after checking the checksums of its files."""
    try:
        entries = json.loads(manifest.read_text(encoding="utf-8"))
        name, options, sums = str(entries["class"]), dict(entries["options"]), dict(entries.get("sha256", {}))
        for file, sha in sums.items():
            if sha256(folder / file) != sha:
                raise ValueError(f"{file} does not have the checksum written with it")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"the tokenizer in {folder} is damaged ({error}); copy the folder again") from error
    return name, options
