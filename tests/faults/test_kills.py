"""A job that is killed twenty times loses the steps since its last checkpoint each time, and nothing else."""

import csv
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.helpers.bitwise import is_same
from tests.helpers.processes import Commands
from tests.helpers.tiny_recipe import write_recipe
from textflow.training import latest_state
from textflow.training.checkpoint_io import step_of
from textflow.training.weights import read_weights

pytestmark = pytest.mark.integration

STEPS, EVERY, KILLS = 480, 4, 20
LONG = ["--trainer.max_steps", str(STEPS), "--run.save_every", str(EVERY), "--run.sample_every", "60"]
NO_CODEC = [
    *("--codec=null", "--model.codec=EmbeddingTable", "--model.codec.dim=8"),
    "--model.objective.time_schedule=LogitNormal",
]


def job(folder: Path) -> list[str]:
    folder.mkdir()
    return ["fit", str(write_recipe(folder)), *LONG, "--trainer.enable_progress_bar", "false"]


def log(run: Path) -> list[list[str]]:
    """Every logged number but the speed."""
    with open(run / "metrics.csv", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row[1] != "train/tokens_per_second"]


def step(run: Path) -> int:
    """Of the newest whole state; 0 without one."""
    state = latest_state(run) if (run / "state").is_dir() else None
    return step_of(state.parent) if state else 0


def moment(chance: random.Random, run: Path) -> dict:
    """Now in the middle of writing one of the next states, now anywhere, the beginning and the codec included."""
    if chance.random() < 0.7:
        later = step(run) + EVERY * chance.randint(1, 4)
        return {"kill": chance.uniform(0, 0.05), "watch": str(run / "state" / f".step-{later:08d}.tmp")}
    return {"kill": chance.uniform(0, 1)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(cut off|damaged):UserWarning")
def test_twenty_kills_at_random_moments_change_no_bit(commands: Commands, tmp_path: Path) -> None:
    complete, argv, chance = tmp_path / "whole", job(tmp_path / "torn"), random.Random(7)
    run = tmp_path / "torn" / "run"
    assert commands.run(*job(complete), limit=600).code == 0
    killed, saved = 0, [0]
    while killed < KILLS:
        done = commands.run(*argv, limit=600, **moment(chance, run))
        assert done.code == -9 and not done.late, f"killed {killed} times at {saved}: {done.err}"
        assert ("continued from" in done.out) <= (f"continued from step-{saved[-1]:08d}" in done.out)
        killed += 1
        saved.append(step(run))
        assert saved[-1] >= saved[-2], saved
    assert saved[-1] < STEPS and len(set(saved)) > 5, saved
    done = commands.run(*argv, limit=600)
    assert done.code == 0 and f"continued from step-{saved[-1]:08d}" in done.out, done.err
    for name in ("model.safetensors", "codec/model.safetensors"):
        assert is_same(load_file(run / name), load_file(complete / "run" / name)), name
    ours, theirs = (torch.load(latest_state(folder), weights_only=True) for folder in (run, complete / "run"))
    assert {"state_dict", "optimizer_states", "lr_schedulers", "DataModule"} < ours.keys() and is_same(ours, theirs)
    assert log(run) == log(complete / "run") and log(run / "codec") == log(complete / "run" / "codec")
    assert not [path.name for path in run.rglob(".*.tmp")]


@pytest.mark.slow
def test_a_state_cut_in_half_is_named_and_the_one_before_it_goes_on(commands: Commands, tmp_path: Path) -> None:
    argv, run = job(tmp_path / "torn"), tmp_path / "torn" / "run"
    assert commands.run(*job(tmp_path / "whole"), "--trainer.max_steps", "12").code == 0
    assert commands.run(*argv, "--trainer.max_steps", "8").code == 0
    half = run / "state" / "step-00000008" / "state.pt"
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    done = commands.run(*argv, "--trainer.max_steps", "12")
    message = [line for line in done.err.splitlines() if "step-00000008" in line]
    assert done.code == 0 and "continued from step-00000004" in done.out and "Traceback" not in done.err, done.err
    assert len(message) == 1 and "is damaged" in message[0] and "step-00000004, is tried" in message[0], done.err
    ours, theirs = (torch.load(latest_state(folder), weights_only=True) for folder in (run, tmp_path / "whole" / "run"))
    assert is_same(ours, theirs) and log(run) == log(tmp_path / "whole" / "run")


def test_a_kill_between_the_last_state_and_the_weights_loses_no_weights(commands: Commands, tmp_path: Path) -> None:
    argv, run = [*job(tmp_path / "job"), *NO_CODEC, "--trainer.max_steps", "8"], tmp_path / "job" / "run"
    assert commands.run(*argv).code == 0
    complete = (run / "model.safetensors").read_bytes()
    weights, note = read_weights(run / "model.safetensors")
    for fault in (b"", complete[:-9], complete[:-1] + bytes([complete[-1] ^ 1]), None):
        (run / "model.safetensors").unlink()
        if fault is not None:
            (run / "model.safetensors").write_bytes(fault)
        done = commands.run(*argv)
        assert done.code == 0 and ("model.safetensors is damaged" in done.err) == (fault is not None), done.err
        results, message = read_weights(run / "model.safetensors")
        assert message == note and all(torch.equal(results[name], weights[name]) for name in weights)


@pytest.mark.slow
def test_a_killed_run_goes_on_under_the_same_id_of_wandb(commands: Commands, tmp_path: Path) -> None:
    argv, run = [*job(tmp_path / "job"), *NO_CODEC, "--run.wandb", "true"], tmp_path / "job" / "run"
    done = commands.run(*argv, kill=0.0, watch=str(run / "state" / "step-00000004"))
    assert done.code == -9, done.err
    assert commands.run(*argv, "--trainer.max_steps", "12", limit=600).code == 0
    identity = (run / "wandb_id").read_text().strip()
    files = sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len(files) == 2 and {file.name for file in files} == {f"run-{identity}.wandb"}
