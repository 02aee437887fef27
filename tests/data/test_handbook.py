"""The handbook: sentences and their translations, from the pages of a Debian package."""

import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from textflow.data.sources import handbook
from textflow.data.sources.handbook import PACKAGE, Handbook, align_paragraphs, paragraphs, split_sentences

PAGE = '<html><body><p>Menu</p><div class="section"><div class="para">{}\n\t<b>{}</b></div></div></body></html>'
GERMAN = {"de-DE/a.html": PAGE.format("Der Hund", "schläft. Eine Katze?"), "de-DE/b.html": PAGE.format("Nur", "hier.")}
ENGLISH = {"en-US/a.html": PAGE.format("The dog", "sleeps. A cat?"), "en-US/c.html": PAGE.format("Only", "there.")}
WORDS = {"de-DE": "Wort und", "en-US": "word and"}
Write = Callable[[dict[str, str]], Path]


def ar_member(name: str, content: bytes) -> bytes:
    """A member of an `ar` archive, at an even length."""
    header = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode()
    return header + content + b"\n" * (len(content) % 2)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write a Debian package of pages, which counts as the tested one."""

    def write_package(pages: dict[str, str]) -> Path:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, text in pages.items():
                info = tarfile.TarInfo(f"./{handbook.PAGES}/{name}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
        members = {"debian-binary": b"2.0\nx", "data.tar.xz": lzma.compress(buffer.getvalue())}
        content = b"!<arch>\n" + b"".join(ar_member(name, data) for name, data in members.items())
        (tmp_path / PACKAGE).write_bytes(content)
        monkeypatch.setattr(handbook, "SHA256", hashlib.sha256(content).hexdigest())
        handbook.read_pages.cache_clear()
        return tmp_path

    return write_package


def test_sentences_of_pages_in_both_languages_are_pairs(write: Write) -> None:
    source = Handbook(str(write(GERMAN | ENGLISH)), val_fraction=0.0, test_fraction=0.0)
    found = [(pair.source, pair.text, pair.origin) for pair in source.documents()]
    assert found == [("Der Hund schläft.", "The dog sleeps.", "a.html:1"), ("Eine Katze?", "A cat?", "a.html:2")]


def test_validation_and_test_take_whole_pages(write: Write) -> None:
    pages = {f"{language}/{i}.html": PAGE.format(word, i) for i in range(40) for language, word in WORDS.items()}
    source = Handbook(str(write(pages)), val_fraction=0.2, test_fraction=0.3)
    splits = {name: [pair.origin for pair in source.pairs(name)] for name in ("train", "validation", "test")}
    assert all(len(origins) > 5 for origins in splits.values())
    assert sorted(sum(splits.values(), [])) == sorted(f"{i}.html:1" for i in range(40)), "each in one split"


def test_a_language_that_is_not_there_is_refused_with_those_that_are(write: Write) -> None:
    folder = write(GERMAN | ENGLISH)
    with pytest.raises(ValueError, match="no language 'fr-FR'; it has de-DE, en-US"):
        list(Handbook(str(folder), "fr-FR").documents())


def test_another_package_and_none_are_refused_with_the_way_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no package of the handbook found.*apt-get download"):
        list(Handbook(str(tmp_path)).documents())
    (tmp_path / PACKAGE).write_bytes(b"!<arch>\n")
    with pytest.raises(ValueError, match=r"sha256 differs.*apt-get download"):
        list(Handbook(str(tmp_path)).documents())


def test_paragraphs_of_different_numbers_of_sentences_are_pairs_as_a_whole() -> None:
    assert list(align_paragraphs(["Eins. Zwei."], ["One; two."])) == [("Eins. Zwei.", "One; two.")]
    assert not list(align_paragraphs(["Eins.", "Zwei."], ["One."])), "pages differ"
    assert not list(align_paragraphs(["Not translated yet."], ["Not translated yet."]))
    assert not list(align_paragraphs(["Same as in section 6.6 above."], ["Same as in Abschnitt 6.6 above."]))


def test_a_full_stop_ends_a_sentence_only_before_a_capital_letter() -> None:
    assert split_sentences("Siehe z. b. hier. Über allem! ja. 3 Fragen?") == [
        "Siehe z. b. hier.",
        "Über allem! ja. 3 Fragen?",
    ]


def test_a_paragraph_inside_another_is_one_of_its_own() -> None:
    page = '<div class="para">a <div class="list"><div class="para">b</div></div>&amp; c</div><div>d</div>'
    assert paragraphs(page) == ["a & c", "b"]
