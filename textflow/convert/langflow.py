"""Convert published LangFlow weights to textflow run folders."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from textflow.config import recipe
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.discrete import lazy_tokenizer
from textflow.convert.dit_layout import load_official, map_name, net_sizes
from textflow.convert.lightning_checkpoint import PREFIX, find_weights, read_config
from textflow.models.generator import Generator
from textflow.schedules import Gumbel
from textflow.training.weights import describe_mismatch, read_weights

TABLE, LAW = "vocab_embed.embedding", "proposal."
TOKENIZERS = {50_257: "gpt2", 30_522: "bert-base-uncased"}


class LangFlowWeights(NamedTuple):
    """Weights of a published LangFlow.

    Args:
        net: tensors of the network and of the table, by published name without prefix.
        law: loc, scale and entropy of the noise levels.
        config: config.json beside them; empty without one.
    """

    net: dict[str, Tensor]
    law: dict[str, float]
    config: dict[str, Any]


def convert_langflow(checkpoint: str, target: Path, tokenizer: str | None = None, seq_length: int = 1024) -> str:
    """Convert published LangFlow weights to a run folder; returns a one-line summary.

    Args:
        checkpoint: export to the Hub: its model.safetensors, its folder or its Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: by the number of tokens, gpt2 or bert-base-uncased.
        seq_length: tokens per text where config.json has no model_length, at least 1.
    """
    path = find_weights(checkpoint)
    try:
        published = read_published(path)
        sizes = net_sizes(published.net, published.config)
        vocab, length = sizes.pop("vocab_size"), int(published.config.get("model_length", seq_length))
        if length < 1:
            raise ValueError(f"its texts have {length} tokens, needs at least 1, such as --seq-length 1024")
        lazy = lazy_tokenizer(tokenizer or TOKENIZERS.get(vocab, "gpt2"), vocab)
        text = converted_recipe(target, lazy, length, "Generator", langflow_parts(sizes, published.law))
        model = cast(Generator, recipe.load_model(text, vocab)[0])
        for net in (model.net, model.ema_net):
            load_official(net, published.net, textflow_name)
    except ValueError as error:
        raise ValueError(f"{path} is no published LangFlow: {' '.join(str(error).split())}") from error
    note = write_converted(target, text, lazy, model, length, f"LangFlow, converted from {checkpoint}")
    count = sum(p.numel() for p in model.net.parameters()) + len(published.law)
    return f"{target}: LangFlow of {count:,} parameters, {sizes}, {vocab:,} tokens, {published.law}, from {path}{note}"


def textflow_name(official: str) -> str:
    """The textflow name of a published parameter; the table is the codec's."""
    return "codec.table" if official == TABLE else map_name(official)


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
