"""Pairs of source and target: from the Hub, a folder of the library datasets, or JSON lines."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textflow.data.base import Document, Reading, Source
from textflow.data.fingerprint import fingerprint, folder_stamp, stamp
from textflow.data.lines import checked, records
from textflow.data.nested import reached
from textflow.data.sources.files import matching
from textflow.data.sources.hub import Hub, Saved, after, is_saved, unbroken

PARTS = ("train", "validation", "test")  # in the order in which they are read


class Paired(Source):
    """Where pairs come from: those to train on, then those laid down for validation and for the test."""

    @abstractmethod
    def pairs(self, part: str) -> Iterator[Document]:
        """The pairs of a part, in order; none if it has no such part.

        Args:
            part: train, validation or test.
        """

    def documents(self) -> Iterator[Document]:
        for part in PARTS:
            yield from (laid_down(pair, part) for pair in self.pairs(part))


@dataclass(frozen=True)
class Pairs(Paired):
    """Pairs of a data set: by its Hub name, a local folder in that layout, or a folder of `save_to_disk`.

    Args:
        name: e.g. wmt/wmt14, or a folder.
        given: field of the source; dots lead into nested fields, e.g. translation.de.
        text: field of the target.
        subset: the configuration, where a set has several.
        split: to train on, e.g. train or train[:10%].
        validation: split to validate on; null takes the share data.validation of the training split.
        test: split that `textflow eval` scores; null if there is none.
        streaming: read it from the net as it is tokenised, without a copy of the whole set.
        revision: commit or tag, to have the same text always.
    """

    name: str
    given: str
    text: str
    subset: str | None = None
    split: str = "train"
    validation: str | None = "validation"
    test: str | None = "test"
    streaming: bool = False
    revision: str | None = None

    def pairs(self, part: str) -> Iterator[Document]:
        yield from self.reading(part)

    def begin(self, place: dict[str, Any] | None = None) -> Reading:
        if place and place["mark"] is None:  # of a build that kept no more
            return super().begin(place)
        walk = Walk(self, place["mark"] if place else None)
        return Reading(walk, place["documents"] if place else 0, walk.mark)

    def reading(self, part: str, place: dict[str, Any] | None = None) -> Reading:
        """The pairs of a part from a place on; none if it has no such part.

        Args:
            part: train, validation or test.
            place: in that part, as `Reading.place` gave it; default: its beginning.
        """
        split = {"train": self.split, "validation": self.validation, "test": self.test}[part]
        if not split:
            return Reading(iter(()))
        rows, done = self._rows(split), place["documents"] if place else 0
        if not self.streaming or self._saved():
            return Reading(self._numbered(after(rows, done), split, done), done)
        if place:
            rows.load_state_dict(place["mark"])  # goes on in the middle of a shard
        pairs = self._numbered(rows, split, done)
        return Reading(unbroken(pairs, f"{self.name}, split {split},", done), done, rows.state_dict)

    def key(self) -> str:
        path = Path(self.name).expanduser()
        here = folder_stamp(path) if path.is_dir() else None
        splits = (self.split, self.validation, self.test)
        return fingerprint("Pairs 1", self.name, self.given, self.text, self.subset, splits, self.revision, here)

    def _numbered(self, rows: Iterable[dict[str, Any]], split: str, done: int) -> Iterator[Document]:
        for number, row in enumerate(rows, done + 1):
            yield pair(row, self.given, self.text, f"{self.name} {split}:row {number}")

    def _saved(self) -> bool:
        return is_saved(Path(self.name).expanduser())

    def _rows(self, split: str) -> Any:
        if self._saved():
            return Saved(self.name, split=split)._rows()
        return Hub(self.name, self.subset, split, streaming=self.streaming, revision=self.revision)._rows()


class Walk(Iterator[Document]):
    """The pairs of a set from a place on, one part after another.

    Args:
        pairs: of a data set.
        mark: the part, and the place in it; default: the beginning.
    """

    def __init__(self, pairs: Pairs, mark: dict[str, Any] | None = None) -> None:
        self.pairs, self.part = pairs, mark["part"] if mark else PARTS[0]
        self.reading = pairs.reading(self.part, mark["place"] if mark else None)

    def __next__(self) -> Document:
        while (pair := next(self.reading, None)) is None:
            if self.part == PARTS[-1]:
                raise StopIteration
            self.part = PARTS[PARTS.index(self.part) + 1]
            self.reading = self.pairs.reading(self.part)
        return laid_down(pair, self.part)

    def mark(self) -> dict[str, Any]:
        """What it needs to go on from here, as plain data."""
        return {"part": self.part, "place": self.reading.place()}


@dataclass(frozen=True)
class PairFiles(Paired):
    """Pairs of .jsonl files, an object a line.

    Args:
        paths: files, folders or patterns to train on.
        given: field of the source; dots lead into nested fields.
        text: field of the target.
        validation: files to validate on; default: the share data.validation of those to train on.
        test: files that `textflow eval` scores; default: none.
        max_line: longest line in bytes, so that memory stays bounded.
    """

    paths: str | list[str]
    given: str = "source"
    text: str = "target"
    validation: str | list[str] | None = None
    test: str | list[str] | None = None
    max_line: int = 10_000_000

    def pairs(self, part: str) -> Iterator[Document]:
        for path in self._files(part):
            for origin, record in records(path, self.max_line):
                yield pair(record, self.given, self.text, origin)

    def key(self) -> str:
        stamps = [[stamp(path) for path in self._files(part)] for part in PARTS]
        return fingerprint("PairFiles 1", stamps, self.given, self.text)

    def _files(self, part: str) -> list[Path]:
        names = {"train": self.paths, "validation": self.validation, "test": self.test}[part] or []
        names = [names] if isinstance(names, str) else names
        files = [path for name in names for path in matching(str(Path(name).expanduser()))]
        if other := [path for path in files if path.suffix.lower() != ".jsonl"]:
            raise ValueError(f"{other[0]}: pairs are read from .jsonl files; for a data set use the source Pairs")
        return files


def laid_down(pair: Document, part: str) -> Document:
    """A pair of a part; of those to train on the shares of the split decide."""
    return pair if part == "train" else pair._replace(part=part)


def pair(record: dict[str, Any], given: str, text: str, origin: str) -> Document:
    """Source and target of a record; null is an empty one.

    Args:
        record: may be nested.
        given: field of the source.
        text: field of the target.
        origin: where the record stands.
    """
    before, after = (checked(reached(record, field, origin), field, origin).text for field in (given, text))
    return Document(after, origin, before)
