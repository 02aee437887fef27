"""Convert published FLM and FMLM weights to textflow run folders."""

from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from textflow.config import recipe
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.discrete import lazy_tokenizer
from textflow.convert.dit_layout import load_official, net_sizes
from textflow.convert.lightning_checkpoint import find_weights, official_weights, read_config
from textflow.models.generator import Generator

BERT_TOKENS = 30_522  # LM1B; GPT-2's otherwise
END_TIME = "sigma_map_prime."


def convert_flm(
    system: Literal["flm", "fmlm"],
    checkpoint: str,
    target: Path,
    tokenizer: str | None = None,
    seq_length: int = 1024,
    logit_softcap: float | None = None,
) -> str:
    """Convert published FLM or FMLM weights to a run folder; returns a one-line summary.

    Args:
        system: flm, or fmlm for a flow map, whose net is conditioned on the end of a step.
        checkpoint: export to the Hub or Lightning checkpoint: a file, a folder or a Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: bert-base-uncased for 30,522 tokens, else gpt2.
        seq_length: tokens per text, at least 2; at most those of config.json, if there is one.
        logit_softcap: soft limit of the token logits that the weights were trained with; default: none.
    """
    if seq_length < 2:
        raise ValueError(f"seq_length is {seq_length}; a row needs at least 2 tokens, such as --seq-length 1024")
    path = find_weights(checkpoint)
    official, trained = official_weights(path), read_config(path).get("model", {})
    try:
        refuse_other(system, official)
        sizes = net_sizes(official, trained)
        vocab_size = sizes.pop("vocab_size")
        name = tokenizer or ("bert-base-uncased" if vocab_size == BERT_TOKENS else "gpt2")
        lazy = lazy_tokenizer(name, vocab_size)
        weighting = any(key.startswith("learnable_loss_weighting.") for key in official)
        net_args = sizes | {"two_time": system == "fmlm", "loss_weighting": weighting, "logit_softcap": logit_softcap}
        length = min(seq_length, int(trained.get("length", seq_length)))
        text = converted_recipe(target, lazy, length, "Generator", flm_parts(system, vocab_size, net_args))
        model = cast(Generator, recipe.load_model(text, vocab_size)[0])
        for net in (model.net, model.ema_net):
            load_official(net, official)
    except ValueError as error:
        raise ValueError(f"{path} is no published {system.upper()}: {error}") from error
    note = write_converted(target, text, lazy, model, length, f"{system.upper()}, converted from {checkpoint}")
    count = sum(p.numel() for p in model.net.parameters())
    return f"{target}: {system.upper()} of {count:,} parameters, {sizes}, {vocab_size} tokens, from {path}{note}"


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
