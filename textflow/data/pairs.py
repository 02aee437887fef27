"""Pairs of source and target: from the Hub, a folder of the library datasets, or JSON lines."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from .base import Document, Source
from .files import matching
from .hub import Hub, Saved, is_saved
from .lines import checked, records
from .marks import fingerprint, folder_stamp, stamp


class Paired(Source):
    """Where pairs come from: those to train on, then those laid down for validation and for the test."""

    @abstractmethod
    def pairs(self, part: str) -> Iterator[Document]:
        """The pairs of a part, in order; none if it has no such part.

        Args:
            part: train, validation or test.
        """

    def documents(self) -> Iterator[Document]:
        yield from self.pairs("train")
        for part in ("validation", "test"):
            yield from (pair._replace(part=part) for pair in self.pairs(part))


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
        split = {"train": self.split, "validation": self.validation, "test": self.test}[part]
        for number, row in enumerate(self._rows(split) if split else (), 1):
            yield pair(row, self.given, self.text, f"{self.name} {split}:row {number}")

    def key(self) -> str:
        path = Path(self.name).expanduser()
        here = folder_stamp(path) if path.is_dir() else None
        splits = (self.split, self.validation, self.test)
        return fingerprint("Pairs 1", self.name, self.given, self.text, self.subset, splits, self.revision, here)

    def _rows(self, split: str) -> Any:
        if is_saved(Path(self.name).expanduser()):
            return Saved(self.name, split=split)._rows()
        return Hub(self.name, self.subset, split, streaming=self.streaming, revision=self.revision)._rows()


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
        stamps = [[stamp(path) for path in self._files(part)] for part in ("train", "validation", "test")]
        return fingerprint("PairFiles 1", stamps, self.given, self.text)

    def _files(self, part: str) -> list[Path]:
        names = {"train": self.paths, "validation": self.validation, "test": self.test}[part] or []
        names = [names] if isinstance(names, str) else names
        files = [path for name in names for path in matching(str(Path(name).expanduser()))]
        if other := [path for path in files if path.suffix.lower() != ".jsonl"]:
            raise ValueError(f"{other[0]}: pairs are read from .jsonl files; for a data set use the source Pairs")
        return files


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


def reached(record: dict[str, Any], field: str, origin: str) -> Any:
    """What stands in a field, or at the end of a dotted way; the error names what there is."""
    if field in record:
        return record[field]
    value: Any = record
    for step in field.split("."):
        if not isinstance(value, dict) or step not in value:
            raise ValueError(no_field(field, sorted(fields(record)), origin))
        value = value[step]
    return value


def fields(record: dict[str, Any], before: str = "") -> Iterator[str]:
    """The dotted names of a record's fields."""
    for name, value in record.items():
        if isinstance(value, dict):
            yield from fields(value, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def no_field(field: str, there: list[str], origin: str) -> str:
    """The error for a missing field: those that exist, nearest first."""
    near = get_close_matches(field, there, n=len(there) or 1, cutoff=0.4)
    names = ", ".join([*near, *(name for name in there if name not in near)]) or "none"
    return (
        f"{origin}: no field {field!r}; there are: {names}; name the source's field with --data.source.given and the "
        "target's with --data.source.text"
    )
