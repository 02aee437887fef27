import json

import pytest

from tests.helpers.user_errors import refused
from textflow.eval.text_file import read_texts


@pytest.fixture
def file(tmp_path):
    def write(name: str, *lines: bytes):
        (tmp_path / name).write_bytes(b"\n".join(lines))
        return tmp_path / name

    return write


def test_unreadable_lines_are_counted_and_listed(file):
    complete = json.dumps({"text": "two", "ids": [1, 2]}).encode()
    path = file("a.jsonl", b'{"text": "one"}', b'"plain"', b"\xff", b'{"a": 1}', b"[]", b"", complete, b'{"text": "to')
    parsed = read_texts(path)
    assert parsed.texts == ["one", "plain", "two"] and parsed.ids is None
    reasons = {3: "not UTF-8", 4: "no text", 5: "a list, an object", 8: "not JSON"}  # line 6 is blank
    starts = [f"{path}:{number}: {reason}" for number, reason in reasons.items()]
    assert [error.startswith(start) for error, start in zip(parsed.errors, starts, strict=True)] == [True] * 4
    assert "iconv -f LATIN1" in parsed.errors[0] and parsed.listed_errors == [*parsed.errors[:3], "and 1 more"]


def test_json_without_a_text_is_unreadable(file):
    lines = (b'{"text": "a \\ud800"}', b'{"text": 3}', b'{"text": null}', b'{"text": "a", "ids": 3}', b"3")
    assert len(read_texts(file("a.jsonl", b'{"text": "one"}', *lines)).errors) == len(lines)


def test_ids_are_read_if_each_line_has_them(file):
    parsed = read_texts(file("a.jsonl", b'{"text": "a", "ids": [1]}', b'{"text": "", "ids": []}', b""))
    assert parsed.ids == [[1], []]
    assert parsed.take(1).texts == ["a"] and parsed.take(1).ids == [[1]]


def test_a_unicode_line_separator_does_not_end_a_line(file):
    text = "a\u2028b\x85c"
    assert read_texts(file("a.jsonl", json.dumps(text, ensure_ascii=False).encode(), b"")).texts == [text]


def test_a_text_file_has_a_text_a_line_and_an_empty_line_is_an_empty_sample(file, tmp_path):
    parsed = read_texts(file("a.txt", b"one \r", b"", b"two \xc3\xa9", b"\xe9", b""))
    assert parsed.texts == ["one ", "", "two é"] and len(parsed.errors) == 1
    assert parsed.errors[0].startswith(f"{tmp_path}/a.txt:4: not UTF-8")


def test_a_file_without_readable_lines_is_refused_with_the_first_reasons(file):
    refused(r"a\.jsonl:1: not JSON .*; .*a\.jsonl:2: not UTF-8", read_texts, file("a.jsonl", b"x", b"\xff"))
    for name in ("a.txt", "a.jsonl"):
        refused("holds no text that can be read", read_texts, file(name))


def test_what_sample_prints_is_refused_since_its_marks_are_no_text(file):
    printed = (b"[0] In the", b"beginning", b"[1] God")
    refused("`textflow sample` prints, .*--out FILE.jsonl", read_texts, file("f.txt", *printed))
    refused("`textflow sample` prints", read_texts, file("f.txt", "[0] \u00abAnd\u00bb he".encode()))
    assert read_texts(file("f.txt", b"[1] a footnote", b"[0] an index")).texts == ["[1] a footnote", "[0] an index"]


def test_a_nul_is_no_text_in_a_line_but_a_character_of_a_record(file):
    assert read_texts(file("a.jsonl", b'{"text": "a\\u0000"}')).texts == ["a\0"]
    assert len(read_texts(file("a.txt", b"one", b"t\0w\0o\0")).errors) == 1
