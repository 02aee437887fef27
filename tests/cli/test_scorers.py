"""The protocol that a run is scored under unless one is given."""

from pathlib import Path

import pytest
import yaml

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
