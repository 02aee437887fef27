"""Several processes on this machine, as torchrun would start them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
FIFTH, TENTH = "state/step-00000005/state.pt", "state/step-00000010/state.pt"


def run(folder: Path, cases: list[dict[str, Any]], world: int, timeout: int = 900) -> None:
    """All cases of tests/helpers/engine_runs.py, in so many processes; what they say is in FOLDER/said-WORLD-RANK."""
    (folder / f"cases-{world}.json").write_text(json.dumps(cases))
    port = free_port()
    started = [start(folder, rank, world, port) for rank in range(world)]
    codes = [process.wait(timeout) for process in started]
    assert codes == [0] * world, (folder / f"said-{world}-0").read_text()[-3000:]


def start(folder: Path, rank: int, world: int, port: int) -> subprocess.Popen[bytes]:
    """One process of several; one alone needs nothing from the environment."""
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "GROUP_RANK": "0"}
    there |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world)}
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (there if world > 1 else {})
    command = [sys.executable, "-m", "tests.helpers.engine_runs", str(folder), str(rank), str(world)]
    with open(folder / f"said-{world}-{rank}", "w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def state(run: Path, step: str = TENTH) -> dict[str, Any]:
    """A saved training state."""
    return torch.load(run / step, weights_only=True)


def furthest(a: Path, b: Path, part: str, step: str = TENTH) -> float:
    """Largest difference of the parameters of two runs whose names begin with `part`."""
    ours, theirs = (state(run, step)["state_dict"] for run in (a, b))
    assert ours.keys() == theirs.keys()
    named = [name for name in ours if name.startswith(part) and not name.endswith("level")]
    assert len(named) > 5
    return max(float((ours[name] - theirs[name]).abs().max()) for name in named)
