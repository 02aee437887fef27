"""Convert published FLM and FMLM weights to textflow run folders and back."""

from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from textflow.codecs import OneHot
from textflow.config.model import load_model
from textflow.convert.checkpoint_config import CheckpointConfig, read_config
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.dit_layout import FREQUENCIES, NAMES, load_official, net_config, net_sizes, rotary_frequencies
from textflow.convert.lightning_checkpoint import find_weights, official_weights
from textflow.convert.published_folder import own_parameters, refuse_setting, refuse_unplaced, write_published
from textflow.convert.published_text import lazy_tokenizer, published_text, refuse_short
from textflow.models.generator import Generator
from textflow.nets import DiT
from textflow.paths import LinearPath
from textflow.schedules import OneHotDecodeError

END_TIME = "sigma_map_prime."


def convert_flm(
    system: Literal["flm", "fmlm"],
    checkpoint: str,
    target: Path,
    tokenizer: str | None = None,
    seq_length: int | None = None,
    logit_softcap: float | None = None,
) -> str:
    """Convert published FLM or FMLM weights to a run folder; returns a one-line summary.

    Args:
        system: flm, or fmlm for a flow map, whose net is conditioned on the end of a step.
        checkpoint: export to the Hub or Lightning checkpoint: a file, a folder or a Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: by the number of tokens, gpt2 or bert-base-uncased.
        seq_length: tokens per text, at least 2; default: model.length of config.json, else the published length.
        logit_softcap: soft limit of the token logits that the weights were trained with; default: model.logit_softcap
            of config.json, else none. Published files do not tell it, for the released code has it as a constant.
    """
    refuse_short(seq_length, least=2)
    path = find_weights(checkpoint)
    official, trained = official_weights(path), read_config(path).part("model")
    try:
        refuse_other(system, official)
        vocab_size, net_args = flm_sizes(official, trained, logit_softcap)
        lazy, published = lazy_tokenizer(tokenizer, vocab_size), published_text(vocab_size)
        length = seq_length or trained.integer("length", published.seq_length, least=2)
        parts = flm_parts(system, vocab_size, net_args)
        text = converted_recipe(target, lazy, length, "Generator", parts, published.source)
        model = cast(Generator, load_model(text, vocab_size))
        for net in (model.net, model.ema_net):
            load_official(net, official)
    except ValueError as error:
        raise ValueError(f"{path} is not a published {system.upper()}: {error}") from error
    note = write_converted(target, text, lazy, model, length, f"{system.upper()}, converted from {checkpoint}")
    count = sum(p.numel() for p in model.net.parameters())
    return f"{target}: {system.upper()} of {count:,} parameters, {net_args}, {vocab_size} tokens, from {path}{note}"


def flm_sizes(
    official: dict[str, Tensor], config: CheckpointConfig, logit_softcap: float | None = None
) -> tuple[int, dict[str, Any]]:
    """Number of tokens, and arguments of `DiT` without its schedule.

    Args:
        official: tensors by published name.
        config: section `model` of config.json.
        logit_softcap: soft limit of the token logits; default: that of the configuration.
    """
    sizes = net_sizes(official, config)
    vocab_size = sizes.pop("vocab_size")
    parts = {
        "two_time": any(name.startswith(END_TIME) for name in official),
        "loss_weighting": any(name.startswith("learnable_loss_weighting.") for name in official),
        "logit_softcap": config.number("logit_softcap") if logit_softcap is None else logit_softcap,
    }
    return vocab_size, sizes | parts


def refuse_other(system: Literal["flm", "fmlm"], official: dict[str, Tensor]) -> None:
    """Raise an error if the weights are of the other system."""
    found = next((f"{name} {tuple(t.shape)}" for name, t in official.items() if name.startswith(END_TIME)), None)
    if system == "flm" and found:
        raise ValueError(f"it has {found}, the end of a step, so it is an FMLM: textflow convert fmlm SOURCE TARGET")
    if system == "fmlm" and not found:
        raise ValueError(
            f"it has no {END_TIME}*, the end of a step, so it is an FLM: textflow convert flm SOURCE TARGET"
        )


def flm_parts(system: Literal["flm", "fmlm"], vocab_size: int, net_args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the model of a converted FLM or FMLM."""
    published = {"vocab_size": vocab_size, "num_points": 4097, "order": 100}
    schedule = {"class_path": "OneHotDecodeError", "init_args": published}
    objective, sampler = "FLMObjective", dict[str, Any](class_path="Euler")
    if system == "fmlm":
        objective, sampler = "FlowMap", {"class_path": "FlowMapChurn", "init_args": {"gamma": 1.0}}
    return {
        "codec": {"class_path": "OneHot"},
        "net": {"class_path": "DiT", "init_args": net_args | {"time_schedule": schedule}},
        "objective": {"class_path": objective, "init_args": {"time_schedule": schedule}},
        "path": {
            "class_path": "LinearPath",
            "init_args": {"noise_scale": 1.0, "min_one_minus_t": 0.0, "eps": 1e-5},
        },
        "readout": {"class_path": "FromPosterior"},
        "token_readout": {"class_path": "FromPosterior"},
        "sampler": sampler,
    }


def write_flm(model: Generator, folder: Path) -> None:
    """Write an FLM or FMLM as an export to the Hub: model.safetensors and config.json."""
    net = model.ema_net
    assert isinstance(net, DiT), "the caller has checked it"
    if not isinstance(net.time_schedule, OneHotDecodeError) or not isinstance(model.path, LinearPath):
        raise ValueError(
            f"its net is conditioned on {type(net.time_schedule).__name__} of times along {type(model.path).__name__}, "
            "and the layout stands for OneHotDecodeError along LinearPath"
        )
    refuse_setting("the path's noise_scale", model.path.noise_scale, 1.0)
    official = {NAMES.to_official(name): p for name, p in own_parameters(net).items()}
    official[FREQUENCIES] = rotary_frequencies(net.head_width)
    section = {"hidden_size": net.embed.shape[1], "length": model.text_format.seq_length, **net_config(net)}
    if net.logit_softcap is not None:
        section["logit_softcap"] = net.logit_softcap
    vocab_size, net_args = flm_sizes(official, CheckpointConfig(folder / "config.json", section, "model."))
    with torch.device("meta"):
        plain = DiT(OneHot(vocab_size), **net_args)
    refuse_unplaced(net, plain, ["head_width", "logit_softcap", "blocks.0.softcap"])
    algo = {"name": "flm", "causal_attention": False, "double_temb": net.two_time}
    algo["learnable_loss_weighting"] = net.loss_weighting is not None
    write_published(folder, official, {"algo": algo, "model": section})
