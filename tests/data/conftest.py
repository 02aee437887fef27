"""Toys of the data room: a source of made-up texts and a tokenizer whose ids are letters."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest

from textflow.data import DataModule, Document, Source, Tokenizer, shards, tokenize
from textflow.data.base import BAD
from textflow.data.splits import SPLITS
from textflow.data.stats import DataStats


@dataclass(frozen=True)
class Made(Source):
    """n different texts, those in `empty` blank; `before` is called with the index of each before it is read."""

    n: int = 200
    longest: int = 60
    empty: tuple[int, ...] = ()
    before: Callable[[int], None] = lambda i: None

    def documents(self) -> Iterator[Document]:
        for i in range(self.n):
            self.before(i)
            digest = hashlib.sha256(str(i).encode()).hexdigest()
            text = (f"{i}:" + digest * 8)[: 5 + i * 7919 % self.longest]
            yield Document(" \n" if i in self.empty else text, f"made:{i}")

    def key(self) -> str:
        return f"made {self.n} {self.longest}"


def read_all(source: Source) -> list[Document]:
    """The documents of a source; a record that cannot be read is an error, as in a fit."""
    documents = []
    for document in source.documents():
        if document.skip == BAD:
            raise ValueError(document.origin)
        documents.append(document)
    return documents


def fail_at(index: int, error: Exception) -> Callable[[int], None]:
    """An error raised before the document of this index."""

    def before(i: int) -> None:
        if i == index:
            raise error

    return before


class Letters(Tokenizer):
    """Bytes + 2; pad 0, eos 1."""

    vocab_size, eos, pad = 258, 1, 0
    num_encoded = 0

    def key(self) -> str:
        return "letters"

    def prepare(self, texts: Callable[[], Iterator[str]], cache: Path) -> None:
        pass

    def encode(self, texts: list[str]) -> list[list[int]]:
        self.num_encoded += len(texts)
        return [[byte + 2 for byte in text.encode()] for text in texts]

    def decode_ids(self, ids: list[list[int]]) -> list[str]:
        return [bytes(i - 2 for i in row).decode() for row in ids]

    def write(self, folder: Path) -> dict[str, Any]:
        return {}

    @classmethod
    def read(cls, folder: Path, options: dict[str, Any]) -> "Letters":
        return cls()


class Broken(Exception):
    """The connection is lost."""


def assert_equal_rows(a: Path, b: Path) -> None:
    for name in SPLITS:
        assert (a / f"{name}.arrow").read_bytes() == (b / f"{name}.arrow").read_bytes(), name
    assert DataStats.read(a / "stats.json") == DataStats.read(b / "stats.json")


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Chunks of a few documents, shards of a few chunks."""
    monkeypatch.setattr(tokenize, "MAX_CHARACTERS", 300)
    monkeypatch.setattr(shards, "MAX_CHARACTERS", 900)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")


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
