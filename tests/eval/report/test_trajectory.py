"""A trajectory record is the path that the sampler took, and it can be replayed from the record alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.user_errors import Fails
from textflow import run_folder
from textflow.cli.app import main
from textflow.diagnostics.margins import token_margins
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.escapes import NoEscape
from textflow.eval.report.trajectory_files import is_complete, read_trajectory
from textflow.eval.trajectory.record import Record, record_run
from textflow.eval.trajectory.replay import differences, replay
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def records(files: dict[str, list[Path]]) -> dict[str, Record]:
    """Trajectories of the continuous run's first sample by method."""
    first = [path for path in files["flow"] if "-4-seed0-0-" in path.name]
    return {path.name.split("-4-seed0")[0]: read_trajectory(path) for path in first}


def test_each_sample_is_recorded_under_every_method(files: dict[str, list[Path]]) -> None:
    assert [len(paths) for paths in files.values()] == [8, 2, 2]
    for path in (path for paths in files.values() for path in paths):
        record = read_trajectory(path)
        assert record["calls"][-1]["ids"] == record["ids"], path


def test_every_record_is_reproduced_exactly_from_itself(files: Any, runs: Any, tmp_path: Path) -> None:
    """The continuous run is moved, and its recipe names another guidance scale than the records."""
    moved = shutil.copytree(runs["flow"], tmp_path / "moved")
    recipe = (moved / "recipe.yaml").read_text()
    assert "self_cond_guidance: 1.0" in recipe
    (moved / "recipe.yaml").write_text(recipe.replace("self_cond_guidance: 1.0", "self_cond_guidance: 2.5"))
    for path in (*sorted((moved / "trajectories").glob("*-seed0-0-*")), files["masked"][0], files["causal"][0]):
        record, replayed = replay(path)
        assert differences(record, replayed) == [], path
        assert all(record[name] == replayed[name] for name in ("calls", "ids", "text", "cci", "token_texts")), path


def test_the_record_holds_the_text_that_sample_writes(runs: Any, files: Any, tmp_path: Path) -> None:
    for name, run in runs.items():
        out = tmp_path / f"{name}.jsonl"
        assert main(["sample", str(run), "-n", "2", "--steps", "4", "--device", "cpu", "--out", str(out)]) == 0
        written = [json.loads(line)["text"] for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
        assert written == [read_trajectory(path)["text"] for path in files[name] if path.name.startswith("own-")]


def test_all_methods_begin_at_the_same_noise_and_diverge_later(records: dict[str, Record]) -> None:
    first = [record["calls"][0] for record in records.values()]
    assert all(call["t"] == 0 and call["committed"] == [-1] * 16 for call in first)
    ode, commit = (records[name]["calls"][0] for name in ("ODE", "mode-commit"))
    assert ode["ids"] == commit["ids"] and ode["margin"] == commit["margin"]
    assert len({json.dumps(record["calls"][2]["margin"]) for record in records.values()}) == 4


def test_only_a_method_that_commits_has_committed_tokens(records: dict[str, Record]) -> None:
    counts = {
        name: [sum(token >= 0 for token in call["committed"]) for call in record["calls"]]
        for name, record in records.items()
    }
    assert counts["ODE"] == counts["re-injection"] == [0, 0, 0, 0]
    assert counts["mode-commit"] == [0, 16, 16, 0], "none at t = 0, and none after the last call"
    assert counts["own"] == [0, 8, 8, 0], "its gate takes half of the positions"
    for call in records["mode-commit"]["calls"][1:3]:
        assert call["committed"] == call["ids"] and min(call["margin"]) >= 0


def test_margins_and_cci_equal_the_diagnostics(runs: dict[str, Path], records: dict[str, Record]) -> None:
    model: Any = run_folder.load(runs["flow"])
    seed = sample_seeds(0, 0, 1)
    assert records["own"]["cci"] == generator_cci(model, model.sample(seed, 4), Noise(seed))
    assert records["ODE"]["cci"] == 0
    samples = model.sample(seed, 4, Euler(), escape=NoEscape())
    margin = token_margins(samples.trace, model.decode_logits, samples.ids).margin[:, 0]
    recorded = torch.tensor([call["margin"] for call in records["ODE"]["calls"]], dtype=torch.float64)
    torch.testing.assert_close(recorded, margin, atol=1e-4, rtol=0)


def test_a_masked_model_keeps_its_chosen_tokens(files: dict[str, list[Path]]) -> None:
    for record in map(read_trajectory, files["masked"]):
        committed = [call["committed"] for call in record["calls"]]
        for before, after in zip(committed, committed[1:], strict=False):
            assert all(b == a for b, a in zip(before, after, strict=True) if b >= 0)
        assert committed[-1] == record["ids"] and -1 in committed[0]
        assert 0 < record["cci"] < 1


def test_an_autoregressive_model_has_a_cci_of_one(files: dict[str, list[Path]]) -> None:
    record = read_trajectory(files["causal"][0])
    assert record["cci"] == pytest.approx(1.0) and len(record["calls"]) == 16
    assert [sum(token >= 0 for token in call["ids"]) for call in record["calls"]] == list(range(1, 17))


def test_sample_replay_prints_the_text(files: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["sample", "--replay", str(files["flow"][0])]) == 0
    assert capsys.readouterr().out == read_trajectory(files["flow"][0])["text"] + "\n"


def write_changed(path: Path, folder: Path, **entries: Any) -> Path:
    """Record with other entries, of the same run."""
    out = folder / "changed.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    out.write_text(json.dumps(record | {"checkpoint": str(path.parent.parent)} | entries))
    return out


def test_a_different_replay_names_the_first_difference(files: Any, tmp_path: Path, fails: Fails) -> None:
    calls = read_trajectory(files["flow"][0])["calls"]
    calls[1]["ids"][2] += 1
    calls[3]["margin"][5] += 0.5
    path = write_changed(files["flow"][0], tmp_path, calls=calls, torch="1.0")
    error = fails(["sample", "--replay", str(path)], "ids first at call 2, position 3", "torch 1.0 -> ")
    assert "margin first at call 4, position 6" in error and "Traceback" not in error


def test_other_or_missing_weights_are_refused(files: Any, tmp_path: Path, fails: Fails) -> None:
    for entries, problem in (
        ({"checkpoint_hash": "0" * 16}, "was made with weights 0000000000000000"),
        ({"checkpoint": str(tmp_path / "gone")}, "weights were not found; name a RUN"),
    ):
        fails(["sample", "--replay", str(write_changed(files["flow"][0], tmp_path, **entries))], problem)


def test_records_are_reused_until_weights_or_settings_change(runs: Any, files: Any, tmp_path: Path) -> None:
    run = shutil.copytree(runs["masked"], tmp_path / "masked")
    assert is_complete(run, 2, 4, 0) and list(record_run(run, 2, 4)) == []
    assert not any(is_complete(run, *settings) for settings in ((3, 4, 0), (2, 5, 0), (2, 4, 1)))
    ignored = shutil.ignore_patterns("re-injection*", "mode-commit*", "own*")
    interrupted = shutil.copytree(runs["flow"], tmp_path / "flow", ignore=ignored)
    assert not is_complete(interrupted, 2, 4, 0)
    with (run / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert not is_complete(run, 2, 4, 0), "other bytes are other weights"
