"""A published checkpoint, the run that it becomes, and that run in the published layout."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import textflow
from tests.helpers.official_folders import SYSTEMS, published_tensors, save_published
from tests.helpers.user_errors import Fails, refused
from textflow.cli.app import main
from textflow.codecs import EmbeddingTable
from textflow.convert.official_run import system_of, write_model
from textflow.discrete import Absorbing
from textflow.layers.transformer import LMHead
from textflow.nets import ResidualFlowMap
from textflow.paths import LinearPath
from textflow.schedules import Gumbel, Uniform

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes

OPTIONS = {"fmlm": ["--logit-softcap", "30"], "elf": ["--noise-scale", "3", "--seq-length", "24"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of published checkpoints, and of the runs that they became, made once each."""
    return tmp_path_factory.mktemp("published")


def run_of(system: str, folder: Path) -> Path:
    """The run that a published checkpoint became."""
    run = folder / f"run_{system}"
    if not run.is_dir():
        source = save_published(system, folder / system)
        assert main(["convert", system, str(source), str(run), *OPTIONS.get(system, [])]) == 0
    return run


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Require the same names, and under each the same type, shape and bits."""
    assert found.keys() == expected.keys() and expected
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_published_checkpoint_comes_back_bit_for_bit_and_becomes_the_same_run(
    system: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, back, again = run_of(system, folder), tmp_path / "back", tmp_path / "again"
    capsys.readouterr()
    assert main(["convert", "run", str(run), system, str(back)]) == 0
    assert_same(published_tensors(back), published_tensors(folder / system))
    command = capsys.readouterr().out.split("; textflow ")[1].replace("TARGET", str(again)).split()
    assert main(command) == 0
    assert_same(textflow.load(again).weights(), textflow.load(run).weights())
    one, other = (yaml.safe_load((place / "recipe.yaml").read_text()) for place in (again, run))
    assert one["model"] == other["model"] and one["data"] == other["data"]


def test_a_run_of_another_system_is_refused_with_the_right_name(folder: Path, tmp_path: Path, fails: Fails) -> None:
    for system, other in (("flm", "fmlm"), ("fmlm", "flm"), ("mdlm", "duo"), ("duo", "elf")):
        run, out = str(run_of(system, folder)), str(tmp_path / "out")
        line = fails(["convert", "run", run, other, out], f"is of the system {system}, not {other}")
        assert f"textflow convert run {run} {system} FOLDER" in line and not Path(out).exists()


def change_ramp(model: Any) -> None:
    model.ema_net.ramp.fill_(0.5)


def change_cutoff(model: Any) -> None:
    model.objective.time_schedule = Gumbel(cutoff=1e-3)


def change_schedule(model: Any) -> None:
    model.objective.time_schedule = Uniform()


def widen(model: Any) -> None:
    model.ema_net.embed = torch.nn.Parameter(torch.zeros(2, 3))


def change_path(model: Any) -> None:
    model.path = LinearPath(noise_scale=2.0)


def drop_net_schedule(model: Any) -> None:
    model.ema_net.time_schedule = None


def change_softcap(model: Any) -> None:
    model.ema_net.blocks[0].softcap = 30.0


def add_head(model: Any) -> None:
    model.ema_net.commitment_head = LMHead(4, 2, 3)


def change_codec(model: Any) -> None:
    model.frozen_codec = EmbeddingTable(5, 4)


def change_process(model: Any) -> None:
    model.objective.process = Absorbing(eps=0.01)


@pytest.mark.parametrize(
    ("system", "change", "message"),
    [
        ("langflow", change_ramp, r"net\.ramp is 0\.5, and the layout stands for 1\.0"),
        ("langflow", change_cutoff, "cutoff is 0.001"),
        ("langflow", change_schedule, "noise levels are of Uniform"),
        ("langflow", change_path, "along LinearPath"),
        ("langflow", widen, r"no place for embed \(2, 3\)"),
        ("flm", change_path, "noise_scale is 2.0"),
        ("flm", drop_net_schedule, "conditioned on NoneType"),
        ("flm", change_softcap, r"DiT's blocks\.0\.softcap is 30\.0, and the layout stands for 50\.0"),
        ("elf", add_head, r"no place for commitment_head\.down\.weight \(2, 4\)"),
        ("elf", change_codec, "latents are of EmbeddingTable"),
        ("cola", change_path, "noise_scale is 2.0"),
        ("cola", change_codec, "latents are of EmbeddingTable"),
        ("mdlm", change_process, "eps is 0.01"),
    ],
)
def test_what_a_layout_has_no_place_for_is_named(
    system: Any, change: Any, message: str, folder: Path, tmp_path: Path
) -> None:
    run = run_of(system, folder)
    model = textflow.load(run)
    change(model)
    refused(message, write_model, system, model, tmp_path / "out", run)
    assert not (tmp_path / "out").exists()


def test_a_net_without_a_published_layout_is_of_no_system(folder: Path, tmp_path: Path, fails: Fails) -> None:
    model: Any = textflow.load(run_of("flm", folder))
    assert system_of(model) == "flm"
    own, net = model.ema_net, model.net
    model.ema_net = ResidualFlowMap(model.codec_of(own), lambda _: own, lambda _: net, model.path)
    assert system_of(model) is None
    fails(
        ["convert", "run", "demo", "langflow", str(tmp_path / "out")], "demo does not fit", "the schedule's cutoff is"
    )


def test_half_precision_keeps_names_and_shapes(folder: Path, tmp_path: Path) -> None:
    run, out = run_of("duo", folder), tmp_path / "out"
    assert main(["convert", "run", str(run), "duo", str(out), "--half", "true"]) == 0
    wanted = {name: t if "inv_freq" in name else t.half() for name, t in published_tensors(folder / "duo").items()}
    assert_same(published_tensors(out), wanted)


def test_a_padding_token_that_is_not_the_last_is_in_the_configuration(folder: Path, tmp_path: Path) -> None:
    model: Any = textflow.load(run_of("cola", folder))
    model.frozen_codec.pad_id = 2
    write_model("cola", model, tmp_path / "hub", tmp_path)
    assert main(["convert", "cola", str(tmp_path / "hub"), str(tmp_path / "run")]) == 0
    again: Any = textflow.load(tmp_path / "run")
    assert again.codec.pad_id == 2 and again.text_format.seq_length == 512


def test_the_card_s_licence_is_refused_where_there_is_no_card(folder: Path, tmp_path: Path, fails: Fails) -> None:
    argv = ["convert", "run", str(run_of("flm", folder)), "flm", str(tmp_path / "out"), "--license", "mit"]
    fails(argv, "--license is for the card of the layout hf")
