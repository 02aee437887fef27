"""Prompts of a file: prompt i is line i."""

from pathlib import Path

from tests.helpers.user_errors import refused
from textflow.cli.prompts import read_prompts


def test_a_blank_line_between_prompts_is_refused_so_that_text_i_is_line_i(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("one\n\ntwo\n")
    refused(r"prompts\.txt:2 is blank, but text i is made from prompt i", read_prompts, file)
    file.write_text("one\ntwo\n\n \n")
    assert read_prompts(file) == ["one", "two"]


def test_a_prompt_of_several_lines_is_given_as_a_record(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"text": "one\\nmore"}\n{"text": "two"}\n')
    assert read_prompts(file) == ["one\nmore", "two"]
    file.write_text('{"text": "one"}\n{"prompt": "two"}\n')
    refused(r"prompts\.jsonl:2: no text; a record needs one in its field `text`", read_prompts, file)


def test_a_file_without_a_prompt_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbf\n")
    refused("holds no prompt", read_prompts, file)
    file.write_bytes(b"na\xefve\n")
    refused(r"prompts\.txt:1: not UTF-8", read_prompts, file)
