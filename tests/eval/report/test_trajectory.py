"""A recorded way is the way that the sampler went, and it can be walked again from the record alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from textflow import run_folder
from textflow.cli.app import main
from textflow.diagnostics.margins import token_margins
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.escapes import NoEscape
from textflow.eval.report.trajectory_files import is_complete, read_trajectory
from textflow.eval.trajectory.record import record_run
from textflow.eval.trajectory.replay import differences, replay
from textflow.noise import Noise, sample_seeds
from textflow.samplers import Euler

Record = dict[str, Any]
WAYS = ("ODE", "re-injection", "mode-commit", "own")


@pytest.fixture(scope="module")
def files(page: Path, runs: dict[str, Path]) -> dict[str, list[Path]]:
    return {name: sorted((run / "trajectories").glob("*.json")) for name, run in runs.items()}


@pytest.fixture(scope="module")
def ways(runs: dict[str, Path], files: dict[str, list[Path]]) -> dict[str, Record]:
    """The first sample's ways of the continuous run."""
    return {
        name: read_trajectory(next((runs["flow"] / "trajectories").glob(f"{name}-4-seed0-0-*.json"))) for name in WAYS
    }


@pytest.mark.integration
def test_each_sample_is_walked_in_every_way(files: dict[str, list[Path]]) -> None:
    assert [len(found) for found in files.values()] == [8, 2, 2]


@pytest.mark.integration
def test_every_record_is_reproduced_exactly_from_itself(files: dict[str, list[Path]]) -> None:
    for path in (path for found in files.values() for path in found if "-seed0-0-" in path.name):
        said, now = replay(path)
        assert differences(said, now) == [], path
        assert all(said[name] == now[name] for name in ("calls", "ids", "text", "cci", "token_texts")), path


@pytest.mark.integration
def test_the_run_may_lie_elsewhere_and_its_recipe_sample_otherwise(files: Any, runs: Any, tmp_path: Path) -> None:
    moved = shutil.copytree(runs["flow"], tmp_path / "moved")
    text = (moved / "recipe.yaml").read_text()
    (moved / "recipe.yaml").write_text(text.replace("self_cond_guidance: 1.0", "self_cond_guidance: 2.5"))
    assert "self_cond_guidance: 2.5" in (moved / "recipe.yaml").read_text()
    for path in sorted((moved / "trajectories").glob("[ro]*-1-*.json")):  # re-injection, own
        assert differences(*replay(path)) == [], path


@pytest.mark.integration
def test_the_record_holds_the_text_that_sample_writes(runs: Any, files: Any, tmp_path: Path) -> None:
    for name, run in runs.items():
        out = tmp_path / f"{name}.jsonl"
        assert main(["sample", str(run), "-n", "2", "--steps", "4", "--device", "cpu", "--out", str(out)]) == 0
        written = [json.loads(line)["text"] for line in out.read_text(encoding="utf-8").split("\n")[:-1]]
        assert written == [
            read_trajectory(next((run / "trajectories").glob(f"own-4-seed0-{i}-*.json")))["text"] for i in range(2)
        ]


@pytest.mark.integration
def test_the_last_call_shows_what_is_written(files: dict[str, list[Path]]) -> None:
    for found in files.values():
        for path in found:
            said = read_trajectory(path)
            assert said["calls"][-1]["ids"] == said["ids"], path


@pytest.mark.integration
def test_all_ways_begin_at_the_same_noise_and_part_later(ways: dict[str, Record]) -> None:
    first = [said["calls"][0] for said in ways.values()]
    assert all(call["t"] == 0 and call["committed"] == [-1] * 16 for call in first)
    assert first[0]["ids"] == first[2]["ids"] and first[0]["margin"] == first[2]["margin"]
    assert len({json.dumps(said["calls"][2]["margin"]) for said in ways.values()}) == len(WAYS)


@pytest.mark.integration
def test_only_a_way_that_commits_has_chosen_tokens(ways: dict[str, Record]) -> None:
    shares = {name: [sum(c >= 0 for c in call["committed"]) for call in said["calls"]] for name, said in ways.items()}
    assert shares["ODE"] == shares["re-injection"] == [0, 0, 0, 0]
    assert shares["mode-commit"] == [0, 16, 16, 0], "none at t = 0, and none after the last call"
    assert shares["own"] == [0, 8, 8, 0], "its gate takes half of the positions"
    for call in ways["mode-commit"]["calls"][1:3]:
        assert call["committed"] == call["ids"] and min(call["margin"]) >= 0


