"""Measures of a diagnosis: what does not apply to a model is left out with its reason, or is an error."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.user_errors import refused
from textflow.cli.measures import print_measures

TITLES = {"dabi": "ratio", "tube": "law", "cci": "share"}


def measure(name: str) -> list[dict[str, Any]]:
    if name == "tube":
        raise ValueError("the nearest boundaries need a latent per token")
    return [{"K": 8, "value": 0.5}]


def test_a_measure_that_does_not_apply_is_left_out_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"n": 4}
    results = print_measures(list(TITLES), TITLES, measure, facts, tmp_path, chosen=False)
    printed = capsys.readouterr()
    assert "no tube: the nearest boundaries need a latent per token" in printed.err
    assert "ratio" in printed.out and "share" in printed.out and "law" not in printed.out
    assert set(results) == {"run", "dabi", "cci"} and facts == {"n": 4}
    refusals = {"tube": "the nearest boundaries need a latent per token"}
    assert json.loads((tmp_path / "diagnose.json").read_text())["run"] == {"n": 4, "refusals": refusals}


def test_a_measure_that_was_named_or_the_last_hope_is_an_error(tmp_path: Path) -> None:
    for names, chosen in ((["dabi", "tube"], True), (["tube"], False), (["tube", "tube"], False)):
        refused("need a latent per token", print_measures, names, TITLES, measure, {}, tmp_path, chosen)
