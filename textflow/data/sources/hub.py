"""Data sets of the library datasets: from the Hub, a local folder in its layout, or a save_to_disk folder."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from textflow.data.base import Document, DocumentIterator, Source
from textflow.data.fingerprint import fingerprint, folder_stamp
from textflow.data.records import document_from_record, missing_column_error

Row: TypeAlias = dict[str, Any]  # fields by name


@dataclass(frozen=True)
class HubDataset(Source):
    """Data set by its Hub name, or a local folder in the same layout. Code in a data set is never run.

    Args:
        name: Hub name, e.g. roneneldan/TinyStories, or a local folder.
        subset: configuration name, where a data set has several.
        split: split to read, e.g. train or train[:10%].
        column: column of the text; dots lead into nested fields, e.g. meta.text.
        streaming: stream the data while tokenising, without downloading the full data set.
        revision: commit or tag that pins the text.
    """

    name: str
    subset: str | None = None
    split: str = "train"
    column: str = "text"
    streaming: bool = False
    revision: str | None = None

    def documents(self) -> Iterator[Document]:
        yield from self.resume()

    def resume(self, iterator_state: dict[str, Any] | None = None) -> DocumentIterator:
        rows, done = self._rows(), iterator_state["num_read"] if iterator_state else 0
        if self.streaming:
            if iterator_state:
                rows.load_state_dict(iterator_state["source_state"])  # resumes in the middle of a shard
            documents = documents_from_rows(rows, self.column, self.name, done)
            return DocumentIterator(explain_read_errors(documents, self.name, done), done, rows.state_dict)
        rows = skip_rows(select_column(rows, self.column, self.name), done)
        return DocumentIterator(documents_from_rows(rows, self.column, self.name, done), done)

    def key(self) -> str:
        local_stamp = folder_stamp(Path(self.name)) if Path(self.name).is_dir() else None
        return fingerprint("HubDataset 1", self.name, self.subset, self.split, self.column, self.revision, local_stamp)

    def _rows(self) -> Any:
        from datasets import load_dataset  # type: ignore[attr-defined]

        options: dict[str, Any] = {"split": self.split, "streaming": self.streaming, "revision": self.revision}
        try:
            return load_dataset(self.name, self.subset, **options)
        except (OSError, ValueError, RuntimeError) as error:  # unknown name, no network, unknown split, scripts
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            hint = "check name, subset and split; without the Hub use --data.files with local files"
            raise ValueError(f"cannot load the data set {self.name}, split {self.split}: {reason}; {hint}") from error


@dataclass(frozen=True)
class SavedDataset(Source):
    """A folder written by `save_to_disk` of the library datasets.

    Args:
        folder: path of the folder.
        column: column of the text; dots lead into nested fields.
        split: split to read, if the folder holds several.
    """

    folder: str
    column: str = "text"
    split: str = "train"

    def documents(self) -> Iterator[Document]:
        rows = self._rows()
        yield from documents_from_rows(select_column(rows, self.column, self.folder), self.column, self.folder)

    def key(self) -> str:
        return fingerprint("SavedDataset 1", folder_stamp(Path(self.folder).expanduser()), self.column, self.split)

    def count(self) -> int | None:
        return len(self._rows())

    def _rows(self) -> Any:
        from datasets import DatasetDict, load_from_disk  # type: ignore[attr-defined]

        path = Path(self.folder).expanduser()
        if not is_saved_dataset(path):
            hint = "for .txt, .jsonl or .parquet files use the source TextFiles"
            raise ValueError(f"{path} is not a save_to_disk folder; {hint}")
        rows = load_from_disk(str(path))
        if not isinstance(rows, DatasetDict):
            return rows
        if self.split not in rows:
            raise ValueError(f"{path}: no split {self.split!r}; there are: {', '.join(map(str, rows))}")
        return rows[self.split]


def is_saved_dataset(path: Path) -> bool:
    """True if the folder was written by `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def select_column(rows: Any, column: str, name: str) -> Any:
    """Rows of a data set on disk with the column that holds a field; raises an error if there is none."""
    holder = column if column in rows.column_names else column.partition(".")[0]
    if holder not in rows.column_names:
        raise ValueError(missing_column_error(column, rows.column_names, name))
    return rows.select_columns(holder)


def skip_rows(rows: Any, num_read: int) -> Iterable[Row]:
    """Rows of a data set on disk after the first `num_read`."""
    return rows.select(range(num_read, len(rows))) if num_read < len(rows) else ()


def documents_from_rows(rows: Iterable[Row], column: str, name: str, num_read: int = 0) -> Iterator[Document]:
    """Iterate over the documents of rows that follow the first `num_read`."""
    for number, row in enumerate(rows, num_read + 1):
        yield document_from_record(row, column, f"{name}:row {number}")


def explain_read_errors(documents: Iterator[Document], name: str, num_read: int) -> Iterator[Document]:
    """Iterate over streamed documents after the first `num_read`; a network error names the last row read."""
    count = num_read
    try:
        for count, document in enumerate(documents, num_read + 1):  # noqa: B007
            yield document
    except (OSError, RuntimeError) as error:  # network errors
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        hint = "run the same command again to resume"
        raise ValueError(f"reading {name} broke off after row {count} ({reason}); {hint}") from error
