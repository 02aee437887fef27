"""Published MDLM and Duo weights as runs, in the layouts of their repositories and in any size."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import textflow
from tests.helpers.recordings import error, part, recorded
from textflow.cli.app import main
from textflow.discrete import DuoObjective, DuoSampler, MDLMObjective
from textflow.models.discrete_diffusion import DiscreteDiffusion

pytestmark = pytest.mark.integration  # writes checkpoints and builds their recipes

Weights = dict[str, Tensor]


def published() -> tuple[Weights, Weights, dict[str, Any]]:
    """Weights by published name, the other recorded tensors, and the configuration."""
    tensors, meta = recorded("mdlm")
    return part(tensors, "weights."), tensors, meta["config"]


def write_export(folder: Path, weights: Weights, **config: Any) -> Path:
    """An export to the Hub: model.safetensors with a prefix, and config.json."""
    folder.mkdir(exist_ok=True)
    save_file(
        {f"backbone.{name}": tensor.contiguous() for name, tensor in weights.items()}, folder / "model.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def write_lightning(file: Path, weights: Weights, average: list[Tensor], prefix: str = "backbone.") -> Path:
    """A Lightning checkpoint, whose moving average has no names."""
    ema = {"decay": 0.9999, "num_updates": 3, "shadow_params": average}
    state = {f"{prefix}{name}": tensor for name, tensor in weights.items()}
    torch.save({"state_dict": state, "ema": ema, "global_step": 3, "pytorch-lightning_version": "2.2"}, file)
    return file


def learned(weights: Weights) -> list[Tensor]:
    return [tensor for name, tensor in weights.items() if "inv_freq" not in name]


def in_published_order(weights: Weights) -> Weights:
    """The order of definition: table, time embedding, rotary positions, blocks, output layer."""
    order = ("vocab_embed", "sigma_map", "rotary", "blocks", "output_layer")
    rank = {name: next(i for i, start in enumerate(order) if name.startswith(start)) for name in weights}
    return {name: weights[name] for name in sorted(weights, key=lambda name: rank[name])}


def load(run: Path) -> DiscreteDiffusion:
    model = textflow.load(run)
    assert isinstance(model, DiscreteDiffusion)
    return model


@pytest.mark.parity
def test_a_converted_mdlm_is_the_published_network(tmp_path: Path) -> None:
    weights, data, config = published()
    source = write_export(tmp_path / "hub", weights, time_conditioning=config["time_conditioning"])
    assert main(["convert", "mdlm", str(source), str(tmp_path / "run")]) == 0
    model = load(tmp_path / "run")
    logits = model.ema_net.lm_logits(model.ema_net(data["xt"], data["sigma_in"]))
    assert error(logits, data["logits"]) < 1e-5
    assert isinstance(model.objective, MDLMObjective)
    assert model.objective.time_conditioning == config["time_conditioning"]
    log_p = model.objective.log_probs(logits, data["xt"]).clamp_min(-1e6)
    assert error(log_p, data["log_p"]) < 1e-5
    assert model.ema_net.vocab_size - 1 == int(data["mask_index"]) == model.tokenizer.vocab_size
    assert model.sample([1, 2], 3, length=5).max() < model.tokenizer.vocab_size


@pytest.mark.parity
@pytest.mark.parametrize("prefix", ["backbone.", "backbone._orig_mod."])
def test_a_converted_duo_is_the_moving_average_of_its_checkpoint(tmp_path: Path, prefix: str) -> None:
    weights, data, _ = published()
    weights = in_published_order(weights)
    raw = {name: tensor if "inv_freq" in name else torch.zeros_like(tensor) for name, tensor in weights.items()}
    file = write_lightning(tmp_path / "duo.ckpt", raw, learned(weights), prefix)
    assert main(["convert", "duo", str(file), str(tmp_path / "run"), "--seq-length", "6"]) == 0
    model = load(tmp_path / "run")
    assert error(model.net.lm_logits(model.net(data["xt"], data["sigma_in"])), data["logits"]) < 1e-5
    assert isinstance(model.objective, DuoObjective) and isinstance(model.sampler, DuoSampler)
    assert model.tokenizer.vocab_size == model.ema_net.vocab_size == len(weights["vocab_embed.embedding"])
    assert model.sample([1, 2], 3).shape == (2, 6)


@pytest.mark.parity
def test_heads_are_those_of_the_configuration_where_the_file_has_no_frequencies(tmp_path: Path) -> None:
    weights, data, _ = published()
    heads = weights["vocab_embed.embedding"].shape[1] // (2 * weights["rotary_emb.inv_freq"].numel())
    bare = {name: tensor for name, tensor in weights.items() if "inv_freq" not in name}
    source = write_export(tmp_path / "hub", bare, n_heads=heads)
    assert main(["convert", "mdlm", str(source), str(tmp_path / "run")]) == 0
    net = load(tmp_path / "run").net
    assert error(net.lm_logits(net(data["xt"], data["sigma_in"])), data["logits"]) < 1e-5


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: change(weights[name])}


BIAS = "blocks.0.mlp.0.bias"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (without(BIAS), "the file lacks blocks.0.mlp.0.bias (WIDTH,)"),
        (changed(BIAS, lambda t: t[1:]), "blocks.0.mlp.0.bias is (LESS,), but the sizes need (WIDTH,)"),
        (changed(BIAS, lambda t: t * torch.nan), "blocks.0.mlp.0.bias has WIDTH of WIDTH values that are not finite"),
        (lambda weights: weights | {"head.weight": torch.zeros(2)}, "head.weight (2,) has no place"),
        (without("vocab_embed.embedding"), "'vocab_embed.embedding' is missing"),
        (changed("vocab_embed.embedding", lambda t: t[:, 0]), "vocab_embed.embedding is (TOKENS,)"),
    ],
)
def test_an_unfit_tensor_is_named_with_its_shape_in_one_line(
    tmp_path: Path, change: Callable[[Weights], Weights], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = published()[0]
    width = weights[BIAS].numel()
    source = write_export(tmp_path / "hub", change(weights))
    assert main(["convert", "duo", str(source), str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and str(source / "model.safetensors") in message
    for word, size in (("WIDTH", width), ("LESS", width - 1), ("TOKENS", len(weights["vocab_embed.embedding"]))):
        expected = expected.replace(word, f"{size}")
    assert expected in message
    assert not (tmp_path / "run").exists()


def test_a_moving_average_in_another_order_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = in_published_order(published()[0])
    file = write_lightning(tmp_path / "mdlm.ckpt", weights, learned(weights)[::-1])
    assert main(["convert", "mdlm", str(file), str(tmp_path / "run")]) == 2
    assert "tensor 0 of the moving average is" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        ({"n_heads": 0}, (), "n_heads 0"),
        ({"n_heads": "four"}, (), "n_heads 'four'"),
        ({}, ("--seq-length", "1"), "seq_length is 1"),
        ({}, ("--to", "hf"), "convert run RUN hf FOLDER"),
    ],
)
def test_impossible_options_are_refused(
    tmp_path: Path, config: dict[str, Any], options: tuple[str, ...], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_export(tmp_path / "hub", published()[0], **config)
    assert main(["convert", "mdlm", str(source), str(tmp_path / "run"), *options]) == 2
    message = capsys.readouterr().err
    assert expected in message and message.count("\n") == 1
