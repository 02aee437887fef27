"""Convert published MDLM and Duo weights to textflow run folders."""

from pathlib import Path
from typing import Any, Literal, cast

from textflow.config import recipe
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.dit_layout import load_official, net_sizes
from textflow.convert.lightning_checkpoint import find_weights, official_weights, read_config
from textflow.data import LazyHFTokenizer
from textflow.models.discrete_diffusion import DiscreteDiffusion

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
        parts = discrete_parts(system, sizes, bool(config.get("time_conditioning")))
        text = converted_recipe(target, lazy, seq_length, "DiscreteDiffusion", parts)
        model = cast(DiscreteDiffusion, recipe.load_model(text, lazy.vocab_size)[0])
        for net in (model.net, model.ema_net):
            load_official(net.backbone, official)
    except ValueError as error:
        raise ValueError(f"{path} is no published {system.upper()}: {error}") from error
    note = write_converted(target, text, lazy, model, seq_length, f"{system.upper()}, converted from {checkpoint}")
    count = sum(p.numel() for p in model.net.parameters())
    return f"{target}: {system.upper()} of {count:,} parameters, {sizes}, {states} token states, from {path}{note}"


def lazy_tokenizer(name: str, vocab_size: int) -> LazyHFTokenizer:
    """The tokenizer of a checkpoint; Duo's has one more id than GPT-2's, '[PAD]', which stands for no text."""
    end = "[SEP]" if "bert" in name else END_OF_TEXT
    return LazyHFTokenizer(name, vocab_size, eos_token=end, pad_token="[PAD]" if "bert" in name else end)


def discrete_parts(system: Literal["mdlm", "duo"], net_args: dict[str, Any], time_conditioning: bool) -> dict[str, Any]:
    """Arguments of the model of a converted MDLM or Duo."""
    net = {"class_path": "TokenDiT", "init_args": net_args}
    if system == "duo":
        return {"net": net, "objective": {"class_path": "DuoObjective"}, "sampler": {"class_path": "DuoSampler"}}
    objective = {"class_path": "MDLMObjective", "init_args": {"time_conditioning": time_conditioning}}
    return {"net": net, "objective": objective, "sampler": {"class_path": "MDLMSampler"}}
