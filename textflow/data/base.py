"""The nouns of the data room: a document, where documents come from, and what turns them into ids."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

SIGN = "textflow_tokenizer.json"  # names the class in a saved tokenizer's folder


class Document(NamedTuple):
    """One text and where it stands, e.g. mine.txt:12; an empty text is skipped and counted."""

    text: str
    origin: str


class Source(ABC):
    """Where documents come from, always in the same order."""

    @abstractmethod
    def documents(self) -> Iterator[Document]:
        """All documents, one at a time: nothing larger is held in memory."""

    @abstractmethod
    def key(self) -> str:
        """A fingerprint of the inputs and options: another key means that the cache is built anew."""

    def count(self) -> int | None:
        """How many documents there are, where that is known without reading them."""
        return None


class Tokenizer(ABC):
    """Text to ids and back; knows where a text ends (eos) and what fills a row (pad)."""

    kinds: ClassVar[dict[str, type["Tokenizer"]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Tokenizer.kinds[cls.__name__] = cls

    @property
    @abstractmethod
    def vocab(self) -> int:
        """Number of ids; known before any text is read."""

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
        """A fingerprint: with the text that it is trained on, if any, it determines every id."""

    @abstractmethod
    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        """Train or load, so that it can encode; what is trained is kept in `cache` and found there the next time."""

    @abstractmethod
    def encode(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without eos."""

    @abstractmethod
    def words(self, ids: list[list[int]]) -> list[str]:
        """Texts of ids that hold neither eos nor pad."""

    @abstractmethod
    def write(self, folder: Path) -> dict[str, Any]:
        """Write what it needs into `folder`; returns what `read` is given."""

    @classmethod
    @abstractmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "Tokenizer":
        """The tokenizer that `write` wrote, ready to encode."""

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Texts of rows, each cut at its first eos, without pads."""
        rows = [[int(i) for i in row] for row in ids]
        rows = [row[: row.index(self.eos)] if self.eos in row else row for row in rows]
        return self.words([[i for i in row if i != self.pad] for row in rows])

    def save(self, folder: Path) -> None:
        """Write a folder that describes itself, for `Tokenizer.load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        options = self.write(folder)
        (folder / SIGN).write_text(json.dumps({"class": type(self).__name__, "options": options}, indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> "Tokenizer":
        """The tokenizer that `save` wrote; runs no code from the folder."""
        sign = Path(folder) / SIGN
        if not sign.is_file():
            raise ValueError(f"no tokenizer in {folder}: {SIGN} is missing; give a folder that Tokenizer.save wrote")
        said = json.loads(sign.read_text())
        kind = Tokenizer.kinds.get(said["class"])
        if kind is None:
            raise ValueError(f"{sign} names the tokenizer {said['class']!r}, known are {sorted(Tokenizer.kinds)}")
        return kind.read(Path(folder), said["options"])
