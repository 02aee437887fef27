"""A file of samples that is continued."""

import json
from pathlib import Path

import pytest

from textflow.cli.sample import written

SETTINGS = {"seed": 0, "steps": 4, "sampler": "Euler()", "guidance": None, "length": None}


def file(folder: Path, texts: list[str], tail: bytes = b"", **changed: object) -> Path:
    out = folder / "samples.jsonl"
    rows = [{"index": i, "text": text, **SETTINGS, **changed} for i, text in enumerate(texts)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    out.write_bytes(lines.encode() + tail)
    return out


def test_a_file_that_is_not_there_holds_none_and_its_folder_is_made(tmp_path: Path) -> None:
    out = tmp_path / "new" / "samples.jsonl"
    assert written(out, SETTINGS) == 0 and out.parent.is_dir() and not out.exists()


def test_an_empty_file_holds_none(tmp_path: Path) -> None:
    assert written(file(tmp_path, []), SETTINGS) == 0


def test_whole_lines_are_counted_and_kept(tmp_path: Path) -> None:
    out = file(tmp_path, ["one", "two\nlines", "three"])
    before = out.read_bytes()
    assert written(out, SETTINGS) == 3 and out.read_bytes() == before


@pytest.mark.parametrize("tail", [b'{"index": 2, "te', b"{", '{"text": "caf\u00e9'.encode()[:-1]])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    whole = file(tmp_path, ["one", "two"]).read_bytes()
    out = file(tmp_path, ["one", "two"], tail)
    assert written(out, SETTINGS) == 2 and out.read_bytes() == whole


def test_only_a_new_line_ends_a_line(tmp_path: Path) -> None:
    out = file(tmp_path, ["a\u2028b\u0085c\u2029d", "\r\x0b\x0c\x1c"])
    before = out.read_bytes()
    assert written(out, SETTINGS) == 2 and out.read_bytes() == before


@pytest.mark.parametrize("changed", [{"steps": 8}, {"seed": 1}, {"sampler": "Heun()"}, {"guidance": 2.0}])
def test_texts_of_other_settings_are_not_continued(tmp_path: Path, changed: dict[str, object]) -> None:
    out = file(tmp_path, ["one"], **changed)
    before, (key, value) = out.read_bytes(), next(iter(changed.items()))
    with pytest.raises(ValueError, match=f"{key} .*->") as found:
        written(out, SETTINGS)
    assert str(value) in str(found.value) and ":1 " in str(found.value) and out.read_bytes() == before


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b'{"text": "no settings"}\n'])
def test_another_kind_of_file_is_not_touched(tmp_path: Path, line: bytes) -> None:
    out = tmp_path / "diary.txt"
    out.write_bytes(line)
    with pytest.raises(ValueError, match="not a sample of textflow"):
        written(out, SETTINGS)
    assert out.read_bytes() == line
