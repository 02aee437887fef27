"""Toys of the data room: a source of made-up texts and a tokenizer whose ids are letters."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from textflow.data import DataModule, Document, Source, Tokenizer


@dataclass(frozen=True)
class Made(Source):
    """n texts of varying length, all different."""

    n: int = 200
    longest: int = 60

    def documents(self) -> Iterator[Document]:
        for i in range(self.n):
            digest = hashlib.sha256(str(i).encode()).hexdigest()
            yield Document((f"{i}:" + digest * 8)[: 5 + i * 7919 % self.longest], f"made:{i}")

    def key(self) -> str:
        return f"made {self.n} {self.longest}"


class Letters(Tokenizer):
    """Bytes + 2; pad 0, eos 1."""

    vocab_size, eos, pad = 258, 1, 0

    def key(self) -> str:
        return "letters"

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        pass

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[byte + 2 for byte in text.encode()] for text in texts]

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return [bytes(i - 2 for i in row).decode() for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        return {}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "Letters":
        return cls()


@pytest.fixture
def made() -> type[Made]:
    return Made


@pytest.fixture
def letters() -> Letters:
    return Letters()


@pytest.fixture
def data(tmp_path: Path) -> Callable[..., DataModule]:
    """A small data module, prepared and set up."""

    def make(**options: Any) -> DataModule:
        defaults: dict[str, Any] = {"source": Made(), "tokenizer": Letters(), "seq_length": 16, "batch_size": 4}
        module = DataModule(**{**defaults, "val_fraction": 0.1, "cache": str(tmp_path / "cache"), **options})
        module.prepare_data()
        module.setup()
        return module

    return make
