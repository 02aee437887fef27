"""The ways of a run of pairs begin with its sources, for models of every kind."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.eval.report.conftest import CAUSAL, MASKED, reported
from tests.helpers import tiny_recipe as tiny
from tests.helpers.browser import PROGRAM, Browser
from textflow.cli.app import main
from textflow.eval.report.trajectory_files import read_trajectory
from textflow.eval.trajectory.replay import differences, replay

pytestmark = pytest.mark.integration

LENGTH = 24


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A continuous, a masked and an autoregressive run of the same pairs, and their page."""
    folder = tmp_path_factory.mktemp("pairs")
    teacher = tiny.pairs(folder)
    rest = {key: value for key, value in yaml.safe_load(teacher.read_text()).items() if key not in ("model", "codec")}
    rest |= {"trainer": {"max_steps": 4, "val_check_interval": 4, "accelerator": "cpu", "precision": "32-true"}}
    assert main(["fit", str(teacher), "--run.folder", str(folder / "flow")]) == 0
    for name, model in (("masked", MASKED), ("causal", CAUSAL.replace("max_length: 16", f"max_length: {LENGTH}"))):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(yaml.safe_load(model) | rest))
        assert main(["fit", str(folder / f"{name}.yaml"), "--run.folder", str(folder / name)]) == 0
    return {name: folder / name for name in ("flow", "masked", "causal")}


@pytest.fixture(scope="module")
def page(runs: dict[str, Path]) -> Path:
    return reported(runs, 3)


def files(run: Path) -> list[Path]:
    return sorted((run / "trajectories").glob("*.json"))


def source(said: dict[str, Any]) -> dict[int, int]:
    return {i: token for i, token in enumerate(said["prompt_ids"]) if token >= 0}


def test_the_texts_of_a_fit_answer_sources_of_the_held_out_text(runs: dict[str, Path]) -> None:
    sources = {}
    for name, run in runs.items():
        path = max((run / "samples").glob("*.txt"))
        lines = re.split(r"(?m)^\[\d+\] ", path.read_text())[1:]
        assert all(" => " in line for line in lines), name
        sources[name] = [line.split(" => ")[0] for line in lines]
    assert sources["flow"] and all(said == sources["flow"][: len(said)] for said in sources.values())


def test_each_way_begins_with_its_source_and_keeps_it(page: Path, runs: dict[str, Path]) -> None:
    sources = {}
    for run in runs.values():
        for path in files(run):
            said = read_trajectory(path)
            given = source(said)
            sources.setdefault(said["index"], set()).add(json.dumps(said["prompt_ids"]))
            assert 0 < len(given) <= 12 and len(said["prompt_ids"]) == LENGTH
            assert all(call["ids"][i] == token for call in said["calls"] for i, token in given.items())
            assert all(said["ids"][i] == token for i, token in given.items())
            assert " => " in said["text"] and said["calls"][-1]["ids"] == said["ids"]
    assert [len(found) for found in sources.values()] == [1, 1] and sources[0] != sources[1]


def test_every_way_is_walked_again_from_its_record_alone(page: Path, runs: dict[str, Path]) -> None:
    for run in runs.values():
        for path in files(run):
            assert differences(*replay(path)) == [], path


def test_a_record_holds_the_guidance_by_the_source(page: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    path = files(runs["flow"])[0]
    said = read_trajectory(path)
    assert said["sampling"]["cfg_scale"] is None
    said["sampling"]["cfg_scale"] = 3.0
    (tmp_path / "guided.json").write_text(json.dumps(said))
    assert differences(*replay(tmp_path / "guided.json", runs["flow"])), "another scale is another way"


def test_an_autoregressive_answer_takes_a_call_a_token(page: Path, runs: dict[str, Path]) -> None:
    said = read_trajectory(files(runs["causal"])[0])
    assert len(said["calls"]) == LENGTH - len(source(said)) and said["cci"] == pytest.approx(1.0)


@pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt install chromium")
def test_the_page_marks_what_is_given(page: Path, runs: dict[str, Path]) -> None:
    said = read_trajectory(files(runs["flow"])[0])
    with Browser() as browser:
        browser.open(page)
        assert browser.errors == []
        assert browser.run("document.getElementById('is_prompt').hidden") is False
        panel = "document.querySelector('.panel')"
        assert browser.run(f"{panel}.querySelectorAll('.prompt').length") == len(source(said))
        told = str(browser.run(f"{panel}.querySelector('.counts').textContent"))
        assert f"of {LENGTH - len(source(said))} settled" in told
