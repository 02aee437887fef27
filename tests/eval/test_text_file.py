import json

import pytest

from textflow.eval.text_file import read_texts


@pytest.fixture
def file(tmp_path):
    def made(name: str, *lines: bytes):
        (tmp_path / name).write_bytes(b"\n".join(lines))
        return tmp_path / name

    return made


def test_what_cannot_be_read_is_counted_and_named(file):
    whole = json.dumps({"text": "two", "ids": [1, 2]}).encode()
    path = file("a.jsonl", b'{"text": "one"}', b'"plain"', b"\xff", b'{"a": 1}', b"[]", b"", whole, b'{"text": "to')
    found = read_texts(path)
    assert found.texts == ["one", "plain", "two"] and found.ids is None
    assert found.errors == [
        "a.jsonl:3 is not UTF-8",
        "a.jsonl:4 has no text",
        "a.jsonl:5 has no text",
        "a.jsonl:6 is not JSON",
        "a.jsonl:8 is not JSON",
    ]
    assert found.listed_errors == [*found.errors[:3], "and 2 more"]


@pytest.mark.parametrize(
    "line", [b'{"text": "a \\ud800"}', b'{"text": 3}', b'{"text": null}', b'{"text": "a", "ids": 3}', b"3"]
)
def test_json_that_is_no_text_is_unreadable(file, line):
    assert len(read_texts(file("a.jsonl", b'{"text": "one"}', line)).errors) == 1


def test_ids_are_taken_where_every_line_has_them(file):
    assert read_texts(file("a.jsonl", b'{"text": "a", "ids": [1]}', b'{"text": "", "ids": []}', b"")).ids == [[1], []]


def test_a_line_separator_inside_a_text_ends_no_line(file):
    assert read_texts(file("a.jsonl", json.dumps("a\u2028b\x85c", ensure_ascii=False).encode(), b"")).texts == [
        "a\u2028b\x85c"
    ]


def test_a_text_file_has_a_text_a_line_and_an_empty_line_is_an_empty_sample(file):
    found = read_texts(file("a.txt", b"one \r", b"", b"two \xc3\xa9", b"\xe9", b""))
    assert found.texts == ["one ", "", "two é"] and found.errors == ["a.txt:4 is not UTF-8"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_an_empty_file_is_refused(file, name):
    with pytest.raises(ValueError, match="holds no text that can be read"):
        read_texts(file(name))


def test_a_file_of_nothing_readable_names_the_first_lines(file):
    with pytest.raises(ValueError, match=r"a\.jsonl:1 is not JSON; a\.jsonl:2 is not UTF-8"):
        read_texts(file("a.jsonl", b"x", b"\xff"))


def test_the_first_n_keep_their_ids(file):
    found = read_texts(file("a.jsonl", b'{"text": "a", "ids": [1]}', b'{"text": "b", "ids": [2]}')).take(1)
    assert found.texts == ["a"] and found.ids == [[1]]
