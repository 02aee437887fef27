"""Convert published MDLM and Duo weights to textflow run folders."""

from pathlib import Path
from typing import Any, Literal, cast

from torch import Tensor

from textflow import run_folder
from textflow.config import recipe
from textflow.config.schema import recipe_parser
from textflow.convert.dit_layout import infer_sizes, load_official
from textflow.convert.elf import fetch_tokenizer
from textflow.convert.lightning_checkpoint import find_weights, official_weights, read_config
from textflow.data import LazyHFTokenizer
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.training.weights import write_weights

END_OF_TEXT = "<|endoftext|>"


def convert_discrete(
    system: Literal["mdlm", "duo"], checkpoint: str, target: Path, tokenizer: str = "gpt2", seq_length: int = 1024
) -> str:
    """Convert published MDLM or Duo weights to a run folder; returns a one-line summary.

    Args:
        system: repository that wrote the checkpoint.
        checkpoint: export to the Hub or Lightning checkpoint: a file, a folder or a Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer.
        seq_length: tokens per text, at least 2.
    """
    if seq_length < 2:
        raise ValueError(f"seq_length is {seq_length}; a row needs at least 2 tokens, such as --seq-length 1024")
    path = find_weights(checkpoint)
    official, config = official_weights(path), read_config(path)
    try:
        sizes = net_sizes(official, config)
        states = sizes.pop("vocab_size")
        lazy = lazy_tokenizer(tokenizer, states - (system == "mdlm"))  # MDLM: the last state is the mask
        tree = discrete_recipe(system, target, lazy, seq_length, sizes, bool(config.get("time_conditioning")))
        text = recipe.dump(recipe_parser().parse_object(tree))
        model = cast(DiscreteDiffusion, recipe.load_model(text, lazy.vocab_size)[0])
        for net in (model.net, model.ema_net):
            load_official(net.backbone, official)
    except ValueError as error:
        raise ValueError(f"{path} is no published {system.upper()}: {error}") from error
    note = fetch_tokenizer(lazy)
    model.seq_length = seq_length
    run_folder.write_run(target, text, lazy, model, f"{system.upper()}, converted from {checkpoint}")
    write_weights(target / "model.safetensors", model.weights(), {})
    count = sum(p.numel() for p in model.net.parameters())
    return f"{target}: {system.upper()} of {count:,} parameters, {sizes}, {states} token states, from {path}{note}"


def net_sizes(official: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `TokenDiT` and the number of token states, from the shapes of the tensors; shapes do not tell the
    number of heads, which is taken from config.json if it has it."""
    sizes = infer_sizes(official)
    heads = config.get("n_heads", sizes["heads"])
    if not isinstance(heads, int) or heads < 1 or sizes["width"] % heads:
        raise ValueError(f"config.json has n_heads {heads!r}; vocab_embed.embedding has width {sizes['width']}")
    return sizes | {"heads": heads}


def lazy_tokenizer(name: str, vocab_size: int) -> LazyHFTokenizer:
    """The tokenizer of a checkpoint; Duo's has one more id than GPT-2's, '[PAD]', which stands for no text."""
    end = "[SEP]" if "bert" in name else END_OF_TEXT
    return LazyHFTokenizer(name, vocab_size, eos_token=end, pad_token="[PAD]" if "bert" in name else end)


def discrete_recipe(
    system: Literal["mdlm", "duo"],
    target: Path,
    tokenizer: LazyHFTokenizer,
    seq_length: int,
    net_args: dict[str, Any],
    time_conditioning: bool,
) -> dict[str, Any]:
    """The recipe of a converted MDLM or Duo, as nested dictionaries."""
    tokenizer_args = {"name": tokenizer.name, "vocab_size": tokenizer.vocab_size, **tokenizer.options}
    parts: dict[str, Any] = {"objective": {"class_path": "DuoObjective"}, "sampler": {"class_path": "DuoSampler"}}
    if system == "mdlm":
        objective = {"class_path": "MDLMObjective", "init_args": {"time_conditioning": time_conditioning}}
        parts = {"objective": objective, "sampler": {"class_path": "MDLMSampler"}}
    source = {"name": "Skylion007/openwebtext", "revision": "refs/convert/parquet"}
    return {
        "run": {"folder": str(target)},
        "data": {
            "source": {"class_path": "HubDataset", "init_args": source},
            "tokenizer": {"class_path": "LazyHFTokenizer", "init_args": tokenizer_args},
            "seq_length": seq_length,
        },
        "model": {
            "class_path": "DiscreteDiffusion",
            "init_args": {"net": {"class_path": "TokenDiT", "init_args": net_args}, **parts},
        },
        "trainer": {"max_steps": 1},
    }
