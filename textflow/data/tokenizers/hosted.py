"""A Hugging Face tokenizer that is fetched when text is first needed."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from textflow.data.base import Tokenizer
from textflow.data.tokenizers.huggingface import HuggingFace


class Hosted(Tokenizer):
    """A tokenizer on the Hub whose size is known: a model can be built, and used on latents, without fetching it.

    Args:
        name: Hub name, or a local folder.
        vocab: number of ids that models reserve; at least the tokenizer's own.
        eos: as in HuggingFace.
        pad: as in HuggingFace.
    """

    def __init__(self, name: str, vocab: int, eos: str | None = None, pad: str | None = None) -> None:
        self.name, self.size, self.options = name, vocab, {"eos": eos, "pad": pad}

    @cached_property
    def inner(self) -> HuggingFace:
        """The tokenizer itself, fetched now."""
        inner = HuggingFace(self.name, **self.options)
        if inner.vocab > self.size:
            raise ValueError(
                f"the tokenizer {self.name} has {inner.vocab} ids, the model only {self.size}: name its own"
            )
        return inner

    @property
    def vocab(self) -> int:
        return self.size

    @property
    def eos(self) -> int:
        return self.inner.eos

    @property
    def pad(self) -> int:
        return self.inner.pad

    def key(self) -> str:
        return self.inner.key()

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        self.inner.prepare(texts, cache)

    def encode(self, texts: list[str]) -> list[list[int]]:
        return self.inner.encode(texts)

    def words(self, ids: list[list[int]]) -> list[str]:
        return self.inner.words([[i for i in row if i < self.inner.vocab] for row in ids])

    def write(self, folder: Path) -> dict[str, Any]:
        options = {"name": self.name, "vocab": self.size, **self.options}
        return options | (self.inner.write(folder) | {"name": "."} if "inner" in vars(self) else {})

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "Hosted":
        return cls(**options | ({"name": str(folder)} if options["name"] == "." else {}))
