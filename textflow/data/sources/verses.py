"""Pairs without a network: a verse of the King James text, and the verse after it."""

from collections.abc import Iterator
from dataclasses import dataclass

from textflow.data.base import Document
from textflow.data.build import Split
from textflow.data.fingerprint import fingerprint, stamp
from textflow.data.sources.bible import chapters, kjv
from textflow.data.sources.pairs import Paired


@dataclass(frozen=True)
class Verses(Paired):
    """Verse -> next verse of its chapter: 29,914 pairs, whole chapters of them kept for validation and test.

    Args:
        validation: share of the chapters, in [0, 1).
        test: share of the chapters, in [0, 1).
    """

    validation: float = 0.02
    test: float = 0.02

    def pairs(self, part: str) -> Iterator[Document]:
        split = Split(self.validation, self.test)  # what it holds apart is the test
        wanted = "held_apart" if part == "test" else part
        for index, (name, verses) in enumerate(chapters()):
            if split.part(index) == wanted:
                for number, (verse, following) in enumerate(zip(verses, verses[1:], strict=False), 1):
                    yield Document(following, f"{name}:{number}", verse)

    def key(self) -> str:
        return fingerprint("Verses 1", self.validation, self.test, stamp(kjv())[1])
