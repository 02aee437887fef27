"""Local files: text, JSON lines and Parquet."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Literal

from textflow.data.base import Document, Source
from textflow.data.fingerprint import fingerprint, stamp
from textflow.data.jsonl import (
    document_from_record,
    document_from_value,
    missing_column_error,
    read_jsonl,
    read_lines,
    too_long_error,
)
from textflow.data.sources.hub import SavedDataset, is_saved_dataset

TEXT_EXTENSIONS = (".txt", ".text", ".md")
EXTENSIONS = (*TEXT_EXTENSIONS, ".jsonl", ".parquet")


@dataclass(frozen=True)
class TextFiles(Source):
    """Local files: .txt (UTF-8), .jsonl and .parquet.

    Args:
        paths: files, folders (all such files below them) or patterns such as 'books/*.txt'.
        column: column of the text in .jsonl and .parquet files.
        separator: end of a document in .txt files: a blank line, the end of a line or the end of the file.
        max_document_bytes: longest document (in .jsonl, line) in bytes; a longer one is an error, so memory stays
            bounded.
    """

    paths: str | list[str]
    column: str = "text"
    separator: Literal["blank", "line", "file"] = "blank"
    max_document_bytes: int = 10_000_000

    def documents(self) -> Iterator[Document]:
        for path in self.list_files():
            try:
                if not path.stat().st_size:
                    yield Document("", str(path))
                readers = {".jsonl": self._jsonl, ".parquet": self._parquet}
                yield from readers.get(path.suffix.lower(), self._text)(path)
            except OSError as error:
                raise ValueError(f"cannot read {path}: {error.strerror or error}") from None

    def key(self) -> str:
        stamps = [stamp(path) for path in self.list_files()]
        return fingerprint("TextFiles 1", stamps, self.column, self.separator, self.max_document_bytes)

    def list_files(self) -> list[Path]:
        """Files in the order given; those of folders and patterns are sorted by name."""
        paths = [self.paths] if isinstance(self.paths, str) else self.paths
        files = [path for name in paths for path in find_files(str(Path(name).expanduser()))]
        if not files:
            raise ValueError("no files given; name at least one, e.g. --data.files mine.txt")
        return files

    def _text(self, path: Path) -> Iterator[Document]:
        lines: list[str] = []
        size = first = 0
        for number, line in read_lines(path, self.max_document_bytes):
            if self.separator == "line" or (self.separator == "blank" and not line.strip()):
                if lines:
                    yield Document("\n".join(lines), f"{path}:{first}")
                lines, size = [], 0
                if self.separator == "blank":
                    continue
            first = number if not lines else first
            lines.append(line)
            size += len(line.encode()) + 1
            if size > self.max_document_bytes + 1:
                raise ValueError(too_long_error(f"{path}:{first}", self.max_document_bytes))
        if lines:
            yield Document("\n".join(lines), f"{path}:{first}")

    def _jsonl(self, path: Path) -> Iterator[Document]:
        for origin, record in read_jsonl(path, self.max_document_bytes):
            yield document_from_record(record, self.column, origin)

    def _parquet(self, path: Path) -> Iterator[Document]:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")
        try:
            with pq.ParquetFile(path) as file:
                if self.column not in file.schema_arrow.names:
                    raise ValueError(missing_column_error(self.column, file.schema_arrow.names, str(path)))
                row = 0
                for batch in file.iter_batches(batch_size=64, columns=[self.column]):
                    for value in batch.column(0).to_pylist():
                        row += 1
                        document = document_from_value(value, self.column, f"{path}:row {row}")
                        if len(document.text) > self.max_document_bytes:
                            raise ValueError(too_long_error(document.origin, self.max_document_bytes))
                        yield document
        except (pa.ArrowException, OSError) as error:  # a damaged file raises either
            if getattr(error, "errno", None):
                raise
            raise ValueError(f"{path} is not a readable Parquet file: {' '.join(str(error).split())[:300]}") from None


def find_files(pattern: str) -> list[Path]:
    """Files matched by a name, a folder or a pattern."""
    path = Path(pattern)
    if path.is_dir():
        if files := [p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in EXTENSIONS]:
            return files
        hint = "for a save_to_disk folder use the source SavedDataset"
        raise ValueError(f"folder {path} holds no {', '.join(EXTENSIONS)} file; {hint}")
    matches = [path] if path.is_file() else map(Path, sorted(glob.glob(pattern, recursive=True)))
    files = [file for file in matches if file.is_file()]
    if not files:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        looked = f" (looked in {path.parent.resolve()}); give an existing path"
        raise ValueError(f"no file {pattern}" + (f"; is it {path.parent / near[0]}?" if near else looked))
    if other := [file for file in files if file.suffix.lower() not in EXTENSIONS]:
        raise ValueError(f"{other[0]}: files end in {', '.join(EXTENSIONS)}; rename it, e.g. to .txt for plain text")
    return files


def source_from_files(files: str | list[str]) -> Source:
    """Source for `--data.files`: a save_to_disk folder or text files."""
    names = [files] if isinstance(files, str) else files
    if len(names) == 1 and is_saved_dataset(Path(names[0]).expanduser()):
        return SavedDataset(names[0])
    return TextFiles(files)
