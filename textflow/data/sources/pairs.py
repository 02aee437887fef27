"""Pairs of source and target: from the Hub, a folder of the library datasets, or JSON lines."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from textflow.data.base import Document, DocumentIterator, Source, bad_document
from textflow.data.entries import read_entries
from textflow.data.fingerprint import fingerprint, folder_stamp, stamp
from textflow.data.records import document_from_pair
from textflow.data.sources.files import as_patterns, find_files, unread_documents
from textflow.data.sources.hub import HubDataset, SavedDataset, explain_read_errors, is_saved_dataset, skip_rows

SPLITS = ("train", "validation", "test")  # in the order in which they are read


class PairSource(Source):
    """A source of pairs: the training pairs, then those fixed for validation and test."""

    @abstractmethod
    def pairs(self, split_name: str) -> Iterator[Document]:
        """Iterate over the pairs of a split (train, validation, test), in order; empty if there is no such split."""

    def documents(self) -> Iterator[Document]:
        for part in SPLITS:
            yield from (with_split(pair, part) for pair in self.pairs(part))


@dataclass(frozen=True)
class HubPairs(PairSource):
    """Pairs of a data set: by its Hub name, a local folder in that layout, or a folder of `save_to_disk`.

    Args:
        name: Hub name, e.g. wmt/wmt14, or a folder.
        source_field: field of the source; dots lead into nested fields, e.g. translation.de.
        target_field: field of the target.
        subset: configuration name, where a data set has several.
        split: split to train on, e.g. train or train[:10%].
        val_split: split to validate on; null takes the share data.val_fraction of the training split.
        test_split: split that `textflow eval` scores; null if there is none.
        streaming: stream the data while tokenising, without downloading the full data set.
        revision: commit or tag that pins the text.
    """

    name: str
    source_field: str
    target_field: str
    subset: str | None = None
    split: str = "train"
    val_split: str | None = "validation"
    test_split: str | None = "test"
    streaming: bool = False
    revision: str | None = None

    def pairs(self, split_name: str) -> Iterator[Document]:
        yield from self.iterate_split(split_name)

    def resume(self, iterator_state: dict[str, Any] | None = None) -> DocumentIterator:
        if iterator_state and iterator_state["source_state"] is None:  # state of an older build
            return super().resume(iterator_state)
        iterator = PairsIterator(self, iterator_state["source_state"] if iterator_state else None)
        return DocumentIterator(iterator, iterator_state["num_read"] if iterator_state else 0, iterator.state_dict)

    def iterate_split(self, split_name: str, iterator_state: dict[str, Any] | None = None) -> DocumentIterator:
        """Continue a split (train, validation, test) from a position in it; empty if there is no such split."""
        split = {"train": self.split, "validation": self.val_split, "test": self.test_split}[split_name]
        if not split:
            return DocumentIterator(iter(()))
        rows, done = self._rows(split), iterator_state["num_read"] if iterator_state else 0
        if not self.streaming or self._is_saved():
            return DocumentIterator(self._numbered(skip_rows(rows, done), split, done), done)
        if iterator_state:
            rows.load_state_dict(iterator_state["source_state"])  # resumes in the middle of a shard
        pairs = self._numbered(rows, split, done)
        return DocumentIterator(explain_read_errors(pairs, f"{self.name}, split {split},", done), done, rows.state_dict)

    def key(self) -> str:
        path = Path(self.name).expanduser()
        stamps = folder_stamp(path) if path.is_dir() else None
        splits = (self.split, self.val_split, self.test_split)
        fields = (self.source_field, self.target_field)
        return fingerprint("HubPairs 1", self.name, *fields, self.subset, splits, self.revision, stamps)

    def _numbered(self, rows: Iterable[dict[str, Any]], split: str, num_read: int) -> Iterator[Document]:
        for number, row in enumerate(rows, num_read + 1):
            yield document_from_pair(row, self.source_field, self.target_field, f"{self.name} {split}:row {number}")

    def _is_saved(self) -> bool:
        return is_saved_dataset(Path(self.name).expanduser())

    def _rows(self, split: str) -> Any:
        if self._is_saved():
            return SavedDataset(self.name, split=split)._rows()
        return HubDataset(self.name, self.subset, split, streaming=self.streaming, revision=self.revision)._rows()


class PairsIterator(Iterator[Document]):
    """Iterator over the pairs of a data set, split by split, that can resume from a split and a position in it."""

    def __init__(self, pairs: HubPairs, state: dict[str, Any] | None = None) -> None:
        self.pairs, self.split_name = pairs, state["split_name"] if state else SPLITS[0]
        self.iterator = pairs.iterate_split(self.split_name, state["iterator"] if state else None)

    def __next__(self) -> Document:
        while (pair := next(self.iterator, None)) is None:
            if self.split_name == SPLITS[-1]:
                raise StopIteration
            self.split_name = SPLITS[SPLITS.index(self.split_name) + 1]
            self.iterator = self.pairs.iterate_split(self.split_name)
        return with_split(pair, self.split_name)

    def state_dict(self) -> dict[str, Any]:
        """State to resume from the current position, as plain data."""
        return {"split_name": self.split_name, "iterator": self.iterator.state_dict()}


@dataclass(frozen=True)
class JsonlPairs(PairSource):
    """Pairs from files of records: JSON lines, a JSON array, CSV, TSV or Parquet; text also compressed.

    Args:
        paths: files, folders or patterns to train on.
        source_field: field of the source; dots lead into nested fields.
        target_field: field of the target.
        val_paths: files to validate on; default: the share data.val_fraction of those to train on.
        test_paths: files that `textflow eval` scores; default: none.
        max_line_bytes: longest line in bytes, so that memory stays bounded.
    """

    paths: str | list[str]
    source_field: str = "source"
    target_field: str = "target"
    val_paths: str | list[str] | None = None
    test_paths: str | list[str] | None = None
    max_line_bytes: int = 10_000_000

    def pairs(self, split_name: str) -> Iterator[Document]:
        for path in self._files(split_name):
            for entry in read_entries(path, self.max_line_bytes):
                if entry.error:
                    yield bad_document(f"{entry.origin}: {entry.error}")
                elif not isinstance(entry.value, dict) and not entry.is_line:
                    yield bad_document(f"{entry.origin}: a text, an object with a source and a target is needed")
                elif not isinstance(entry.value, dict):
                    advice = "give .jsonl or .csv, or for a data set the source HubPairs"
                    raise ValueError(f"{path}: pairs are read from records with a source and a target; {advice}")
                else:
                    yield document_from_pair(entry.value, self.source_field, self.target_field, entry.origin)
        yield from unread_documents(self._paths(split_name))

    def key(self) -> str:
        stamps = [[stamp(path) for path in self._files(part)] for part in SPLITS]
        return fingerprint("JsonlPairs 1", stamps, self.source_field, self.target_field)

    def _paths(self, split_name: str) -> str | list[str]:
        return {"train": self.paths, "validation": self.val_paths, "test": self.test_paths}[split_name] or []

    def _files(self, split_name: str) -> list[Path]:
        return [path for pattern in as_patterns(self._paths(split_name)) for path in find_files(pattern)]


def pairs_from_files(source: Source, files: str | list[str]) -> JsonlPairs:
    """Pairs of files that replace those of a source in each split that it fixes, under the names of its fields."""
    if isinstance(source, HubPairs):
        fields = (source.source_field, source.target_field)
        source = JsonlPairs(files, *fields, source.val_split, source.test_split)
    if not isinstance(source, JsonlPairs):
        raise ValueError(f"the source {type(source).__name__} makes its own pairs; leave --data.files out")
    val_paths, test_paths = (files if paths else None for paths in (source.val_paths, source.test_paths))
    return replace(source, paths=files, val_paths=val_paths, test_paths=test_paths)


def with_split(pair: Document, split: str) -> Document:
    """Fix the split of a pair; training pairs stay open to `SplitRules`."""
    return pair if split == "train" else pair._replace(split=split)
