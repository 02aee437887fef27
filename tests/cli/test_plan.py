"""`textflow check --devices`: a big job, planned by formulas, without its hardware, text or network."""

from pathlib import Path

import pytest
import torch
from torch import nn

from textflow.cli.app import main
from textflow.cli.estimate import Engine, kept_by, largest_block
from textflow.cli.plan import asked, span

ROOT = Path(__file__).parents[2]
WHOLE = {"weights": 800, "gradients": 800, "optimizer": 1600, "average": 800, "activations": 100}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_elf_b_is_planned_for_64_devices(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["recipes/elf_b.yaml", "recipes/on/zero2.yaml", "--devices", "64", "--tokens", "9.04e9"]
    assert main(["check", *words]) == 0
    said = {line[5:15].strip(): line[15:] for line in capsys.readouterr().out.splitlines()}
    assert set(said) == {"recipe", "shapes", "memory", "tokens", "time"}
    assert "ZeRO-2 on 64 devices; 32,100 ids" in said["recipe"] and "ELF 104,579,940" in said["shapes"]
    assert "weights 418.3 MB, gradients 6.5 MB, optimizer 6.5 MB, average 418.3 MB" in said["memory"]
    assert said["tokens"].startswith("4,194,304 a step (4,096 rows of 1024)")
    assert "an epoch of 9,040,000,000 tokens: 2,155 steps" in said["time"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.precision", "bf16-true"], "bf16-true under ZeRO-2: needs 32-true or bf16-mixed"),
        (["--model.net.heads", "5"], "heads"),
        (["--trainer.strategy", "deepspeed_stage_2"], "use recipes/on/zero1.yaml"),
        (["--mfu", "2"], "an mfu in (0, 1]"),
    ],
)
def test_what_would_fail_on_the_machine_is_found_before(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "recipes/elf_b.yaml", "recipes/on/zero2.yaml", *words, "--devices", "8"]) == 2
    assert said in capsys.readouterr().err


def test_an_engine_shares_out_what_its_stage_says() -> None:
    held = {name: Engine(name, 8, 5).held(WHOLE, 60) for name in ("ddp", "zero1", "zero2", "zero3", "fsdp")}
    assert held["ddp"] == WHOLE | {"buckets": 800}
    assert held["zero1"] == WHOLE | {"optimizer": 200, "own weights": 100, "buckets": 40}
    assert held["zero2"] == held["zero1"] | {"gradients": 100}
    cut = {"weights": 100, "gradients": 100, "optimizer": 200, "average": 100, "activations": 100}
    assert held["zero3"] == cut | {"gathered": 800, "buckets": 20}
    assert held["fsdp"] == cut | {"gathered": 120}
    assert Engine("ddp", 1).held(WHOLE, 0) == WHOLE | {"buckets": 0}


def test_what_a_pass_keeps_is_counted_without_computing_it() -> None:
    with torch._subclasses.fake_tensor.FakeTensorMode():
        net, x = nn.Sequential(nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 7)), torch.randn(8, 10)
        with kept_by(net) as kept:
            net(x).sum()
    assert sum(kept.values()) == 4 * (8 * 10 + 8 * 50)


def test_the_largest_block_and_what_is_in_none_are_gathered() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ModuleList([nn.Linear(2, 2), nn.Linear(5, 5)]))
    assert largest_block(net) == 4 * (12 + 30)


def test_the_words_of_the_plan_are_taken_out() -> None:
    plan = asked(["a.yaml", "--devices", "4", "--seed", "1", "--vocab", "9"])
    assert (plan.words, plan.devices, plan.vocab) == (["a.yaml", "--seed", "1"], 4, 9)
    assert (span(30.0), span(600.0), span(3.6e4), span(8.64e5)) == ("30.0 s", "10.0 min", "10.0 h", "10.0 days")
