"""Convert published MDLM and Duo weights to textflow run folders and back."""

from pathlib import Path
from typing import Any, Literal, cast

import torch

from textflow.config.model import load_model
from textflow.convert.checkpoint_config import CheckpointConfig, read_config
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.dit_layout import FREQUENCIES, NAMES, load_official, net_config, net_sizes, rotary_frequencies
from textflow.convert.lightning_checkpoint import PREFIX, find_weights, official_weights
from textflow.convert.published_folder import own_parameters, refuse_setting, refuse_unplaced, write_published
from textflow.convert.published_text import BERT_TOKENS, lazy_tokenizer, published_text, refuse_short
from textflow.discrete import TokenDiT
from textflow.models.discrete_diffusion import DiscreteDiffusion

LM1B_GAMMAS = {"gamma_min": -3.5, "gamma_max": -1.75}  # of Duo's curriculum; OpenWebText's are the defaults


def convert_discrete(
    system: Literal["mdlm", "duo"],
    checkpoint: str,
    target: Path,
    tokenizer: str | None = None,
    seq_length: int | None = None,
) -> str:
    """Convert published MDLM or Duo weights to a run folder; returns a one-line summary.

    Args:
        system: repository that wrote the checkpoint.
        checkpoint: export to the Hub or Lightning checkpoint: a file, a folder or a Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: by the number of tokens, gpt2 or bert-base-uncased.
        seq_length: tokens per text, at least 2; default: model_length of config.json, else the published length.
    """
    refuse_short(seq_length, least=2)
    path = find_weights(checkpoint)
    official, config = official_weights(path), read_config(path)
    try:
        sizes = net_sizes(official, config)
        states = sizes.pop("vocab_size")
        lazy = lazy_tokenizer(tokenizer, count_tokens(system, states))
        published = published_text(lazy.vocab_size)
        length = seq_length or config.integer("model_length", published.seq_length, least=2)
        parts = discrete_parts(system, sizes, config.boolean("time_conditioning"), lazy.vocab_size)
        text = converted_recipe(target, lazy, length, "DiscreteDiffusion", parts, published.source)
        model = cast(DiscreteDiffusion, load_model(text, lazy.vocab_size))
        for net in (model.net, model.ema_net):
            load_official(net.backbone, official)
    except ValueError as error:
        raise ValueError(f"{path} is not a published {system.upper()}: {error}") from error
    note = write_converted(target, text, lazy, model, length, f"{system.upper()}, converted from {checkpoint}")
    count = sum(p.numel() for p in model.net.parameters())
    return f"{target}: {system.upper()} of {count:,} parameters, {sizes}, {states} token states, from {path}{note}"


def count_tokens(system: Literal["mdlm", "duo"], states: int) -> int:
    """Number of tokens of a checkpoint, from that of its token states: MDLM's last state is the mask."""
    if system == "mdlm" and states == BERT_TOKENS:
        raise ValueError(
            f"its {states} token states are those of bert-base-uncased, whose mask is its token [MASK]; textflow's "
            "MDLM has the mask behind all tokens, so that such weights cannot be read"
        )
    return states - (system == "mdlm")


def discrete_parts(
    system: Literal["mdlm", "duo"], net_args: dict[str, Any], time_conditioning: bool, tokens: int
) -> dict[str, Any]:
    """Arguments of the model of a converted MDLM or Duo."""
    net = {"class_path": "TokenDiT", "init_args": net_args}
    if system == "duo":
        gammas = LM1B_GAMMAS if tokens == BERT_TOKENS else {}
        return {"net": net, "objective": {"class_path": "DuoObjective", "init_args": gammas}, "sampler": "DuoSampler"}
    objective = {"class_path": "MDLMObjective", "init_args": {"time_conditioning": time_conditioning}}
    return {"net": net, "objective": objective, "sampler": "MDLMSampler"}


def write_discrete(system: Literal["mdlm", "duo"], model: DiscreteDiffusion, folder: Path) -> None:
    """Write an MDLM or Duo as an export to the Hub: model.safetensors and config.json."""
    net, objective = model.ema_net.backbone, model.objective
    refuse_setting("the process's eps", objective.process.eps, type(objective.process)().eps)
    official = {NAMES.to_official(name): p for name, p in own_parameters(net).items()}
    official[FREQUENCIES] = rotary_frequencies(net.head_width)
    more = {"causal": False, "var_min": True}
    if system == "mdlm":
        more = {"time_conditioning": objective.time_conditioning}
    config = {
        "model_type": "DUO" if system == "duo" else system,
        "vocab_size": model.ema_net.vocab_size,
        "model_length": model.text_format.seq_length,
        "hidden_dim": net.embed.shape[1],
        **net_config(net),
        **more,
    }
    sizes = net_sizes(official, CheckpointConfig(folder / "config.json", config))
    with torch.device("meta"):
        plain = TokenDiT(**sizes)
    refuse_unplaced(net, plain.backbone, ["head_width"])
    write_published(folder, {PREFIX + name: tensor for name, tensor in official.items()}, config)
