"""Pairs that need no network: a verse of the King James Bible and the verse after it."""

from collections.abc import Iterator
from dataclasses import dataclass

from textflow.data.base import Document
from textflow.data.fingerprint import fingerprint, stamp
from textflow.data.sources.bible import chapters, kjv_path
from textflow.data.sources.pairs import PairSource
from textflow.data.splits import SplitRules


@dataclass(frozen=True)
class Verses(PairSource):
    """Pairs of a verse and the next verse of its chapter, 29,914 in all; validation and test take whole chapters.

    Args:
        val_fraction: share of the chapters used for validation, in [0, 1).
        test_fraction: share of the chapters used for the test split, in [0, 1).
    """

    val_fraction: float = 0.02
    test_fraction: float = 0.02

    def pairs(self, split_name: str) -> Iterator[Document]:
        split = SplitRules(self.val_fraction, self.test_fraction)  # its scorer_holdout serves as the test split
        fraction_split = "scorer_holdout" if split_name == "test" else split_name
        for index, (name, verses) in enumerate(chapters()):
            if split.split_of_index(index) == fraction_split:
                for number, (verse, following) in enumerate(zip(verses, verses[1:], strict=False), 1):
                    yield Document(following, f"{name}:{number}", verse)

    def key(self) -> str:
        return fingerprint("Verses 1", self.val_fraction, self.test_fraction, stamp(kjv_path())[1])
