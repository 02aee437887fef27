"""The nouns of the data room: a document, where documents come from, and what turns them into ids."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from textflow.data.fingerprint import aside, under
from textflow.runtime.atomic import content

SIGN = "textflow_tokenizer.json"  # names the class in a saved tokenizer's folder


class Document(NamedTuple):
    """One text and where it stands, e.g. mine.txt:12; an empty text is skipped and counted.

    Args:
        text: of a pair its target.
        origin: where it stands.
        given: the source of a pair, which stands before the text as its prompt.
        part: that it is laid down for, validation or test; otherwise the shares of the split decide.
    """

    text: str
    origin: str
    given: str | None = None
    part: str | None = None


class Reading(Iterator[Document]):
    """The documents of a source from a place on; knows the place that it has reached.

    Args:
        documents: from that place on.
        done: number of documents before it.
        mark: gives what else the source needs to find a place again, as plain data.
    """

    def __init__(self, documents: Iterator[Document], done: int = 0, mark: Callable[[], object] = lambda: None) -> None:
        self.documents, self.done, self.mark = documents, done, mark

    def __next__(self) -> Document:
        document = next(self.documents)
        self.done += 1
        return document

    def place(self) -> dict[str, Any]:
        """For `Source.begin`."""
        return {"documents": self.done, "mark": self.mark()}


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

    def begin(self, place: dict[str, Any] | None = None) -> Reading:
        """The documents from a place on that an earlier reading reached; here, what stands before it is read again.

        Args:
            place: as `Reading.place` gave it; default: the beginning.
        """
        done = place["documents"] if place else 0
        return Reading(islice(self.documents(), done, None), done)


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
        """Write a folder that describes itself, for `Tokenizer.load`; each file is whole or as it was."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with aside(folder) as beside:
            options = self.write(beside)
            sums = {path.relative_to(beside).as_posix(): content(path) for path in under(beside)}
            said = {"class": type(self).__name__, "options": options, "sha256": sums}
            (beside / SIGN).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(folder: Path) -> "Tokenizer":
        """The tokenizer that `save` wrote; runs no code from the folder."""
        sign = Path(folder) / SIGN
        if not sign.is_file():
            raise ValueError(f"no tokenizer in {folder}: {SIGN} is missing; give a folder that Tokenizer.save wrote")
        name, options = whole(Path(folder), sign)
        kind = Tokenizer.kinds.get(name)
        if kind is None:
            raise ValueError(f"{sign} names the tokenizer {name!r}, known are {sorted(Tokenizer.kinds)}")
        try:
            return kind.read(Path(folder), options)
        except (TypeError, KeyError) as error:  # options that the class does not know
            raise ValueError(f"{sign} is damaged ({error}); copy the folder {folder} anew") from error


def whole(folder: Path, sign: Path) -> tuple[str, dict[str, Any]]:
    """Class and options of a saved tokenizer whose files are as they were written."""
    try:
        said = json.loads(sign.read_text(encoding="utf-8"))
        name, options, sums = str(said["class"]), dict(said["options"]), dict(said.get("sha256", {}))
        for file, sha in sums.items():
            if content(folder / file) != sha:
                raise ValueError(f"{file} does not have the checksum written with it")
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"the tokenizer in {folder} is damaged ({error}); copy the folder anew") from error
    return name, options
