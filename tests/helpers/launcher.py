"""Runs of tests/helpers/engine_runs.py in several processes with torchrun's environment, and their results."""

import json
import multiprocessing
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.helpers.processes import ROOT as ROOT
from tests.helpers.processes import Commands

RULES = ["muon", "adamw"]


def case(engine: str, rule: str, name: str = "", **settings: Any) -> dict[str, Any]:
    """A case of tests/helpers/engine_runs.py."""
    return {"run": name or f"{engine}-{rule}", "engine": engine, "optimizer": rule, **settings}


def basic_cases(engine: str) -> list[dict[str, Any]]:
    """Ten steps with each rule, the last five of them resumed, and five steps resumed from one process."""
    resumed = [case(engine, rule, f"{engine}-{rule}-resumed", start=f"{engine}-{rule}") for rule in RULES]
    return [*(case(engine, r) for r in RULES), *resumed, case(engine, "muon", f"{engine}-from-one", start="one-muon")]


def further_cases(engine: str) -> list[dict[str, Any]]:
    """Active clipping, a mean over tokens, four batches per step, and two from an odd step of one process."""
    return [
        case(engine, "muon", f"{engine}-clipped", clip=0.05),
        case(engine, "muon", f"{engine}-tokens", mean="tokens"),
        case(engine, "sgd", f"{engine}-4", accumulate=4 if engine != "one" else 1),
        case(engine, "muon", f"{engine}-halved", start="one-muon", accumulate=2),
    ]


def run(commands: Commands, folder: Path, cases: list[dict[str, Any]], world_size: int) -> None:
    """Train all cases of tests/helpers/engine_runs.py in a number of processes."""
    (folder / f"cases-{world_size}.json").write_text(json.dumps(cases))
    done = commands.run(str(folder), str(world_size), script="tests.helpers.engine_runs", limit=900)
    assert done.code == 0, done.err[-3000:]


def fork_ranks(function: Callable[[int], None], world_size: int) -> int:
    """Call function(rank) in one fork per rank; return the number of forks that failed."""
    port, context = free_port(), multiprocessing.get_context("fork")
    ranks = [context.Process(target=run_rank, args=(function, rank, world_size, port)) for rank in range(world_size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return sum(rank.exitcode != 0 for rank in ranks)


def run_rank(function: Callable[[int], None], rank: int, world_size: int, port: int) -> None:
    """Set torchrun's environment variables, which a single process does not need, and call function(rank)."""
    if world_size > 1:
        ranks = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "MASTER_PORT": port, "MASTER_ADDR": "127.0.0.1"}
        sizes = {"WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size, "TORCHELASTIC_RUN_ID": "test"}
        os.environ.update({name: str(value) for name, value in (ranks | sizes).items()})
    function(rank)


def free_port() -> int:
    """A port on which no process listens."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def state(run: Path, step: int = 10) -> dict[str, Any]:
    """A saved training state."""
    return torch.load(run / "state" / f"step-{step:08d}" / "state.pt", weights_only=True)


def max_difference(a: Path, b: Path, prefix: str, step: int = 10) -> float:
    """Largest difference of two runs' parameters whose names start with a prefix."""
    ours, theirs = (state(run, step)["state_dict"] for run in (a, b))
    assert ours.keys() == theirs.keys()
    names = [name for name in ours if name.startswith(f"model.{prefix}") and not name.endswith("level")]
    assert len(names) > 5
    return max(float((ours[name] - theirs[name]).abs().max()) for name in names)


def record(run: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((run / f"rank-{rank}.json").read_text())


def rows(run: Path) -> list[list[int]]:
    """Training rows of all ranks, in the order of the text."""
    ranks = [record(run, rank)["rows"] for rank in range(len(list(run.glob("rank-*.json"))))]
    return [row for step in zip(*ranks, strict=True) for row in step]


def check_equal(ours: Path, theirs: Path) -> None:
    """Check that two runs have the same net and EMA, up to rounding."""
    assert max_difference(ours, theirs, "net.") < 1e-5
    assert max_difference(ours, theirs, "ema_net.") < 1e-5
