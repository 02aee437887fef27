"""Local files: text, JSON lines and Parquet."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Literal

from textflow.data.base import Document, Source
from textflow.data.fingerprint import fingerprint, stamp
from textflow.data.lines import checked, lines, no_column, picked, records, too_long
from textflow.data.sources.hub import Saved, is_saved

TEXT = (".txt", ".text", ".md")
KINDS = (*TEXT, ".jsonl", ".parquet")


@dataclass(frozen=True)
class Files(Source):
    """Local files: .txt (UTF-8), .jsonl and .parquet.

    Args:
        paths: files, folders (all such files below them) or patterns such as 'books/*.txt'.
        column: where the text stands in .jsonl and .parquet.
        split: what ends a document in .txt: a blank line, a line's end or the file's.
        max_document: longest document (in .jsonl, line) in bytes; a longer one is an error, so memory stays bounded.
    """

    paths: str | list[str]
    column: str = "text"
    split: Literal["blank", "line", "file"] = "blank"
    max_document: int = 10_000_000

    def documents(self) -> Iterator[Document]:
        for path in self.found():
            try:
                if not path.stat().st_size:
                    yield Document("", str(path))
                yield from self._reader(path)(path)
            except OSError as error:
                raise ValueError(f"cannot read {path}: {error.strerror or error}") from None

    def key(self) -> str:
        stamps = [stamp(path) for path in self.found()]
        return fingerprint("Files 1", stamps, self.column, self.split, self.max_document)

    def found(self) -> list[Path]:
        """The files, in the order given, those of folders and patterns in order of name."""
        paths = [self.paths] if isinstance(self.paths, str) else self.paths
        files = [path for name in paths for path in matching(str(Path(name).expanduser()))]
        if not files:
            raise ValueError("no files given; name at least one, e.g. --data.files mine.txt")
        return files

    def _reader(self, path: Path) -> Callable[[Path], Iterator[Document]]:
        return {".jsonl": self._jsonl, ".parquet": self._parquet}.get(path.suffix.lower(), self._text)

    def _text(self, path: Path) -> Iterator[Document]:
        held: list[str] = []
        size = first = 0
        for number, line in lines(path, self.max_document):
            if self.split == "line" or (self.split == "blank" and not line.strip()):
                if held:
                    yield Document("\n".join(held), f"{path}:{first}")
                held, size = [], 0
                if self.split == "blank":
                    continue
            first = number if not held else first
            held.append(line)
            size += len(line.encode()) + 1
            if size > self.max_document + 1:
                raise ValueError(too_long(f"{path}:{first}", self.max_document))
        if held:
            yield Document("\n".join(held), f"{path}:{first}")

    def _jsonl(self, path: Path) -> Iterator[Document]:
        for origin, record in records(path, self.max_document):
            yield picked(record, self.column, origin)

    def _parquet(self, path: Path) -> Iterator[Document]:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
        try:
            with pq.ParquetFile(path) as file:
                if self.column not in file.schema_arrow.names:
                    raise ValueError(no_column(self.column, file.schema_arrow.names, str(path)))
                row = 0
                for batch in file.iter_batches(batch_size=64, columns=[self.column]):
                    for value in batch.column(0).to_pylist():
                        row += 1
                        yield self._bounded(checked(value, self.column, f"{path}:row {row}"))
        except (pa.ArrowException, OSError) as error:  # a torn one is either
            if getattr(error, "errno", None):
                raise
            raise ValueError(f"{path} is no readable Parquet file: {' '.join(str(error).split())[:300]}") from None

    def _bounded(self, document: Document) -> Document:
        if len(document.text) > self.max_document:
            raise ValueError(too_long(document.origin, self.max_document))
        return document


def matching(name: str) -> list[Path]:
    """The files that a name, a folder or a pattern stands for."""
    path = Path(name)
    if path.is_dir():
        if files := [p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in KINDS]:
            return files
        raise ValueError(
            f"folder {path} holds no {', '.join(KINDS)} file; for a save_to_disk folder use the source Saved"
        )
    found = [path] if path.is_file() else [Path(found) for found in sorted(glob.glob(name, recursive=True))]
    files = [file for file in found if file.is_file()]
    if not files:
        raise ValueError(f"no file {name}{near(path)}")
    if other := [file for file in files if file.suffix.lower() not in KINDS]:
        raise ValueError(f"{other[0]}: files end in {', '.join(KINDS)}; rename it, e.g. to .txt for plain text")
    return files


def near(path: Path) -> str:
    """The most similar name beside a missing file."""
    there = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    found = get_close_matches(path.name, there, n=1)
    if found:
        return f"; is it {path.parent / found[0]}?"
    return f" (looked in {path.parent.resolve()}); give an existing path"


def files_source(files: str | list[str]) -> Source:
    """What `--data.files` means: a save_to_disk folder, or files."""
    names = [files] if isinstance(files, str) else files
    if len(names) == 1 and is_saved(Path(names[0]).expanduser()):
        return Saved(names[0])
    return Files(files)
