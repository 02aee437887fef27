"""`textflow check --devices`: a big job, planned by formulas, without its hardware, text or network."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers import tiny_recipe as tiny
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.cli.duration import flops_per_batch, format_duration, tokens_per_epoch
from textflow.cli.estimate import Engine, largest_block_bytes
from textflow.cli.plan import estimate_activations, parse_plan, trace_forward
from textflow.codecs import EmbeddingTable, T5Codec
from textflow.config import recipe
from textflow.eval.bench.flops import Flops
from textflow.eval.bench.sizes import SIZES
from textflow.models.generator import Generator
from textflow.nets import ELF
from textflow.objectives import ELFObjective

ROOT = Path(__file__).parents[2]
UNSHARDED = {"weights": 800, "gradients": 800, "optimizer": 1600, "average": 800, "activations": 100}


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.integration
@pytest.mark.slow
def test_elf_b_is_planned_for_64_devices(capsys: pytest.CaptureFixture[str]) -> None:
    """Takes seconds, since the net is traced in its full size."""
    argv = ["recipes/elf_b.yaml", "recipes/strategy/zero2.yaml", "--devices=64", "--epoch-tokens", "1e9"]
    assert main(["check", *argv]) == 0
    output = {line[5:15].strip(): line[15:] for line in capsys.readouterr().out.splitlines()}
    assert set(output) == {"recipe", "shapes", "memory", "tokens", "time"}
    assert "ZeRO-2 on 64 devices; 32,100 ids" in output["recipe"] and "ELF 104,579,940" in output["shapes"]
    assert "weights 418.3 MB, gradients 6.5 MB, optimizer 6.5 MB, average 418.3 MB" in output["memory"]
    assert output["tokens"].startswith("4,194,304 per step (4,096 rows of 1024)")
    assert "an epoch of 1,000,000,000 tokens: 238 steps" in output["time"] and "--epoch-tokens" not in output["time"]


@pytest.mark.integration
def test_fewer_latents_than_tokens_and_every_kind_of_readout_are_planned(capsys: pytest.CaptureFixture[str]) -> None:
    for readout in ([], ["--model.readout", "Autoregressor"]):
        assert main(["check", "recipes/small/cosmos.yaml", "--devices", "2", *readout]) == 0
        assert "latents [2, 16, 32] -> mean [2, 16, 32], logits [2, 64, 4096]" in capsys.readouterr().out


ZERO3_TANGENTS = [
    "--trainer.strategy.stage",
    "3",
    "--model.objective",
    "MeanFlowObjective",
    "--model.net.two_time=true",
]
DDP = ["--trainer.strategy", "ddp", "--trainer.precision", "bf16-true"]


@pytest.mark.integration
def test_errors_of_the_target_machine_are_raised_by_the_plan(fails: Fails) -> None:
    for argv, message in (
        (["--trainer.precision", "bf16-true"], "bf16-true under ZeRO-2: needs 32-true or bf16-mixed"),
        (DDP, "precision bf16-true: a plan needs float32 weights"),
        (["--model.net.heads", "5"], "heads"),
        (["--trainer.strategy", "deepspeed_stage_2"], "use recipes/strategy/zero1.yaml"),
        (["--mfu", "2"], "an mfu in (0, 1]"),
        (ZERO3_TANGENTS, "MeanFlow under ZeRO-3"),
    ):
        fails(["check", "recipes/elf_b.yaml", "recipes/strategy/zero2.yaml", *argv, "--devices", "8"], message)


def test_an_invalid_option_of_the_plan_is_an_error_in_one_line(fails: Fails) -> None:
    for argv, message in (
        (["--devices", "x"], "argument --devices: invalid int value: 'x'"),
        (["--devices"], "argument --devices: expected one argument"),
        (["--devices=8", "--gpu", "B200"], "argument --gpu: invalid choice: 'B200'"),
        (["--devices=8", "--epoch-tokens=many"], "argument --epoch-tokens: invalid float value: 'many'"),
        (["--devices=0"], "at least 1 device"),
    ):
        assert fails(["check", "recipes/elf_b.yaml", *argv], message).startswith("textflow check: ")


@pytest.mark.integration
def test_without_a_token_count_the_plan_asks_for_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = ["--data.files=null", "--data.source=HubDataset", "--data.source.name=a/b"]
    assert main(["check", str(tiny.write_recipe(tmp_path)), *source, "--devices=2"]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert "the run of 12 steps: " in line and line.endswith("give its tokens, such as --epoch-tokens 9.04e9")


@pytest.mark.integration
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


def test_each_engine_shards_the_memory_of_its_stage() -> None:
    engines = ("ddp", "zero1", "zero2", "zero3", "fsdp")
    memory = {name: Engine(name, 8, 5).memory_per_device(UNSHARDED, 60) for name in engines}
    assert memory["ddp"] == UNSHARDED | {"buckets": 800}
    assert memory["zero1"] == UNSHARDED | {"optimizer": 200, "own weights": 100, "buckets": 40}
    assert memory["zero2"] == memory["zero1"] | {"gradients": 100}
    cut = {"weights": 100, "gradients": 100, "optimizer": 200, "average": 100, "activations": 100}
    assert memory["zero3"] == cut | {"gathered": 800, "buckets": 20}
    assert memory["fsdp"] == cut | {"gathered": 120}
    assert Engine("ddp", 1).memory_per_device(UNSHARDED, 0) == UNSHARDED | {"buckets": 0}


@pytest.mark.integration
@pytest.mark.slow
def test_activations_are_linear_in_the_rows_and_checkpointing_keeps_one_block() -> None:
    def make_model(**options: object) -> Generator:
        net = partial(ELF, width=16, depth=3, heads=2, **options)
        return Generator(90, partial(EmbeddingTable, dim=8), net, ELFObjective())

    with torch.device("meta"):
        model, checkpointed = make_model(), make_model(activation_checkpointing=True)
    with torch._subclasses.fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
        model, checkpointed = model.to_empty(device="cpu"), checkpointed.to_empty(device="cpu")
        expected, inputs = trace_forward(model, 9, 5, True)[1], trace_forward(checkpointed, 9, 5, True)[1]
        assert estimate_activations(model, 9, 5, True) == expected
        assert trace_forward(model, 2, 5, True)[1] * 9 / 2 > 1.1 * expected, "weights in bfloat16 are stored once"
        estimate = estimate_activations(checkpointed, 9, 5, True)
        assert estimate == pytest.approx(inputs + (expected - inputs) / 3, abs=1)
        assert checkpointed.net.activation_checkpointing and inputs < 0.7 * expected


def test_the_largest_block_and_what_is_in_none_are_gathered() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.ModuleList([nn.Linear(2, 2), nn.Linear(5, 5)]))
    assert largest_block_bytes(net) == 4 * (12 + 30)


def test_options_are_separated_from_the_recipe_and_durations_have_the_largest_unit() -> None:
    assert parse_plan(["a.yaml", "--devices=4", "--epoch_tokens=5", "--vocab_size", "9"]).epoch_tokens == 5
    plan = parse_plan(["a.yaml", "--devices", "4", "--seed", "1", "--vocab-size", "9"])
    assert (plan.argv, plan.devices, plan.vocab_size) == (["a.yaml", "--seed", "1"], 4, 9)
    durations = [format_duration(seconds) for seconds in (30.0, 600.0, 3.6e4, 8.64e5)]
    assert durations == ["30.0 s", "10.0 min", "10.0 h", "10.0 days"]
