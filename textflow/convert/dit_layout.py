"""Map the published weights of FLM, MDLM and Duo to the net `DiT`, and infer its sizes from their shapes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from textflow.training.weights import describe_mismatch

PREFIX_MAP = {
    "vocab_embed.embedding": "embed",
    "sigma_map_prime.": "end_t_embed.",
    "sigma_map.": "t_embed.",
    "learnable_loss_weighting.s_embed.": "loss_weighting.t_embed.",
    "learnable_loss_weighting.": "loss_weighting.",
    "output_layer.norm_final.": "norm.",
    "output_layer.adaLN_modulation.": "out_modulation.",
    "output_layer.linear.": "out.",
}
IN_BLOCKS = {"attn_qkv": "qkv", "attn_out": "proj"}
FREQUENCIES = "rotary_emb.inv_freq"  # computed, not learned
HEAD_WIDTH = 64  # published; used where a file lacks the frequencies


def map_name(official: str) -> str:
    """The textflow name of a published parameter of FLM, MDLM or Duo."""
    return rename_parameter(official, PREFIX_MAP, IN_BLOCKS)


def rename_parameter(name: str, prefixes: Mapping[str, str], inner: Mapping[str, str]) -> str:
    """A name with the first prefix that it has replaced; without one, with every inner part replaced."""
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name[len(old) :]
    for old, new in inner.items():
        name = name.replace(old, new)
    return name


def map_weights(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by textflow name, without the frequencies of rotary positions."""
    return {map_name(name): tensor for name, tensor in official.items() if name != FREQUENCIES}


def infer_sizes(official: Mapping[str, Tensor]) -> dict[str, Any]:
    """Width, depth, heads and cond_width of `DiT`, and vocab_size, the number of rows of the token table."""
    try:
        table = official["vocab_embed.embedding"]
        if table.ndim != 2:
            raise ValueError(f"vocab_embed.embedding is {tuple(table.shape)}, needs (tokens, width)")
        vocab_size, width = table.shape
        head = 2 * official[FREQUENCIES].numel() if FREQUENCIES in official else HEAD_WIDTH
        depth = 1 + max(int(name.split(".")[1]) for name in official if name.startswith("blocks."))
        sizes = {"width": width, "depth": depth, "heads": max(width // head, 1)}
        return sizes | {"cond_width": len(official["sigma_map.mlp.0.bias"]), "vocab_size": vocab_size}
    except KeyError as error:
        names = sorted(official)[:6]
        raise ValueError(f"these tensors are not a published DiT: {error} is missing among {names} ...") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"these tensors do not have the shapes of a published DiT ({error})") from error


def net_sizes(official: dict[str, Tensor], config: dict[str, Any]) -> dict[str, Any]:
    """`infer_sizes` with the number of heads of config.json, if it has it: shapes do not tell that number."""
    sizes = infer_sizes(official)
    heads = config.get("n_heads", sizes["heads"])
    if not isinstance(heads, int) or heads < 1 or sizes["width"] % heads:
        raise ValueError(f"config.json has n_heads {heads!r}; vocab_embed.embedding has width {sizes['width']}")
    return sizes | {"heads": heads}


def load_official(net: nn.Module, official: Mapping[str, Tensor], name_of: Callable[[str], str] = map_name) -> None:
    """Copy published tensors into the net; an error names the tensor that does not fit, and both shapes.

    Args:
        net: net whose parameters have the names that `map_weights` gives.
        official: tensors by published name.
        name_of: published name -> name in the net.
    """
    own, published = net.state_dict(), {name_of(name): name for name in official if name != FREQUENCIES}
    for name, source in published.items():
        tensor = official[source]
        if name not in own:
            raise ValueError(f"{source} {tuple(tensor.shape)} has no place in {type(net).__name__}")
        if tensor.shape != own[name].shape:
            raise ValueError(f"{source} is {tuple(tensor.shape)}, but the sizes need {tuple(own[name].shape)}")
        if why := describe_mismatch(tensor, torch.zeros(())):
            raise ValueError(f"{source} {why}; choose another checkpoint, or download this one again")
    if lacking := [name for name, _ in net.named_parameters() if name not in published]:
        raise ValueError(f"the file lacks {lacking[0]} {tuple(own[lacking[0]].shape)}, and {len(lacking) - 1} more")
    net.load_state_dict({name: official[source] for name, source in published.items()}, strict=False)
