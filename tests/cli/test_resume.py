"""`textflow fit` goes on: in other batches, in its own text alone, and after its time."""

from pathlib import Path

import pytest

from tests.helpers.tiny_recipe import write_recipe
from textflow.cli.app import main

pytestmark = pytest.mark.integration

WORDS = [
    "--codec", "null", "--model.codec", "EmbeddingTable", "--model.codec.dim", "8",
    "--model.objective.time_schedule", "LogitNormal",
    "--trainer.enable_progress_bar", "false",
]  # fmt: skip


@pytest.fixture
def teacher(tmp_path: Path) -> list[str]:
    """The words of a fit of four steps that is done."""
    words = ["fit", str(write_recipe(tmp_path)), *WORDS]
    assert main([*words, "--trainer.max_steps", "4"]) == 0
    return words


def test_batches_may_change_as_a_refusal_says_which_changes_nothing_itself(
    teacher: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, halves = (
        (tmp_path / "run" / "recipe.yaml").read_text(),
        ["--trainer.max_steps", "6", "--data.batch_size", "2"],
    )
    assert main([*teacher, *halves]) == 2
    said = capsys.readouterr().err
    assert (
        "takes 4 rows a step" in said and "give --data.batch_size times --trainer.accumulate_grad_batches = 4" in said
    )
    assert (tmp_path / "run" / "recipe.yaml").read_text() == kept
    assert main([*teacher, *halves, "--trainer.accumulate_grad_batches", "2"]) == 0


def test_a_run_does_not_go_on_in_other_tokens_than_it_has_learned(
    teacher: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, held = tmp_path / "text.txt", (tmp_path / "run" / "tokenizer" / "textflow_tokenizer.json").read_text()
    text.write_text(text.read_text().translate(str.maketrans("bdk", "dkb")))
    assert main([*teacher, "--trainer.max_steps", "8"]) == 2
    assert "its text has changed" in capsys.readouterr().err
    assert (tmp_path / "run" / "tokenizer" / "textflow_tokenizer.json").read_text() == held


def test_a_run_whose_time_is_over_says_so_and_has_it_anew(
    teacher: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*teacher, "--trainer.max_steps", "100000", "--trainer.max_time", "00:00:00:01"]
    assert main(words) == main(words) == 130
    first, second = (line for line in capsys.readouterr().out.splitlines() if line.startswith("max_time is over"))
    assert 4 < int(first.split()[5]) < int(second.split()[5]) and second.endswith("the same command resumes it")
