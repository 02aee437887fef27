"""Local files: text, JSON lines, JSON arrays, CSV, TSV and Parquet, plain or compressed."""

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, groupby
from pathlib import Path
from typing import Literal

from textflow.data.base import Document, Source, bad_document
from textflow.data.byte_stream import data_suffix
from textflow.data.entries import JSON_SUFFIXES, TABLE_SUFFIXES, read_entries
from textflow.data.fingerprint import fingerprint, stamp
from textflow.data.lines import LIMIT_HINT, TextEntry
from textflow.data.records import document_from_record, document_from_value
from textflow.data.sources.hub import SavedDataset, is_saved_dataset
from textflow.runtime.visible import is_hidden, visible_files

SUFFIXES = (".txt", ".text", ".md", ".jsonl", ".parquet")  # read in a folder
OTHER_SUFFIXES = (*JSON_SUFFIXES, *TABLE_SUFFIXES)  # read in a folder that holds none of the former
HIDDEN, OTHER = "hidden files", "files of another format beside texts"  # reasons to leave a file out


@dataclass(frozen=True)
class TextFiles(Source):
    """Local files: UTF-8 text, JSON lines, a JSON array, CSV, TSV or Parquet; text also compressed.

    Args:
        paths: files, patterns such as 'books/*.txt', or folders: their .txt, .text, .md, .jsonl and .parquet files, or
            if there are none their .json, .ndjson, .csv and .tsv files. Names that begin with a dot are left out.
        column: field of the text in records; dots lead into nested fields, e.g. meta.text.
        separator: end of a document in plain text: a blank line, the end of a line or the end of the file.
        max_document_bytes: longest document (or line of JSON) in bytes; a longer one is an error, so memory stays
            bounded.
    """

    paths: str | list[str]
    column: str = "text"
    separator: Literal["blank", "line", "file"] = "blank"
    max_document_bytes: int = 10_000_000

    def documents(self) -> Iterator[Document]:
        for path in self.list_files():
            entries = read_entries(path, self.max_document_bytes, self.column)
            if (first := next(entries, None)) is None:
                yield Document("", str(path))
            elif first.is_line:
                for group in self._groups(chain([first], entries)):
                    yield from join_lines(group, self.max_document_bytes)
            else:
                yield from map(self._document, chain([first], entries))
        yield from unread_documents(self.paths)

    def key(self) -> str:
        stamps = [stamp(path) for path in self.list_files()]
        return fingerprint("TextFiles 1", stamps, self.column, self.separator, self.max_document_bytes)

    def list_files(self) -> list[Path]:
        """Files in the order given; those of folders and patterns are sorted by name."""
        files = [path for pattern in as_patterns(self.paths) for path in find_files(pattern)]
        if not files:
            raise ValueError("no files given; name at least one, e.g. --data.files mine.txt")
        return files

    def _groups(self, lines: Iterator[TextEntry]) -> Iterator[Iterable[TextEntry]]:
        """Lines of each document."""
        if self.separator == "file":
            yield lines
        elif self.separator == "line":
            yield from ([line] for line in lines)
        else:
            groups = groupby(lines, lambda line: bool(line.error or line.value.strip()))
            yield from (group for has_text, group in groups if has_text)

    def _document(self, entry: TextEntry) -> Document:
        """Document of a record."""
        if entry.error:
            return bad_document(f"{entry.origin}: {entry.error}")
        read = document_from_record if isinstance(entry.value, dict) else document_from_value
        document = read(entry.value, self.column, entry.origin)
        if len(document.text) > self.max_document_bytes:
            return bad_document(too_long_error(document.origin, self.max_document_bytes, LIMIT_HINT))
        return document


def join_lines(lines: Iterable[TextEntry], max_bytes: int) -> Iterator[Document]:
    """Yield the document of consecutive lines; a bad line, or too many bytes, make it a bad document."""
    texts: list[str] = []
    origin, size, error = "", 0, None
    for line in lines:
        origin, size = origin or line.origin, size + len(line.value.encode()) + 1
        if not error and (line.error or size > max_bytes + 1):
            advice = f"cut it up (--data.source.separator line), or {LIMIT_HINT}"
            error = f"{line.origin}: {line.error}" if line.error else too_long_error(origin, max_bytes, advice)
            yield bad_document(error)
        elif not error:
            texts.append(line.value)
    if not error:
        yield Document("\n".join(texts), origin)


def too_long_error(origin: str, max_bytes: int, advice: str) -> str:
    """Error message for a document over the size limit, which keeps memory bounded."""
    return f"{origin}: the document is longer than {max_bytes:,} bytes; {advice}"


def as_patterns(paths: str | list[str]) -> list[str]:
    """List of names and patterns, with ~ expanded."""
    return [str(Path(name).expanduser()) for name in ([paths] if isinstance(paths, str) else paths)]


def find_files(pattern: str) -> list[Path]:
    """Files matched by a name, a folder or a pattern."""
    path = Path(pattern)
    if path.is_dir():
        return folder_files(path)
    matches = [path] if path.is_file() else map(Path, sorted(glob.glob(pattern, recursive=True)))
    files = [file for file in matches if file.is_file()]
    if not files:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        looked = f" (looked in {path.parent.resolve()}); give an existing path"
        raise ValueError(f"no file {pattern}" + (f"; is it {path.parent / near[0]}?" if near else looked))
    return files


def folder_files(folder: Path) -> list[Path]:
    """Text files below a folder, sorted by name, without hidden ones."""
    visible = visible_files(folder)
    for suffixes in (SUFFIXES, OTHER_SUFFIXES):
        if files := [path for path in visible if data_suffix(path) in suffixes]:
            return files
    hint = "for a save_to_disk folder use the source SavedDataset"
    raise ValueError(f"folder {folder} holds no {', '.join((*SUFFIXES, *OTHER_SUFFIXES))} file; {hint}")


def unread_documents(paths: str | list[str]) -> Iterator[Document]:
    """Documents that count the files left out of folders and patterns; they come last, so that they change no split."""
    for pattern in as_patterns(paths):
        path = Path(pattern)
        if path.is_dir():
            found = [file for file in sorted(path.rglob("*")) if data_suffix(file) in (*SUFFIXES, *OTHER_SUFFIXES)]
            read = set(folder_files(path))
        elif path.is_file() or not glob.has_magic(pattern):
            continue
        else:
            depth = next(number for number, part in enumerate(path.parts) if glob.has_magic(part))
            path, inner = Path(*path.parts[:depth]), Path(*path.parts[depth:])
            found, read = sorted(path.glob(str(inner))), set(find_files(pattern))  # the former match hidden files too
        for file in found:
            if file not in read and file.is_file():
                yield Document("", str(file), skip=HIDDEN if is_hidden(file, path) else OTHER)


def source_from_files(files: str | list[str]) -> Source:
    """Source for `--data.files`: a save_to_disk folder or text files."""
    names = [files] if isinstance(files, str) else files
    if len(names) == 1 and is_saved_dataset(Path(names[0]).expanduser()):
        return SavedDataset(names[0])
    return TextFiles(files)
