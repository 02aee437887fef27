"""Files of a folder or a pattern that are not read are counted and named."""

import gzip
from pathlib import Path

import pytest

from tests.data.conftest import read_all
from textflow.data import JsonlPairs, TextFiles
from textflow.data.base import Document

HIDDEN, OTHER = "hidden files", "files of another format beside texts"


def split_documents(source: TextFiles | JsonlPairs) -> tuple[list[str], list[Document]]:
    """Texts that are used, and the documents that count what is left out."""
    documents = read_all(source)
    return [document.text for document in documents if not document.skip], [d for d in documents if d.skip]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folder with one visible text, hidden files and hidden folders."""
    for name in ("a.txt", ".ipynb_checkpoints/a.txt", "._b.txt", ".git/x.jsonl", "books/.old/c.txt.gz", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0hidden" if name != "a.txt" else b"seen")
    return tmp_path


def test_hidden_files_of_a_folder_are_left_out_and_counted(folder: Path) -> None:
    texts, hidden = split_documents(TextFiles(str(folder)))
    assert texts == ["seen"] and {document.skip for document in hidden} == {HIDDEN} and len(hidden) == 4
    (folder / ".named.txt").write_text("named")
    assert split_documents(TextFiles(str(folder / ".named.txt"))) == (["named"], [])
    assert split_documents(TextFiles(str(folder / ".na*.txt"))) == (["named"], [])


@pytest.mark.parametrize(
    ("pattern", "hidden"),
    [
        ("*.txt", ["._b.txt"]),
        ("**/*.txt", ["._b.txt", ".ipynb_checkpoints/a.txt"]),
        ("[a-z.]*", ["._b.txt"]),
        ("a.*", []),
    ],
)
def test_hidden_files_that_a_pattern_leaves_out_are_counted(
    folder: Path, pattern: str, hidden: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for prefix in (f"{folder}/", ""):
        texts, left_out = split_documents(TextFiles(prefix + pattern))
        assert texts == ["seen"] and {document.skip for document in left_out} <= {HIDDEN}
        assert [document.origin for document in left_out] == [prefix + name for name in hidden]


def test_a_folder_of_tables_alone_is_read_and_files_beside_texts_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none\n")
    assert split_documents(TextFiles(str(tmp_path))) == (["one"], [])
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"two"))
    (tmp_path / "x.json").write_text("{}")
    texts, left_out = split_documents(TextFiles(str(tmp_path)))
    assert texts == ["two"] and {document.skip for document in left_out} == {OTHER}
    assert [document.origin for document in left_out] == [str(tmp_path / name) for name in ("a.csv", "x.json")]


def test_a_table_beside_pairs_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"source": "ein", "target": "one"}\n')
    (tmp_path / "b.tsv").write_text("source\ttarget\nzwei\ttwo\n")
    texts, (left_out,) = split_documents(JsonlPairs(str(tmp_path)))
    assert texts == ["one"] and left_out.origin == str(tmp_path / "b.tsv") and left_out.skip == OTHER
