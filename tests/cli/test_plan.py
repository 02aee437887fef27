"""`textflow check --devices`: a big job, planned by formulas, without its hardware, text or network."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers import tiny_recipe as tiny
from textflow.cli.app import main
from textflow.cli.duration import flops_per_batch, format_duration, tokens_per_epoch
from textflow.cli.estimate import Engine, count_saved_bytes_fake, largest_block_bytes
from textflow.cli.plan import estimate_activations, parse_plan, trace_forward
from textflow.codecs import EmbeddingTable, T5Codec
from textflow.config import recipe
from textflow.eval.bench.flops import Flops
from textflow.eval.bench.sizes import SIZES
from textflow.models.generator import Generator
from textflow.nets import ELF
from textflow.objectives import ELFObjective

ROOT = Path(__file__).parents[2]
WHOLE = {"weights": 800, "gradients": 800, "optimizer": 1600, "average": 800, "activations": 100}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("words", [["--devices", "64", "--epoch-tokens", "9.04e9"], ["--devices=64"]])
def test_elf_b_is_planned_for_64_devices(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "recipes/elf_b.yaml", "recipes/strategy/zero2.yaml", *words]) == 0
    said = {line[5:15].strip(): line[15:] for line in capsys.readouterr().out.splitlines()}
    assert set(said) == {"recipe", "shapes", "memory", "tokens", "time"}
    assert "ZeRO-2 on 64 devices; 32,100 ids" in said["recipe"] and "ELF 104,579,940" in said["shapes"]
    assert "weights 418.3 MB, gradients 6.5 MB, optimizer 6.5 MB, average 418.3 MB" in said["memory"]
    assert said["tokens"].startswith("4,194,304 per step (4,096 rows of 1024)")
    assert "an epoch of 9,040,000,000 tokens: 2,155 steps" in said["time"] and "--epoch-tokens" not in said["time"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--trainer.precision", "bf16-true"], "bf16-true under ZeRO-2: needs 32-true or bf16-mixed"),
        (
            ["--trainer.strategy", "ddp", "--trainer.precision", "bf16-true"],
            "precision bf16-true: a plan needs float32 weights",
        ),
        (["--model.net.heads", "5"], "heads"),
        (["--trainer.strategy", "deepspeed_stage_2"], "use recipes/strategy/zero1.yaml"),
        (["--mfu", "2"], "an mfu in (0, 1]"),
        (
            ["--trainer.strategy.stage", "3", "--model.objective", "MeanFlowObjective", "--model.net.two_time", "true"],
            "MeanFlow under ZeRO-3",
        ),
    ],
)
def test_what_would_fail_on_the_machine_is_found_before(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "recipes/elf_b.yaml", "recipes/strategy/zero2.yaml", *words, "--devices", "8"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--devices", "x"], "argument --devices: invalid int value: 'x'"),
        (["--devices=x"], "argument --devices: invalid int value: 'x'"),
        (["--devices"], "argument --devices: expected one argument"),
        (["--devices=8", "--gpu", "B200"], "argument --gpu: invalid choice: 'B200'"),
        (["--devices=8", "--epoch-tokens=many"], "argument --epoch-tokens: invalid float value: 'many'"),
        (["--devices=0"], "at least 1 device"),
    ],
)
def test_a_slip_in_the_words_of_the_plan_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "recipes/elf_b.yaml", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("textflow check: ") and said in error and error.count("\n") == 1


def test_where_the_tokens_are_not_known_the_run_has_a_time_and_the_way_to_an_epochs_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(tiny.write_recipe(tmp_path)),
        "--data.files",
        "null",
        "--data.source",
        "HubDataset",
        "--data.source.name",
        "a/b",
    ]
    assert main(["check", *words, "--devices=2"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert "the run of 12 steps: " in said and said.endswith("give its tokens, such as --epoch-tokens 9.04e9")


def test_tokens_are_those_of_a_published_text_of_small_files_or_of_the_cache(tmp_path: Path) -> None:
    elf, teacher = "recipes/elf_b.yaml", str(tiny.write_recipe(tmp_path))
    assert tokens_per_epoch(recipe.load_recipe([elf])) == 9.04e9
    for other in (["--data.source.split", "train[:10%]"], ["--data.files", str(tmp_path / "text.txt")]):
        assert tokens_per_epoch(recipe.load_recipe([elf, *other])) is None  # its tokenizer is not at hand
    read = tokens_per_epoch(recipe.load_recipe([teacher]))
    assert not (tmp_path / "cache").exists()
    module = recipe.make_data(recipe.load_recipe([teacher]).data)
    module.cache = tmp_path / "cache"
    module.prepare_data()
    assert module.stats and read == module.stats.tokens["train"]
    built = module.rows_folder / "stats.json"
    built.write_text(built.read_text().replace(str(read), "123456"))
    assert tokens_per_epoch(recipe.load_recipe([teacher])) == 123456


def test_a_steps_flops_follow_the_recipe() -> None:
    def made(objective: ELFObjective, **net: object) -> float:
        with torch.device("meta"):
            return flops_per_batch(Generator(32100, T5Codec, partial(ELF, **net), objective), 10, 256, 0.0)

    part, plain = Flops(SIZES["B"]), made(ELFObjective())
    assert plain == pytest.approx(part.training_step("optimized"))
    assert made(ELFObjective(), activation_checkpointing=True) - plain == pytest.approx(part.forward_hidden)
    assert made(ELFObjective(), dropout=0.1) - plain == pytest.approx(0.4 * (part.forward_hidden + part.predict_x0))
    bare = part.encoder + 3 * (part.forward_hidden + part.predict_x0)
    assert made(ELFObjective(decode_prob=0.0, self_cond_prob=0.0)) == pytest.approx(bare)
    read = part.encoder + 3 * (part.forward_hidden + part.decode_logits)
    assert made(ELFObjective(decode_prob=1.0)) == pytest.approx(read)
    with torch.device("meta"):
        model = Generator(32100, partial(EmbeddingTable, dim=512), ELF, ELFObjective())
        assert flops_per_batch(model, 10, 256, 0.0) == pytest.approx(plain - part.encoder)
        assert flops_per_batch(nn.ModuleDict({"net": nn.Linear(2, 2)}), 10, 256, 7.0) == 3 * 10 * 7


def test_an_engine_shares_out_what_its_stage_says() -> None:
    held = {
        name: Engine(name, 8, 5).memory_per_device(WHOLE, 60) for name in ("ddp", "zero1", "zero2", "zero3", "fsdp")
    }
    assert held["ddp"] == WHOLE | {"buckets": 800}
    assert held["zero1"] == WHOLE | {"optimizer": 200, "own weights": 100, "buckets": 40}
    assert held["zero2"] == held["zero1"] | {"gradients": 100}
    cut = {"weights": 100, "gradients": 100, "optimizer": 200, "average": 100, "activations": 100}
    assert held["zero3"] == cut | {"gathered": 800, "buckets": 20}
    assert held["fsdp"] == cut | {"gathered": 120}
    assert Engine("ddp", 1).memory_per_device(WHOLE, 0) == WHOLE | {"buckets": 0}


def test_what_a_pass_keeps_is_counted_without_computing_it() -> None:
    with torch._subclasses.fake_tensor.FakeTensorMode():
        net, x = nn.Sequential(nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 7)), torch.randn(8, 10)
        with count_saved_bytes_fake(net) as kept:
            net(x).sum()
    assert sum(kept.values()) == 4 * (8 * 10 + 8 * 50)


@pytest.mark.parametrize("half", [False, True])
def test_what_a_batch_keeps_lies_on_a_line_through_two_small_ones(half: bool) -> None:
    def made(**how: object) -> Generator:
        return Generator(
            90, partial(EmbeddingTable, dim=8), partial(ELF, width=16, depth=3, heads=2, **how), ELFObjective()
        )

    with torch.device("meta"):
        model, again = made(), made(activation_checkpointing=True)
    with torch._subclasses.fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        model, again = model.to_empty(device="cpu"), again.to_empty(device="cpu")
        whole, inputs = trace_forward(model, 9, 5, half)[1], trace_forward(again, 9, 5, half)[1]
        assert estimate_activations(model, 9, 5, half) == whole
        if half:
            assert trace_forward(model, 2, 5, half)[1] * 9 / 2 > 1.1 * whole, "weights in bfloat16 are there once"
        assert estimate_activations(again, 9, 5, half) == pytest.approx(inputs + (whole - inputs) / 3, abs=1)
        assert again.net.activation_checkpointing and inputs < 0.7 * whole


def test_the_largest_block_and_what_is_in_none_are_gathered() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ModuleList([nn.Linear(2, 2), nn.Linear(5, 5)]))
    assert largest_block_bytes(net) == 4 * (12 + 30)


def test_the_words_of_the_plan_are_taken_out() -> None:
    assert parse_plan(["a.yaml", "--devices=4", "--epoch_tokens=5", "--vocab_size", "9"]).epoch_tokens == 5
    plan = parse_plan(["a.yaml", "--devices", "4", "--seed", "1", "--vocab-size", "9"])
    assert (plan.argv, plan.devices, plan.vocab_size) == (["a.yaml", "--seed", "1"], 4, 9)
    assert (format_duration(30.0), format_duration(600.0), format_duration(3.6e4), format_duration(8.64e5)) == (
        "30.0 s",
        "10.0 min",
        "10.0 h",
        "10.0 days",
    )
