"""Trajectories of a run on pairs begin with its sources, for models of every kind."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.eval.report.conftest import fit_kinds
from tests.helpers import tiny_recipe
from tests.helpers.browser import PROGRAM, Browser
from textflow.eval.report.trajectory_files import read_trajectory
from textflow.eval.trajectory.replay import differences, replay

pytestmark = pytest.mark.integration

LENGTH = 24


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A continuous, a masked and an autoregressive run on the same pairs."""
    folder = tmp_path_factory.mktemp("pairs")
    return fit_kinds(folder, tiny_recipe.pairs(folder))


def prompt(record: dict[str, Any]) -> dict[int, int]:
    return {i: token for i, token in enumerate(record["prompt_ids"]) if token >= 0}


def test_texts_of_a_fit_answer_held_out_sources(runs: dict[str, Path]) -> None:
    sources = {}
    for name, run in runs.items():
        path = max((run / "samples").glob("*.txt"))
        lines = re.split(r"(?m)^\[\d+\] ", path.read_text())[1:]
        assert all(" => " in line for line in lines), name
        sources[name] = [line.split(" => ")[0] for line in lines]
    assert sources["flow"] and all(texts == sources["flow"][: len(texts)] for texts in sources.values())


def test_each_trajectory_starts_with_its_source_and_keeps_it(files: dict[str, list[Path]]) -> None:
    prompts = {}
    for path in (path for paths in files.values() for path in paths):
        record = read_trajectory(path)
        tokens = prompt(record)
        prompts.setdefault(record["index"], set()).add(json.dumps(record["prompt_ids"]))
        assert 0 < len(tokens) <= 12 and len(record["prompt_ids"]) == LENGTH
        assert all(call["ids"][i] == token for call in record["calls"] for i, token in tokens.items())
        assert all(record["ids"][i] == token for i, token in tokens.items())
        assert " => " in record["text"] and record["calls"][-1]["ids"] == record["ids"]
    assert [len(rows) for rows in prompts.values()] == [1, 1] and prompts[0] != prompts[1]


def test_a_replay_needs_only_the_record(files: dict[str, list[Path]]) -> None:
    for path in (*files["flow"][::3], files["masked"][1], files["causal"][1]):
        assert differences(*replay(path)) == [], path


def test_a_record_holds_the_guidance_scale(files: dict[str, list[Path]], runs: Any, tmp_path: Path) -> None:
    record = read_trajectory(files["flow"][0])
    assert record["sampling"]["cfg_scale"] is None
    record["sampling"]["cfg_scale"] = 3.0
    (tmp_path / "guided.json").write_text(json.dumps(record))
    assert differences(*replay(tmp_path / "guided.json", runs["flow"]))


def test_an_autoregressive_answer_takes_one_call_per_token(files: dict[str, list[Path]]) -> None:
    record = read_trajectory(files["causal"][0])
    assert len(record["calls"]) == LENGTH - len(prompt(record)) and record["cci"] == pytest.approx(1.0)


@pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt install chromium")
def test_the_page_marks_the_prompt(page: Path, files: dict[str, list[Path]]) -> None:
    length = len(prompt(read_trajectory(files["flow"][0])))
    with Browser() as browser:
        browser.open(page)
        assert browser.errors == []
        assert browser.run("document.getElementById('is_prompt').hidden") is False
        panel = "document.querySelector('.panel')"
        assert browser.run(f"{panel}.querySelectorAll('.prompt').length") == length
        counts = str(browser.run(f"{panel}.querySelector('.counts').textContent"))
        assert f"of {LENGTH - length} settled" in counts
