"""Sets of the library datasets: from the Hub, a local folder in its layout, or a save_to_disk folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textflow.data.base import Document, Reading, Source
from textflow.data.fingerprint import fingerprint, folder_stamp
from textflow.data.lines import no_column, picked


@dataclass(frozen=True)
class Hub(Source):
    """A data set by its Hub name, or a local folder in the same layout. Code that a set brings along is never run.

    Args:
        name: e.g. roneneldan/TinyStories, or a local folder.
        subset: the configuration, where a set has several.
        split: e.g. train, or train[:10%].
        column: where the text stands.
        streaming: read it from the net as it is tokenised, without a copy of the whole set.
        revision: commit or tag, to have the same text always.
    """

    name: str
    subset: str | None = None
    split: str = "train"
    column: str = "text"
    streaming: bool = False
    revision: str | None = None

    def documents(self) -> Iterator[Document]:
        yield from self.begin()

    def begin(self, place: dict[str, Any] | None = None) -> Reading:
        rows, done = self._rows(), place["documents"] if place else 0
        if self.streaming:
            if place:
                rows.load_state_dict(place["mark"])  # goes on in the middle of a shard
            documents = numbered(rows, self.column, self.name, done)
            return Reading(unbroken(documents, self.name, done), done, rows.state_dict)
        if self.column not in rows.column_names:
            raise ValueError(no_column(self.column, rows.column_names, self.name))
        rows = after(rows.select_columns(self.column), done)
        return Reading(numbered(rows, self.column, self.name, done), done)

    def key(self) -> str:
        here = folder_stamp(Path(self.name)) if Path(self.name).is_dir() else None
        return fingerprint("Hub 1", self.name, self.subset, self.split, self.column, self.revision, here)

    def _rows(self) -> Any:
        from datasets import load_dataset  # type: ignore[attr-defined]

        options: dict[str, Any] = {"split": self.split, "streaming": self.streaming, "revision": self.revision}
        try:
            return load_dataset(self.name, self.subset, **options)
        except (OSError, ValueError, RuntimeError) as error:  # unknown name, no network, unknown split, scripts
            found = str(error).splitlines()[0] if str(error) else type(error).__name__
            ways = "check name, subset and split; without the Hub use --data.files with local files"
            raise ValueError(f"cannot load the data set {self.name}, split {self.split}: {found}; {ways}") from error


@dataclass(frozen=True)
class Saved(Source):
    """A folder written by `save_to_disk` of the library datasets.

    Args:
        folder: where it lies.
        column: where the text stands.
        split: which one, if it holds several.
    """

    folder: str
    column: str = "text"
    split: str = "train"

    def documents(self) -> Iterator[Document]:
        rows = self._rows()
        if self.column not in rows.column_names:
            raise ValueError(no_column(self.column, rows.column_names, self.folder))
        yield from numbered(rows.select_columns(self.column), self.column, self.folder)

    def key(self) -> str:
        return fingerprint("Saved 1", folder_stamp(Path(self.folder).expanduser()), self.column, self.split)

    def count(self) -> int | None:
        return len(self._rows())

    def _rows(self) -> Any:
        from datasets import DatasetDict, load_from_disk  # type: ignore[attr-defined]

        path = Path(self.folder).expanduser()
        if not is_saved(path):
            raise ValueError(
                f"{path} is no save_to_disk folder; for .txt, .jsonl or .parquet files use the source Files"
            )
        rows = load_from_disk(str(path))
        if not isinstance(rows, DatasetDict):
            return rows
        if self.split not in rows:
            raise ValueError(f"{path}: no split {self.split!r}; there are: {', '.join(map(str, rows))}")
        return rows[self.split]


def is_saved(path: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def after(rows: Any, done: int) -> Iterable[dict[str, Any]]:
    """The rows of a set on the disk but those read before, which may be all."""
    return rows.select(range(done, len(rows))) if done < len(rows) else ()


def numbered(rows: Iterable[dict[str, Any]], column: str, name: str, done: int = 0) -> Iterator[Document]:
    """The documents of a set's rows, of which some were read before."""
    for number, row in enumerate(rows, done + 1):
        yield picked(row, column, f"{name}:row {number}")


def unbroken(documents: Iterator[Document], name: str, done: int) -> Iterator[Document]:
    """Documents from the net; where it breaks off, the error names the row and the way on.

    Args:
        documents: after those read before.
        name: of what is read.
        done: number of documents read before.
    """
    count = done
    try:
        for count, document in enumerate(documents, done + 1):  # noqa: B007
            yield document
    except (OSError, RuntimeError) as error:  # the net
        found = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"reading {name} broke off after row {count} ({found}); run the same command again to go on"
        ) from error
