"""Tokenised documents in pieces that are kept as they are made: an interrupted build goes on after the last of them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from textflow.data.base import Document, Source, Tokenizer
from textflow.data.stats import Report
from textflow.data.tokenize import Encoded, encoded
from textflow.runtime.atomic import replace

CHARACTERS = 1 << 26  # of text in a segment; all but the last of a source are kept


class Segment(NamedTuple):
    """Documents that follow one another.

    Args:
        documents: the part and the ids of each.
        after: where the source goes on, and what was skipped up to there; plain data.
    """

    documents: list[tuple[str, Encoded]]
    after: dict[str, Any]


def segments(
    source: Source,
    tokenizer: Tokenizer,
    part: Callable[[int, Document], str],
    folder: Path,
    report: Report,
    processes: int | None,
) -> Iterator[Segment]:
    """The tokenised documents of a source, in order: those kept in a folder, then the rest, of which whole segments are
    kept.

    Args:
        source: read from the first document that is not kept.
        tokenizer: ready to encode.
        part: of the document with an index.
        folder: where segments are kept.
        report: counts what is skipped.
        processes: that tokenise; all cores unless given.
    """
    number, after = 0, None
    while (segment := read(folder / name(number))) is not None:
        yield segment
        number, after = number + 1, segment.after
    for torn in folder.glob("segment-*"):
        if torn.name >= name(number):
            torn.unlink()
    if after:
        report.skipped.update(after["skipped"])
        report.first.update(after["first"])
        rank_zero_info(f"going on after {after['place']['documents']:,} documents tokenised before an interruption")
    for segment in fresh(source, tokenizer, part, report, processes, after):
        if segment.after:
            replace(folder / name(number), lambda path, segment=segment: write(segment, path))  # type: ignore[misc]
            number += 1
        yield segment


def fresh(
    source: Source,
    tokenizer: Tokenizer,
    part: Callable[[int, Document], str],
    report: Report,
    processes: int | None,
    after: dict[str, Any] | None,
) -> Iterator[Segment]:
    """The segments after a place; the last one, to the source's end, has no place after it."""
    reading = source.begin(after["place"] if after else None)

    def mark() -> dict[str, Any]:
        return {"place": reading.place(), "skipped": dict(report.skipped), "first": dict(report.first)}

    held: list[tuple[str, Encoded]] = []
    size = 0
    for chunk, ids in encoded(wanted(reading, report, reading.done), tokenizer, processes, mark):
        held += [(part(i, document), row) for (i, document), row in zip(chunk.documents, ids, strict=True)]
        size += sum(len(document.text) + len(document.given or "") for _, document in chunk.documents)
        if size >= CHARACTERS:
            yield Segment(held, chunk.after)
            held, size = [], 0
    yield Segment(held, {})


def wanted(documents: Iterator[Document], report: Report, first: int = 0) -> Iterator[tuple[int, Document]]:
    """The documents with their index; those without text, or pairs without one of the two, are counted as skipped.

    Args:
        documents: of a source.
        report: counts them.
        first: index of the first.
    """
    for index, document in enumerate(documents, first):
        if document.text.strip() and (document.given is None or document.given.strip()):
            yield index, document
        else:
            report.skip("empty", document)


def name(number: int) -> str:
    """Of a segment's file."""
    return f"segment-{number:06d}.npz"


def write(segment: Segment, path: Path) -> None:
    """One file of plain arrays, each with a checksum."""
    rows = [row for _, row in segment.documents]
    with path.open("wb") as file:
        np.savez(
            file,
            ids=np.concatenate([row.ids for row in rows]),
            lengths=np.array([len(row.ids) for row in rows], np.int64),
            given=np.array([row.given for row in rows], np.int64),
            parts=np.array([part for part, _ in segment.documents]),
            after=np.array(json.dumps(segment.after)),
        )


def read(path: Path) -> Segment | None:
    """A kept segment; None if there is none, or a damaged one, which is said."""
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            if (torn := file.zip.testzip()) is not None:  # what a changed header leaves unread has its checksum, too
                raise ValueError(f"{torn} does not have its checksum")
            ids, lengths, given, parts, after = (file[key] for key in ("ids", "lengths", "given", "parts", "after"))
        rows = np.split(ids, np.cumsum(lengths)[:-1])
        triples = zip(parts.tolist(), rows, given.tolist(), strict=True)
        return Segment([(part, Encoded(row, n)) for part, row, n in triples], json.loads(str(after)))
    except Exception as error:  # an archive has many ways to be damaged
        rank_zero_warn(f"{path} is damaged ({error}); tokenised again from there")
        return None
