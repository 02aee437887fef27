"""A key that YAML gives twice is an error with both lines: a parser would silently take the last."""

from pathlib import Path

import pytest

import textflow
from tests.helpers.user_errors import refused
from textflow.config import recipe
from textflow.config.model import load_model
from textflow.config.strict_yaml import load_yaml, refuse_duplicates
from textflow.eval.protocol import PROTOCOL_FOLDER, load_protocol


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {seq_length: 9}\nmodel: ELF\ndata: {seq_length: 8}\n", "gives data in lines 1 and 3"),
        ("model:\n  init_args:\n    net: ELF\n    net: DiT\n", "gives net in lines 3 and 4"),
        ("trainer:\n  callbacks:\n    - {class_path: CCI, class_path: DABI}\n", "gives class_path in line 3, twice"),
        ("data:\n  files: a.txt\n  'files': b.txt\n", "gives files in lines 2 and 3"),
        ("data.seq_length: 48\ndata:\n  seq_length: 28\n", "gives data.seq_length in lines 1 and 3"),
        ("trainer: {max_steps: 7}\ntrainer.max_steps: 5\n", "gives trainer.max_steps in lines 1 and 2"),
        ("run.wandb: false\nrun: {folder: b}\n", "gives run.wandb in lines 1 and 2"),  # its section drops it
        ("data.source.paths: a\ndata: {source: {init_args: {paths: b}}}\n", "data.source.paths in lines 1 and 2"),
        ("model: {init_args: {net.width: 3, net: {init_args: {width: 4}}}}\n", "model.net.width in line 1, twice"),
    ],
)
def test_a_duplicate_key_of_a_recipe_is_named_with_both_lines(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    refused(message, load_yaml, tmp_path / "mine.yaml")


def test_duplicates_on_the_command_line_and_in_a_protocol_are_refused_too(tmp_path: Path) -> None:
    refused("--data gives seq_length in line 1, twice", recipe.parse, [], ["--data", "{seq_length: 9, seq_length: 8}"])
    (tmp_path / "mine.yaml").write_text((PROTOCOL_FOLDER / "local.yaml").read_text() + "n: 3\nn: 4\n")
    refused("mine.yaml gives n in lines", load_protocol, str(tmp_path / "mine.yaml"))


def test_one_key_in_two_mappings_and_an_alias_are_no_duplicates() -> None:
    refuse_duplicates("a: &x {b: 1}\nc: [{b: 1}, {b: 2}, *x]\nd: {<<: *x, e: 1}\n1: 2\n'1': 3\n", "text")


def test_a_key_with_dots_that_adds_to_a_section_is_no_duplicate() -> None:
    refuse_duplicates("run: {a: 1}\nrun.b: 2\ndata.a: 1\ndata.b: 2\nx: {y: {init_args: {y: 1}}}\n", "text")
    refuse_duplicates("a: [{b.c: 1}, {b: {c: 1}}]\n1.5: 1\n1: {5: 1}\n", "text")


def test_a_duplicate_key_in_the_recipe_of_a_run_is_named(tmp_path: Path) -> None:
    refused("the recipe gives seed in lines 1 and 2", load_model, "seed: 1\nseed: 2\n", 300)
    assert textflow.load
