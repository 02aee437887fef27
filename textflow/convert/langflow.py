"""Convert published LangFlow weights to textflow run folders and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from textflow.codecs import EmbeddingTable
from textflow.config.model import load_model
from textflow.convert.checkpoint_config import CheckpointConfig, read_config
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.dit_layout import (
    FREQUENCIES,
    NAMES,
    TABLE,
    load_official,
    net_config,
    net_sizes,
    rotary_frequencies,
)
from textflow.convert.lightning_checkpoint import PREFIX, find_weights
from textflow.convert.published_folder import own_parameters, refuse_setting, refuse_unplaced, write_published
from textflow.convert.published_text import lazy_tokenizer, published_text, refuse_short
from textflow.models.generator import Generator
from textflow.nets import LangFlow
from textflow.paths import VariancePreserving
from textflow.schedules import Gumbel
from textflow.training.weights import describe_mismatch, read_weights

LAW = "proposal."
LANGFLOW_NAMES = NAMES._replace(prefixes={**NAMES.prefixes, TABLE: "codec.table"})  # the table is the codec's
textflow_name = LANGFLOW_NAMES.to_textflow


class LangFlowWeights(NamedTuple):
    """Weights of a published LangFlow.

    Args:
        net: tensors of the network and of the table, by published name without prefix.
        law: loc, scale and entropy of the noise levels.
        config: config.json beside them; empty without one.
    """

    net: dict[str, Tensor]
    law: dict[str, float]
    config: CheckpointConfig


def convert_langflow(checkpoint: str, target: Path, tokenizer: str | None = None, seq_length: int | None = None) -> str:
    """Convert published LangFlow weights to a run folder; returns a one-line summary.

    Args:
        checkpoint: export to the Hub: its model.safetensors, its folder or its Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: by the number of tokens, gpt2 or bert-base-uncased.
        seq_length: tokens per text, at least 1; default: model_length of config.json, else the published length.
    """
    refuse_short(seq_length)
    path = find_weights(checkpoint)
    try:
        published = read_published(path)
        sizes = net_sizes(published.net, published.config)
        vocab = sizes.pop("vocab_size")
        lazy, own = lazy_tokenizer(tokenizer, vocab), published_text(vocab)
        length = seq_length or published.config.integer("model_length", own.seq_length)
        parts = langflow_parts(sizes, published.law)
        text = converted_recipe(target, lazy, length, "Generator", parts, own.source)
        model = cast(Generator, load_model(text, vocab))
        for net in (model.net, model.ema_net):
            load_official(net, published.net, textflow_name)
    except ValueError as error:
        raise ValueError(f"{path} is not a published LangFlow: {' '.join(str(error).split())}") from error
    note = write_converted(target, text, lazy, model, length, f"LangFlow, converted from {checkpoint}")
    count = sum(p.numel() for p in model.net.parameters()) + len(published.law)
    return f"{target}: LangFlow of {count:,} parameters, {sizes}, {vocab:,} tokens, {published.law}, from {path}{note}"


def read_published(path: Path) -> LangFlowWeights:
    """The tensors of a published file, split into network and noise levels."""
    tensors = read_weights(path)[0]
    net = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if not name.startswith(LAW)}
    law = {name: read_number(tensors, LAW + name) for name in ("loc", "scale", "entropy")}
    if law["scale"] <= 0:
        raise ValueError(f"{LAW}scale is {law['scale']:g}; a scale is above 0")
    return LangFlowWeights(net, law, read_config(path))


def read_number(tensors: Mapping[str, Tensor], name: str) -> float:
    """The value of a tensor of one number."""
    if name not in tensors:
        raise ValueError(f"the file lacks {name} ()")
    if tensors[name].numel() != 1:
        raise ValueError(f"{name} is {tuple(tensors[name].shape)}, but one number is needed, ()")
    if why := describe_mismatch(tensors[name], torch.zeros(())):
        raise ValueError(f"{name} {why}; choose another checkpoint, or download this one again")
    return float(tensors[name])


def langflow_parts(sizes: dict[str, Any], law: dict[str, float]) -> dict[str, Any]:
    """Arguments of the model of a converted LangFlow; the first time of its grids counts as pure noise."""
    schedule = Gumbel(law["loc"], law["scale"], law["entropy"])
    ends = {"t_min": schedule.grid(2)[0], "t_max": max(14.5, 1 - schedule.gamma_min)}
    gumbel = {"class_path": "Gumbel", "init_args": law}
    codec = {"dim": sizes.pop("width"), "trainable": True, "init": "uniform"}
    return {
        "codec": {"class_path": "EmbeddingTable", "init_args": codec},
        "net": {"class_path": "LangFlow", "init_args": sizes},
        "objective": {"class_path": "LangFlowObjective", "init_args": {"time_schedule": gumbel}},
        "path": {"class_path": "VariancePreserving", "init_args": ends},
        "readout": {"class_path": "FromPosterior"},
        "token_readout": {"class_path": "FromPosterior"},
    }


def write_langflow(model: Generator, folder: Path) -> None:
    """Write a LangFlow as an export to the Hub: model.safetensors and config.json."""
    net, law, codec = model.ema_net, model.objective.time_schedule, model.codec_of(model.ema_net)
    assert isinstance(net, LangFlow) and isinstance(codec, EmbeddingTable), "the caller has checked it"
    if not isinstance(law, Gumbel) or not isinstance(model.path, VariancePreserving):
        raise ValueError(
            f"its noise levels are of {type(law).__name__} along {type(model.path).__name__}, and the layout stands "
            "for Gumbel along VariancePreserving"
        )
    refuse_setting("the schedule's cutoff", law.cutoff, Gumbel().cutoff)
    refuse_setting("the weight of the likelihood, net.ramp", float(net.ramp), 1.0)  # training ended before ramp_steps
    named = own_parameters(net) | {"codec.table": codec.table}
    official = {LANGFLOW_NAMES.to_official(name): p for name, p in named.items()}
    official[FREQUENCIES] = rotary_frequencies(net.head_width)
    config = {
        "vocab_size": codec.vocab_size,
        "model_length": model.text_format.seq_length,
        "hidden_size": codec.dim,
        **net_config(net),
    }
    sizes = net_sizes(official, CheckpointConfig(folder / "config.json", config))
    with torch.device("meta"):
        table = EmbeddingTable(sizes.pop("vocab_size"), sizes.pop("width"), trainable=True)
        plain = LangFlow(table, **sizes)
    refuse_unplaced(net, plain, ["head_width"])
    tensors = {PREFIX + name: tensor for name, tensor in official.items()}
    loc, scale = (torch.tensor(value) for value in law.law)
    write_published(folder, tensors | {LAW + "loc": loc, LAW + "scale": scale, LAW + "entropy": law.entropy}, config)
