"""Splits of documents: train, validation, scorer_holdout and test; equal documents share one."""

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple

from textflow.data.base import BAD, Document, Source
from textflow.data.stats import COPIES, LEAKS, DataStats

FRACTION_SPLITS = ("train", "validation", "scorer_holdout")
SPLITS = (*FRACTION_SPLITS, "test")  # the test split is fixed by the source


@dataclass(frozen=True)
class SplitRules:
    """Assignment of documents to splits, and the documents to leave out.

    A document's split follows from its index and the fractions; one that equals an earlier document follows that one.

    Args:
        val_fraction: share of the documents used for validation, in [0, 1).
        scorer_holdout: share of the documents that only a scorer is trained on, in [0, 1).
        skip: documents to leave out: records that cannot be read (bad), those that equal an earlier one (duplicates),
            or both. Default: the former are an error, the latter are used.
    """

    val_fraction: float
    scorer_holdout: float
    skip: Literal["bad", "duplicates", "both"] | None = None

    def __post_init__(self) -> None:
        fractions = (self.val_fraction, self.scorer_holdout)
        if not (min(fractions) >= 0 and sum(fractions) < 1):  # also refuses nan
            names = "val_fraction={} and scorer_holdout={}".format(*fractions)
            raise ValueError(f"{names} must leave some to train on")

    def split_of_index(self, index: int) -> str:
        """Split of the document with this index, if no earlier one is equal."""
        position = int.from_bytes(blake2b(index.to_bytes(8, "big"), digest_size=8).digest(), "big") / 2**64
        if position < self.val_fraction:
            return "validation"
        return "scorer_holdout" if position < self.val_fraction + self.scorer_holdout else "train"

    def texts(self, source: Source, split: str = "train") -> Iterator[str]:
        """Iterate over the non-empty texts of a split, both texts of a pair; raises if there are none."""
        stats, found = DataStats(type(source).__name__), False
        for assignment, document in Splitter(self, source, stats).assign(source.documents()):
            if assignment.split == split:
                found = True
                yield from (text for text in (document.source, document.text) if text is not None)
        if not found:
            raise ValueError(no_documents_error(stats, " to train" if split == "train" else f" for {split}"))


class Assignment(NamedTuple):
    """Split of a document, and the digest of its text, 0 where equal documents may have different splits."""

    split: str
    digest: int


class Splitter:
    """Assigns the documents of a source to splits, in order.

    Args:
        rules: fractions, and documents to leave out.
        source: source of the documents.
        stats: statistics that count the documents left out and those that equal an earlier one.
    """

    def __init__(self, rules: SplitRules, source: Source, stats: DataStats) -> None:
        self.rules, self.source, self.stats, self.first_splits = rules, source, stats, FirstSplits()
        self.compares, self.skips_copies = not source.draws_independently, rules.skip in ("duplicates", "both")

    def assign(self, documents: Iterator[Document], first_index: int = 0) -> Iterator[tuple[Assignment, Document]]:
        """Iterate over the documents to use, numbered from `first_index`, with their splits."""
        for index, document in enumerate(documents, first_index):
            reason = document.skip or ("empty" if is_empty(document) else None)
            if reason == BAD and self.rules.skip not in ("bad", "both"):
                raise ValueError(f"{document.origin}; to leave such records out: --data.skip bad")
            assignment = None if reason else self._assign(index, document)
            if assignment is None:
                self.stats.count_skipped(reason or "duplicate", document)
            else:
                yield assignment, document

    def resume(self, splits: Iterable[str], digests: Iterable[int]) -> None:
        """Continue after documents with these splits and digests."""
        for split, digest in zip(splits, digests, strict=True):
            if digest:
                self.first_splits.setdefault(digest, split)

    def _assign(self, index: int, document: Document) -> Assignment | None:
        """Split and digest of a document; None for a copy to leave out."""
        split = document.split or self.rules.split_of_index(index)
        if not self.compares:
            return Assignment(split, 0)
        digest = digest_of(document)
        earlier = self.first_splits.setdefault(digest, split)
        if earlier is None:
            return Assignment(split, digest)
        if self.skips_copies:
            return None
        is_leak = document.split is not None and earlier != split
        self.stats.count_repeated(LEAKS if is_leak else COPIES, document)
        return Assignment(split if is_leak else earlier, digest)


def is_empty(document: Document) -> bool:
    """True for an empty text, and for a pair with an empty side."""
    return not document.text.strip() or (document.source is not None and not document.source.strip())


def digest_of(document: Document) -> int:
    """Hash of a document's texts without outer white space, with 62 bits above two zeros; never 0."""
    digest = blake2b(digest_size=8)
    for text in (document.source, document.text):
        digest.update(b"\0" if text is None else text.strip().encode("utf-8", "surrogatepass") + b"\1")
    return int.from_bytes(digest.digest(), "big") & ~3 or 4


class FirstSplits:
    """Map from digests to the split of the first document of that digest, a hash table of 16 to 32 bytes per document.

    An entry is the digest plus the number of the split, and 0 is an empty slot; a collision is tried at the next slot.
    """

    def __init__(self) -> None:
        self.slots, self.count = array("Q", bytes(8 << 10)), 0

    def setdefault(self, digest: int, split: str) -> str | None:
        """Split of an earlier document with this digest; None if there is none, and then `split` is stored."""
        slot = self._find(digest)
        if self.slots[slot]:
            return SPLITS[self.slots[slot] & 3]
        self.slots[slot] = digest | SPLITS.index(split)
        self.count += 1
        if 2 * self.count > len(self.slots):
            self._grow()
        return None

    def _find(self, digest: int) -> int:
        """Slot of a digest, or the empty slot where it belongs."""
        slot = (digest >> 2) % len(self.slots)
        while (entry := self.slots[slot]) and entry ^ digest > 3:
            slot = (slot + 1) % len(self.slots)
        return slot

    def _grow(self) -> None:
        entries, self.slots = self.slots, array("Q", bytes(16 * len(self.slots)))
        for entry in entries:
            if entry:
                self.slots[self._find(entry & ~3)] = entry


def no_documents_error(stats: DataStats, purpose: str = "") -> str:
    """Error message for a source without documents to use."""
    reason = f": {stats.describe_skipped()}" if stats.skipped else "; give more text"
    return f"{stats.source} gave no documents{purpose}{reason}"
