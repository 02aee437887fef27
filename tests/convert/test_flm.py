"""Published FLM and FMLM weights as runs, in the layouts of their repositories and in any size."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import textflow
from tests.helpers.recordings import constant, error, part, recorded
from tests.helpers.user_errors import Fails
from textflow.cli.app import main
from textflow.convert.lightning_checkpoint import find_weights, official_weights, shadow_params, strip_prefix
from textflow.distill import FlowMap
from textflow.models.generator import Generator
from textflow.nets import DiT
from textflow.objectives import FLMObjective
from textflow.samplers import FlowMapChurn
from textflow.types import Conditioning

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes

Weights = dict[str, Tensor]
ORDER = ("vocab_embed", "sigma_map.", "sigma_map_prime.", "learnable", "rotary_emb", "blocks", "output_layer")


def published(name: str) -> tuple[Weights, Weights]:
    """Weights in the order of definition, and the other recorded tensors."""
    data, _ = recorded(name)
    weights = part(data, "flm.weights." if name == "flm" else "weights.")
    rank = {key: next(i for i, start in enumerate(ORDER) if key.startswith(start)) for key in weights}
    return {key: weights[key].contiguous() for key in sorted(weights, key=lambda key: rank[key])}, data


def write_export(folder: Path, weights: Weights, **model: Any) -> Path:
    """An export to the Hub: names without prefix, and a configuration with a historical name."""
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"algo": {"name": "dos"}, "model": model}))
    return folder


def learned(weights: Weights) -> list[Tensor]:
    return [tensor for name, tensor in weights.items() if "inv_freq" not in name]


def write_lightning(file: Path, weights: Weights, prefix: str = "backbone.", **more: Any) -> Path:
    """A Lightning checkpoint whose raw weights are zero."""
    state = {prefix + name: tensor if "inv_freq" in name else 0 * tensor for name, tensor in weights.items()}
    ema = {"decay": 0.9999, "num_updates": 3, "shadow_params": learned(weights)}
    torch.save({"state_dict": state, "ema": ema, "global_step": 3} | more, file)
    return file


def load(run: Path) -> tuple[Generator, DiT]:
    model = textflow.load(run)
    assert isinstance(model, Generator) and isinstance(model.ema_net, DiT)
    model.ema_net.time_schedule = None  # the recordings give the network's times
    return model, model.ema_net


@pytest.mark.parity
@pytest.mark.parametrize("layout", ["hub", "backbone.", "backbone._orig_mod."])
def test_a_converted_flm_is_the_published_network(tmp_path: Path, layout: str) -> None:
    weights, data = published("flm")
    hub = layout == "hub"
    source = write_export(tmp_path / "hub", weights) if hub else write_lightning(tmp_path / "a.ckpt", weights, layout)
    assert main(["convert", "flm", str(source), str(tmp_path / "run")]) == 0
    model, net = load(tmp_path / "run")
    assert isinstance(model.objective, FLMObjective)
    logits = net(data["flm.x_t"], data["flm.tau"]).logits
    assert logits is not None and error(logits, data["flm.logp"]) < 1e-5


@pytest.mark.parity
def test_a_converted_fmlm_is_the_published_flow_map(tmp_path: Path) -> None:
    (weights, data), config = published("fmlm"), recorded("fmlm")[1]["config"]
    file, softcap = write_lightning(tmp_path / "b.ckpt", weights), constant(config, "logit_softcap")
    assert main(f"convert fmlm {file} {tmp_path}/run --logit_softcap={softcap} --seq_length=5".split()) == 0
    model, net = load(tmp_path / "run")
    assert isinstance(model.objective, FlowMap) and isinstance(model.sampler, FlowMapChurn)
    logits = net(data["psd.x_s"], data["psd.tau_s"], Conditioning(end_time=data["psd.tau_t"])).logits
    assert logits is not None and error(logits, data["psd.log_D_st"]) < 1e-5
    assert model.sample([1, 2], 3).ids.shape == (2, 5)


def test_the_kind_of_network_is_told_by_its_tensors(tmp_path: Path, fails: Fails) -> None:
    one, two = (write_export(tmp_path / name, published(name)[0]) for name in ("flm", "fmlm"))
    fails(["convert", "fmlm", str(one), str(tmp_path / "run")], "so it is an FLM: textflow convert flm")
    fails(["convert", "flm", str(two), str(tmp_path / "run")], "so it is an FMLM: textflow convert fmlm")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "blocks.0.attn_qkv.weight",
            lambda t: t[:-1],
            "blocks.0.attn_qkv.weight is (95, 32), but the sizes need (96, 32)",
        ),
        ("output_layer.linear.bias", lambda t: t + torch.inf, "output_layer.linear.bias has"),
        ("blocks.1.norm2.weight", None, "the file lacks blocks.1.norm2.weight"),
        ("vocab_embed.embedding", None, "'vocab_embed.embedding' is missing"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(
    tmp_path: Path, fails: Fails, name: str, change: Any, message: str
) -> None:
    weights, _ = published("flm")
    tensor = weights.pop(name)
    if change is not None:
        weights[name] = change(tensor).contiguous()
        rows, width = len(tensor), weights["vocab_embed.embedding"].shape[1]
        message = message.replace("(95, 32)", str((rows - 1, width))).replace("(96, 32)", str((rows, width)))
    fails(["convert", "flm", str(write_export(tmp_path / "hub", weights)), str(tmp_path / "run")], message)


def test_a_tensor_without_a_place_is_named(tmp_path: Path, fails: Fails) -> None:
    source = write_export(tmp_path / "hub", published("flm")[0] | {"proposal.loc": torch.ones(2)})
    fails(["convert", "flm", str(source), str(tmp_path / "run")], "proposal.loc (2,) has no place in DiT")


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path: Path, fails: Fails) -> None:
    source = write_export(tmp_path / "hub", published("flm")[0], n_heads=5)
    fails(["convert", "flm", str(source), str(tmp_path / "run")], "config.json has model.n_heads 5")


def test_a_moving_average_in_another_order_is_refused(tmp_path: Path, fails: Fails) -> None:
    weights, _ = published("flm")
    for shadow, message in (
        (learned(weights)[::-1], "they are not in one order"),
        (learned(weights)[:-1], f"has {len(learned(weights)) - 1} tensors for {len(learned(weights))} parameters"),
    ):
        file = write_lightning(tmp_path / "a.ckpt", weights, ema={"shadow_params": shadow})
        fails(["convert", "flm", str(file), str(tmp_path / "run")], message)


def test_of_several_moving_averages_the_slowest_is_taken() -> None:
    several = {"0.99000000": {"shadow_params": [torch.zeros(1)]}, "0.99990000": {"shadow_params": [torch.ones(1)]}}
    (found,) = shadow_params({"ema_list": several}) or []
    assert float(found) == 1 and shadow_params({"state_dict": {}}) is None


RAN: list[str] = []


class Settings:
    """An object of a class that another library defines."""

    def __init__(self) -> None:
        self.width = 3


def note_that_it_ran() -> None:
    """A function that a checkpoint may ask to call."""
    RAN.append("read")


class Calls:
    """An object that calls a function when it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return note_that_it_ran, ()


