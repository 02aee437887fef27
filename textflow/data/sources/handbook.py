"""Pairs of a book in two languages, from a Debian package that the user downloads; the book is not included here."""

import lzma
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from html.parser import HTMLParser
from io import BytesIO
from pathlib import PurePosixPath
from typing import BinaryIO

from textflow.data.base import Document
from textflow.data.fingerprint import fingerprint
from textflow.data.sources.downloads import find_download
from textflow.data.sources.pairs import PairSource
from textflow.data.splits import SplitRules

PACKAGE = "debian-handbook_11.20220922_all.deb"
SHA256 = "3d5dbeac1f1afc9c094eab9d0f701f6ecff99c4927d5a4794cf6c85678134faa"
DOWNLOAD_COMMAND = (
    "apt-get download debian-handbook=11.20220922, or from "
    f"https://deb.debian.org/debian/pool/main/d/debian-handbook/{PACKAGE}"
)
PAGES = PurePosixPath("usr/share/doc/debian-handbook/html")
AR_MAGIC, AR_HEADER = b"!<arch>\n", 60  # of the archive format of Debian packages


@dataclass(frozen=True)
class Handbook(PairSource):
    """Sentences of The Debian Administrator's Handbook and their translations (GPL-2.0-or-later or CC-BY-SA-3.0).

    Pages with the same number of paragraphs in both languages are aligned, and paragraphs with the same number of
    sentences by these; others are pairs as a whole [ours]. A pair that shares half of its words is left out as
    untranslated. Validation and test take whole pages.

    Args:
        package: the downloaded file debian-handbook_11.20220922_all.deb, or its folder; download it with
            apt-get download debian-handbook=11.20220922
        source_language: language of the sources, a folder of the package: de-DE, fr-FR, es-ES, ru-RU, ...
        target_language: language of the targets.
        val_fraction: share of the pages used for validation, in [0, 1).
        test_fraction: share of the pages used for the test split, in [0, 1).
    """

    package: str = PACKAGE
    source_language: str = "de-DE"
    target_language: str = "en-US"
    val_fraction: float = 0.04
    test_fraction: float = 0.12

    def pairs(self, split_name: str) -> Iterator[Document]:
        split = SplitRules(self.val_fraction, self.test_fraction)  # its scorer_holdout serves as the test split
        wanted = "scorer_holdout" if split_name == "test" else split_name
        sources, targets = read_pages(self.package, self.source_language, self.target_language)
        for index, page in enumerate(sorted(sources.keys() & targets.keys())):
            if split.split_of_index(index) == wanted:
                for number, (source, target) in enumerate(align_paragraphs(sources[page], targets[page]), 1):
                    yield Document(target, f"{page}:{number}", source)

    def key(self) -> str:
        languages = (self.source_language, self.target_language)
        return fingerprint("Handbook 1", SHA256, *languages, self.val_fraction, self.test_fraction)


@lru_cache(maxsize=1)
def read_pages(package: str, *languages: str) -> list[dict[str, list[str]]]:
    """The paragraphs of each page by its name, in each of the languages."""
    path = find_download(package, PACKAGE, SHA256, "package of the handbook", DOWNLOAD_COMMAND)
    pages: dict[str, dict[str, list[str]]] = {}
    with path.open("rb") as file, tarfile.TarFile(fileobj=BytesIO(read_data_archive(file))) as archive:
        for member in archive:
            page = PurePosixPath(member.name)
            if page.suffix == ".html" and page.parent.parent == PAGES and (content := archive.extractfile(member)):
                own = pages.setdefault(page.parent.name, {})
                if page.parent.name in languages:
                    own[page.name] = paragraphs(content.read().decode("utf-8"))
    if unknown := [name for name in languages if name not in pages]:
        raise ValueError(f"the handbook has no language {unknown[0]!r}; it has {', '.join(sorted(pages))}")
    return [pages[name] for name in languages]


def read_data_archive(file: BinaryIO) -> bytes:
    """The uncompressed tar archive of a Debian package's files; the package is an `ar` archive of several members."""
    if file.read(len(AR_MAGIC)) != AR_MAGIC:
        raise ValueError(f"{file.name} is not a Debian package")
    while len(header := file.read(AR_HEADER)) == AR_HEADER:
        name, size = header[:16].decode("ascii").rstrip(" /"), int(header[48:58])
        if name == "data.tar.xz":
            return lzma.decompress(file.read(size))
        file.seek(size + size % 2, 1)
    raise ValueError(f"{file.name} holds no data.tar.xz")


def align_paragraphs(source: list[str], target: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of sentences, or of paragraphs whose numbers of sentences differ; none of pages that differ in paragraphs.

    Args:
        source: paragraphs of a page.
        target: paragraphs of the same page in another language.
    """
    if len(source) != len(target):
        return
    for pair in zip(source, target, strict=True):
        sentences = [split_sentences(paragraph) for paragraph in pair]
        is_equal = len(sentences[0]) == len(sentences[1])
        yield from filter(is_translated, zip(*sentences, strict=True) if is_equal else [pair])


def is_translated(pair: tuple[str, str]) -> bool:
    """True unless half of the words of either text are also words of the other."""
    words = [set(text.split()) for text in pair]
    return 2 * len(words[0] & words[1]) < min(map(len, words))


def split_sentences(text: str) -> list[str]:
    """Split a text after full stops, question and exclamation marks that a capital letter follows."""
    sentences: list[str] = []
    for part in re.split(r"(?<=[.!?])\s+", text):
        if sentences and not part[:1].isupper():
            sentences[-1] += f" {part}"
        else:
            sentences.append(part)
    return sentences


def paragraphs(page: str) -> list[str]:
    """Texts of a page's paragraphs, white space collapsed."""
    parser = ParagraphParser()
    parser.feed(page)
    return [" ".join("".join(parts).split()) for parts in parser.texts]


class ParagraphParser(HTMLParser):
    """Collector of the texts of `<div class="para">`, each without the paragraphs inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[list[str]] = []
        self.open: list[list[str] | None] = []  # the text of each open div; None of one that is no paragraph

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "div":
            text: list[str] | None = [] if ("class", "para") in attrs else None
            self.open.append(text)
            if text is not None:
                self.texts.append(text)

    def handle_endtag(self, tag: str) -> None:
        if tag == "div" and self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and (text := self.open[-1]) is not None:
            text.append(data)
