"""The protocol that a run is scored under unless one is given."""

import json
from pathlib import Path

import pytest
import yaml

from textflow.cli.distill import compare_students
from textflow.cli.scorers import default_protocol


@pytest.mark.parametrize(
    "data, protocol",
    [
        ({"source": {"class_path": "textflow.data.Stories"}, "pack": False}, "stories"),
        ({"source": {"class_path": "textflow.data.Stories"}}, "local"),  # rows of several stories
        ({"source": {"class_path": "textflow.data.Bible"}, "pack": False}, "local"),
        ({}, "local"),
    ],
)
def test_stories_are_scored_by_their_grammar_and_other_text_by_a_model(
    tmp_path: Path, data: dict[str, object], protocol: str
) -> None:
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"data": data, "run": {}}))
    assert default_protocol(tmp_path) == protocol


def test_a_file_of_texts_and_a_missing_run_have_the_protocol_local(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a text")
    assert default_protocol(tmp_path / "texts.txt") == default_protocol(tmp_path / "nothing") == "local"


def test_students_of_stories_are_compared_by_their_valid_texts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    data = {"source": {"class_path": "textflow.data.Stories"}, "pack": False}
    (teacher / "recipe.yaml").write_text(yaml.safe_dump({"data": data, "model": {"class_path": "textflow.Generator"}}))
    rounds = {"teacher": str(teacher), "rounds": [{"run": "steps-2", "steps": 2}]}
    (tmp_path / "rounds.json").write_text(json.dumps(rounds))
    compare_students(tmp_path)
    output = capsys.readouterr().out
    assert "their shares of valid stories" in output and f"{tmp_path / 'steps-2'} --steps 2" in output
