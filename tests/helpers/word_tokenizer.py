"""A tokenizer of words, for generators that tests make up; ids are those of tests/helpers/tiny_scorer.py."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from textflow.data import Tokenizer


class Words(Tokenizer):
    """Word i is id i; the first is the EOS, which pads too."""

    def __init__(self, words: Sequence[str]) -> None:
        self.known = list(words)

    @property
    def vocab_size(self) -> int:
        return len(self.known)

    @property
    def eos(self) -> int:
        return 0

    @property
    def pad(self) -> int:
        return 0

    def key(self) -> str:
        return " ".join(self.known)

    def prepare(self, texts: Any, cache: Path) -> None:
        """Nothing."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[self.known.index(word) if word in self.known else 1 for word in text.split()] for text in texts]

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return [" ".join(self.known[i] for i in row) for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        return {"words": self.known}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "Words":
        return cls(**options)


class PaddedWords(Words):
    """The first word is the pad, the second the EOS."""

    eos, pad = 1, 0
