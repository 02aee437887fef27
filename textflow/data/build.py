"""Documents to rows: split by document, tokenised in several processes, packed, kept on disk under a key."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

from filelock import FileLock
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.fingerprint import fingerprint, under
from textflow.data.packing import Filler, Shape
from textflow.data.shards import segments, wanted
from textflow.data.stats import Report
from textflow.runtime.atomic import settle

VERSION = 2  # of what lies in the cache
SHARED = ("train", "validation", "held_apart")
PARTS = (*SHARED, "test")  # a test is laid down by the source


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
        if not (self.validation >= 0 and self.held_apart >= 0 and self.validation + self.held_apart < 1):  # nor nan
            raise ValueError(f"validation={self.validation} and held_apart={self.held_apart} must leave some to train")

    def part(self, index: int) -> str:
        """Part of the document with this index."""
        spot = int.from_bytes(blake2b(index.to_bytes(8, "big"), digest_size=8).digest(), "big") / 2**64
        if spot < self.validation:
            return "validation"
        return "held_apart" if spot < self.validation + self.held_apart else "train"

    def of(self, index: int, document: Document) -> str:
        """Part of a document: the one that it is laid down for, else the one of its index."""
        return document.part or self.part(index)

    def texts(self, source: Source, part: str = "train") -> Iterator[str]:
        """The texts of a part, of pairs both, empty ones left out; an error if there are none."""
        report, found = Report(type(source).__name__), False
        for index, document in wanted(source.documents(), report):
            if self.of(index, document) == part:
                found = True
                yield from (text for text in (document.given, document.text) if text is not None)
        if not found:
            raise ValueError(nothing(report, f" to {part}" if part == "train" else f" for {part}"))


def rows_key(source: Source, tokenizer: Tokenizer, shape: Shape, split: Split) -> str:
    """The name of the cache: everything that its rows depend on."""
    return fingerprint(VERSION, source.key(), tokenizer.key(), shape.key(), asdict(split))


def build(
    source: Source, tokenizer: Tokenizer, shape: Shape, split: Split, folder: Path, processes: int | None = None
) -> Report:
    """The rows' folder, built if it is not there. A build that is killed leaves nothing that could be taken for it, but
    what it tokenised, from where the next one goes on."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "report.json").is_file():
            building = folder.with_suffix(".building")
            shutil.rmtree(building / "rows", ignore_errors=True)
            (building / "rows").mkdir(parents=True)
            done = False
            try:
                write(source, tokenizer, shape, split, building, processes)
                shutil.rmtree(folder, ignore_errors=True)  # one without a report
                os.replace(building / "rows", folder)
                done = True
            finally:
                if done or not any(building.glob("segment-*")):
                    shutil.rmtree(building, ignore_errors=True)
    return Report.read(folder / "report.json")


def write(
    source: Source, tokenizer: Tokenizer, shape: Shape, split: Split, building: Path, processes: int | None
) -> None:
    """Write the rows of every part and the report into building/rows, by way of the segments kept in building."""
    report, folder = Report(type(source).__name__, tokenizer.vocab, shape.length), building / "rows"

    def whose(index: int, document: Document) -> str:
        fitting(document, report.source, shape)
        return split.of(index, document)

    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=source.count(), desc="tokenising", unit=" documents", disable=None))
        parts = {part: stack.enter_context(Filler(folder / f"{part}.arrow", tokenizer, shape)) for part in PARTS}
        for segment in segments(source, tokenizer, whose, building, report, processes):
            for name, row in segment.documents:
                parts[name].add(row)
            bar.update(len(segment.documents))
    for part, filler in parts.items():
        report.documents[part], report.tokens[part] = filler.documents, filler.tokens
        report.rows[part], report.lost[part] = filler.writer.rows, filler.lost
        report.truncated += filler.truncated
    if not sum(report.documents.values()):
        raise ValueError(nothing(report))
    report.write(folder / "report.json")
    for path in under(folder):
        settle(path)


def fitting(document: Document, source: str, shape: Shape) -> None:
    """Pairs have a shape for their sources, and single texts have none."""
    if document.given is not None and shape.given is None:
        raise ValueError(f"{source} gives pairs: set data.given, the most tokens of a source, below data.length")
    if document.given is None and shape.given is not None:
        raise ValueError(
            f"data.given is {shape.given}, but {source} gives single texts: leave it out, or name a source"
            " of pairs, such as Pairs or Verses"
        )


def nothing(report: Report, use: str = "") -> str:
    """The error where no document is left."""
    why = f": {report.skips()}" if report.skipped else "; give more text"
    return f"{report.source} gave no documents{use}{why}"


def no_validation(report: Report, split: Split) -> str:
    """The error where there is nothing to validate on."""
    return (
        f"validation={split.validation} takes {report.documents['validation']} of {sum(report.documents.values())} "
        f"documents with {report.tokens['validation']} tokens, which leaves no row of {report.length}; raise "
        "--data.validation, cut the text into more documents (Files: split=line), or turn it off with 0"
    )