def test_objects_in_a_checkpoint_are_not_run(tmp_path: Path) -> None:
    weights, _ = published("flm")
    for held in (Settings(), {"a": [Settings()]}, Calls()):
        file = write_lightning(tmp_path / "a.ckpt", weights, hyper_parameters=held)
        found = official_weights(file)
        assert torch.equal(found["vocab_embed.embedding"], weights["vocab_embed.embedding"])
    assert not RAN
    torch.load(file, weights_only=False)
    assert RAN, "the checkpoint asks for the call"


def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, fails: Fails) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"PK\x03\x04 nothing")
    fails(["convert", "flm", str(tmp_path / "a.ckpt"), str(tmp_path / "run")], "is not")
    fails(["convert", "flm", str(tmp_path), str(tmp_path / "run"), "--seq_length", "1"], "seq_length is 1")


def test_a_folder_needs_one_file_of_weights(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not one \.ckpt, but none"):
        find_weights(str(tmp_path))
    (tmp_path / "a.ckpt").touch()
    assert find_weights(str(tmp_path)) == tmp_path / "a.ckpt"
    (tmp_path / "b.ckpt").touch()
    with pytest.raises(ValueError, match=r"a\.ckpt, b\.ckpt; give the file's path"):
        find_weights(str(tmp_path))


def test_nested_prefixes_and_other_parts_are_stripped() -> None:
    one = torch.ones(1)
    assert list(strip_prefix({"backbone.backbone._orig_mod.a": one, "noise.b": one})) == ["a"]
    with pytest.raises(ValueError, match="no tensors"):
        strip_prefix({})