@pytest.mark.integration
def test_leads_and_cci_are_those_of_the_diagnostics(runs: dict[str, Path], ways: dict[str, Record]) -> None:
    """The ODE's leads by `margins`; the CCI of its own way by the measure of the callback."""
    model: Any = run_folder.load(runs["flow"])
    seed = sample_seeds(0, 0, 1)
    made = model.sample(seed, 4)
    assert ways["own"]["cci"] == generator_cci(model, made, Noise(seed)) and ways["ODE"]["cci"] == 0
    made = model.sample(seed, 4, Euler(), escape=NoEscape())
    lead = token_margins(made.trace, model.decode_logits, made.ids).margin[:, 0]
    told = torch.tensor([call["margin"] for call in ways["ODE"]["calls"]], dtype=torch.float64)
    torch.testing.assert_close(told, lead, atol=1e-4, rtol=0)


@pytest.mark.integration
def test_a_masked_model_keeps_what_it_has_chosen(files: dict[str, list[Path]]) -> None:
    for path in files["masked"]:
        said = read_trajectory(path)
        chosen = [call["committed"] for call in said["calls"]]
        for before, after in zip(chosen, chosen[1:], strict=False):
            assert all(b == a for b, a in zip(before, after, strict=True) if b >= 0)
        assert chosen[-1] == said["ids"] and -1 in chosen[0]
        assert 0 < said["cci"] < 1


@pytest.mark.integration
def test_an_autoregressive_model_has_a_cci_of_one(files: dict[str, list[Path]]) -> None:
    said = read_trajectory(files["causal"][0])
    assert said["cci"] == pytest.approx(1.0) and len(said["calls"]) == 16
    assert [sum(token >= 0 for token in call["ids"]) for call in said["calls"]] == list(range(1, 17))


@pytest.mark.integration
def test_sample_from_record_prints_the_text(files: dict[str, list[Path]], capsys: pytest.CaptureFixture[str]) -> None:
    path = files["flow"][0]
    capsys.readouterr()
    assert main(["sample", "--replay", str(path)]) == 0
    assert capsys.readouterr().out == read_trajectory(path)["text"] + "\n"


def changed(path: Path, folder: Path, **to: Any) -> Path:
    """A record with other entries, beside the same run."""
    out = folder / "changed.json"
    out.write_text(json.dumps(json.loads(path.read_text()) | {"checkpoint": str(path.parent.parent)} | to))
    return out


@pytest.mark.integration
def test_a_record_that_is_not_reproduced_says_where(files: Any, tmp_path: Path, capsys: Any) -> None:
    calls = read_trajectory(files["flow"][0])["calls"]
    calls[1]["ids"][2] += 1
    calls[3]["margin"][5] += 0.5
    path = changed(files["flow"][0], tmp_path, calls=calls, torch="1.0")
    assert main(["sample", "--replay", str(path)]) == 2
    said = capsys.readouterr().err
    assert "ids first at call 2, position 3" in said and "margin first at call 4, position 6" in said
    assert "torch 1.0 -> " in said and "Traceback" not in said


@pytest.mark.integration
def test_other_weights_are_refused(files: Any, runs: Any, tmp_path: Path, capsys: Any) -> None:
    assert main(["sample", "--replay", str(changed(files["flow"][0], tmp_path, checkpoint_hash="0" * 16))]) == 2
    assert "was made with weights 0000000000000000" in capsys.readouterr().err
    gone = changed(files["flow"][0], tmp_path, checkpoint=str(tmp_path / "gone"))
    assert main(["sample", "--replay", str(gone)]) == 2
    assert "weights were not found; name a RUN" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": "other"}', '{"format": "textflow trajectory 1"}'])
def test_what_is_no_record_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    assert main(["sample", "--replay", str(path)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said and said.count("\n") == 1


@pytest.mark.integration
def test_nothing_is_made_twice_and_new_weights_are_walked_anew(runs: Any, files: Any, tmp_path: Path) -> None:
    run = shutil.copytree(runs["masked"], tmp_path / "masked")
    assert is_complete(run, 2, 4, 0) and list(record_run(run, 2, 4)) == []
    assert not is_complete(run, 3, 4, 0) and not is_complete(run, 2, 5, 0) and not is_complete(run, 2, 4, 1)
    flow = shutil.copytree(runs["flow"], tmp_path / "flow")
    for path in (flow / "trajectories").glob("*.json"):
        if not path.name.startswith("ODE"):
            path.unlink()
    assert not is_complete(flow, 2, 4, 0), "an interrupted one goes on"
    with (run / "model.safetensors").open("ab") as file:
        file.write(b" ")
    assert not is_complete(run, 2, 4, 0), "other bytes are other weights"
