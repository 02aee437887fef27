"""Hugging Face tokenizer that is loaded on first use."""

from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from textflow.data.base import Tokenizer
from textflow.data.tokenizers.huggingface import HFTokenizer


class LazyHFTokenizer(Tokenizer):
    """Hub tokenizer with a fixed vocabulary size; models can be built and used on latents without loading it.

    Args:
        name: Hub name, or a local folder.
        vocab_size: number of ids that models reserve, at least the tokenizer's own.
        eos_token: token that ends a text, where the tokenizer defines none.
        pad_token: token that fills a row, where the tokenizer defines none.
    """

    def __init__(self, name: str, vocab_size: int, eos_token: str | None = None, pad_token: str | None = None) -> None:
        self.name, self._vocab_size, self.options = name, vocab_size, {"eos_token": eos_token, "pad_token": pad_token}

    @cached_property
    def inner(self) -> HFTokenizer:
        """The wrapped tokenizer, loaded on first access."""
        inner = HFTokenizer(self.name, **self.options)
        if inner.vocab_size > self._vocab_size:
            raise ValueError(
                f"the tokenizer {self.name} has {inner.vocab_size} ids, the model only {self._vocab_size}: name its own"
            )
        return inner

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

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

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return self.inner.decode_ids([[i for i in row if i < self.inner.vocab_size] for row in ids])

    def write(self, folder: Path) -> dict[str, Any]:
        options = {"name": self.name, "vocab_size": self._vocab_size, **self.options}
        return options | (self.inner.write(folder) | {"name": "."} if "inner" in vars(self) else {})

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "LazyHFTokenizer":
        return cls(**options | ({"name": str(folder)} if options["name"] == "." else {}))
