"""Documents to rows: split by document, tokenised in several processes, packed, kept on disk under a key."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
from filelock import FileLock
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from .base import Document, Source, Tokenizer
from .encoding import encoded
from .marks import fingerprint
from .report import Report
from .rows import Array, RowWriter, small

VERSION = 1  # of what lies in the cache
HELD = 1 << 18  # ids of a part that wait to be written
PARTS = ("train", "validation", "held_apart")


@dataclass(frozen=True)
class Split:
    """Which part a document belongs to: a function of its index and these shares alone.

    Args:
        validation: share of the documents, in [0, 1).
        held_apart: share that only a scorer is trained on, in [0, 1).
    """

    validation: float
    held_apart: float

    def __post_init__(self) -> None:
        if min(self.validation, self.held_apart) < 0 or self.validation + self.held_apart >= 1:
            raise ValueError(f"validation={self.validation} and held_apart={self.held_apart} must leave some to train")

    def part(self, index: int) -> str:
        """Part of the document with this index."""
        spot = int.from_bytes(blake2b(index.to_bytes(8, "big"), digest_size=8).digest(), "big") / 2**64
        if spot < self.validation:
            return "validation"
        return "held_apart" if spot < self.validation + self.held_apart else "train"

    def texts(self, source: Source, part: str = "train") -> Iterator[str]:
        """The texts of a part, empty ones left out; an error if there are none."""
        report, found = Report(type(source).__name__), False
        for index, document in wanted(source, report):
            if self.part(index) == part:
                found = True
                yield document.text
        if not found:
            raise ValueError(nothing(report, f" to {part}" if part == "train" else f" for {part}"))


@dataclass(frozen=True)
class Shape:
    """How documents become rows.

    Args:
        length: ids a row.
        pack: fill rows with one document after another; otherwise a row holds one document.
    """

    length: int
    pack: bool


def rows_key(source: Source, tokenizer: Tokenizer, shape: Shape, split: Split) -> str:
    """The name of the cache: everything that its rows depend on."""
    return fingerprint(VERSION, source.key(), tokenizer.key(), asdict(shape), asdict(split))


def build(
    source: Source, tokenizer: Tokenizer, shape: Shape, split: Split, folder: Path, processes: int | None = None
) -> Report:
    """The rows' folder, built if it is not there; a build that is killed leaves nothing that could be taken for it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "report.json").is_file():
            building = folder.with_suffix(".building")
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            try:
                write(source, tokenizer, shape, split, building, processes)
                os.replace(building, folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return Report.read(folder / "report.json")


def write(
    source: Source, tokenizer: Tokenizer, shape: Shape, split: Split, folder: Path, processes: int | None
) -> None:
    """Write the rows of every part and the report."""
    report = Report(type(source).__name__, tokenizer.vocab, shape.length)
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=source.count(), desc="tokenising", unit=" documents", disable=None))
        parts = {part: stack.enter_context(Filler(folder / f"{part}.arrow", tokenizer, shape)) for part in PARTS}
        for chunk, ids in encoded(wanted(source, report), tokenizer, processes):
            for (index, _), row in zip(chunk.documents, ids, strict=True):
                parts[split.part(index)].add(row)
            bar.update(len(chunk.documents))
    for part, filler in parts.items():
        report.documents[part], report.tokens[part] = filler.documents, filler.tokens
        report.rows[part], report.lost[part] = filler.writer.rows, filler.lost
        report.truncated += filler.truncated
    if not sum(report.documents.values()):
        raise ValueError(nothing(report))
    report.write(folder / "report.json")


def nothing(report: Report, use: str = "") -> str:
    """The error where no document is left."""
    why = f": {report.skips()}" if report.skipped else "; give more text"
    return f"{report.source} gave no documents{use}{why}"


def wanted(source: Source, report: Report) -> Iterator[tuple[int, Document]]:
    """The documents with their index; those without any text are counted as skipped."""
    for index, document in enumerate(source.documents()):
        if document.text.strip():
            yield index, document
        else:
            report.skip("empty", document)


class Filler:
    """Fills the rows of one part from its documents' ids, in order."""

    def __init__(self, path: Path, tokenizer: Tokenizer, shape: Shape) -> None:
        self.shape, self.pad, self.type = shape, tokenizer.pad, small(tokenizer.vocab)
        self.writer = RowWriter(path, shape.length, self.type)
        self.waiting: list[Array] = []
        self.held = self.documents = self.tokens = self.lost = self.truncated = 0

    def add(self, ids: Array) -> None:
        """Add a document's ids, which end with eos."""
        self.documents += 1
        self.tokens += len(ids)
        self.waiting.append(ids)
        self.held += len(ids) if self.shape.pack else self.shape.length
        if self.held >= HELD:
            self.flush()

    def flush(self) -> None:
        """Hand whole rows to the writer."""
        if not self.waiting:
            return
        rows, lengths = self._packed() if self.shape.pack else self._padded()
        self.held = sum(len(ids) for ids in self.waiting)
        if len(rows):
            self.writer.write(rows, lengths)

    def _packed(self) -> tuple[Array, Array]:
        flat, length = np.concatenate(self.waiting), self.shape.length
        whole = len(flat) // length
        self.waiting = [flat[whole * length :]]
        return flat[: whole * length].reshape(whole, length), np.full(whole, length, np.int32)

    def _padded(self) -> tuple[Array, Array]:
        length = self.shape.length
        rows = np.full((len(self.waiting), length), self.pad, self.type)
        for row, ids in zip(rows, self.waiting, strict=True):
            row[: len(ids)] = ids[:length]
        lengths = np.array([len(ids) for ids in self.waiting], np.int32)
        self.truncated += int((lengths > length + 1).sum())  # losing eos alone is no loss of text
        self.waiting = []
        return rows, np.minimum(lengths, length)

    def __enter__(self) -> "Filler":
        self.writer.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.flush()
            self.lost = self.held
        self.writer.__exit__(*error)  # type: ignore[arg-type]
