"""Convert published FLM and FMLM weights to textflow run folders."""

from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from textflow import run_folder
from textflow.config import recipe
from textflow.config.schema import recipe_parser
from textflow.convert.discrete import lazy_tokenizer
from textflow.convert.dit_layout import infer_sizes, load_official
from textflow.convert.elf import fetch_tokenizer
from textflow.convert.lightning_checkpoint import find_weights, official_weights, read_config
from textflow.models.generator import Generator
from textflow.training.weights import write_weights

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
        sizes = infer_sizes(official)
        vocab_size = sizes.pop("vocab_size")
        sizes["heads"] = published_heads(trained, sizes)
        name = tokenizer or ("bert-base-uncased" if vocab_size == BERT_TOKENS else "gpt2")
        lazy = lazy_tokenizer(name, vocab_size)
        data = {"name": lazy.name, "vocab_size": vocab_size, **lazy.options}
        weighting = any(key.startswith("learnable_loss_weighting.") for key in official)
        net_args = sizes | {"two_time": system == "fmlm", "loss_weighting": weighting, "logit_softcap": logit_softcap}
        length = min(seq_length, int(trained.get("length", seq_length)))
        text = recipe.dump(recipe_parser().parse_object(flm_recipe(system, target, data, length, net_args)))
        model = cast(Generator, recipe.load_model(text, vocab_size)[0])
        for net in (model.net, model.ema_net):
            load_official(net, official)
    except ValueError as error:
        raise ValueError(f"{path} is no published {system.upper()}: {error}") from error
    note = fetch_tokenizer(lazy)
    model.seq_length = length
    run_folder.write_run(target, text, lazy, model, f"{system.upper()}, converted from {checkpoint}")
    write_weights(target / "model.safetensors", model.weights(), {})
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


def published_heads(trained: dict[str, Any], sizes: dict[str, Any]) -> int:
    """Number of heads, of config.json if it has it, otherwise of the rotary frequencies."""
    heads, width = trained.get("n_heads", sizes["heads"]), sizes["width"]
    if not isinstance(heads, int) or heads < 1 or width % heads:
        raise ValueError(f"config.json has n_heads {heads!r}; vocab_embed.embedding has width {width}")
    return heads


def flm_recipe(
    system: Literal["flm", "fmlm"], target: Path, tokenizer: dict[str, Any], seq_length: int, net_args: dict[str, Any]
) -> dict[str, Any]:
    """The recipe of a converted FLM or FMLM, as nested dictionaries."""
    published = {"vocab_size": tokenizer["vocab_size"], "num_points": 4097, "order": 100}
    schedule = {"class_path": "OneHotDecodeError", "init_args": published}
    objective, sampler = "FLMObjective", dict[str, Any](class_path="Euler")
    if system == "fmlm":
        objective, sampler = "FlowMap", {"class_path": "FlowMapChurn", "init_args": {"gamma": 1.0}}
    source = {"name": "Skylion007/openwebtext", "revision": "refs/convert/parquet"}
    return {
        "run": {"folder": str(target)},
        "data": {
            "source": {"class_path": "HubDataset", "init_args": source},
            "tokenizer": {"class_path": "LazyHFTokenizer", "init_args": tokenizer},
            "seq_length": seq_length,
        },
        "model": {
            "class_path": "Generator",
            "init_args": {
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
            },
        },
        "trainer": {"max_steps": 1},
    }
