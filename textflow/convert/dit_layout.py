"""Map the published weights of FLM, MDLM and Duo to the net `DiT` and back; infer its sizes from their shapes."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from textflow.convert.checkpoint_config import CheckpointConfig
from textflow.convert.name_map import NameMap, count_blocks
from textflow.nets import DiT
from textflow.training.weights import describe_mismatch

TABLE = "vocab_embed.embedding"
NAMES = NameMap(
    prefixes={
        TABLE: "embed",
        "sigma_map_prime.": "end_t_embed.",
        "sigma_map.": "t_embed.",
        "learnable_loss_weighting.s_embed.": "loss_weighting.t_embed.",
        "learnable_loss_weighting.": "loss_weighting.",
        "output_layer.norm_final.": "norm.",
        "output_layer.adaLN_modulation.": "out_modulation.",
        "output_layer.linear.": "out.",
    },
    inner={".attn_qkv.": ".qkv.", ".attn_out.": ".proj."},
)
map_name = NAMES.to_textflow
FREQUENCIES = "rotary_emb.inv_freq"  # computed, not learned
HEAD_WIDTH = 64  # published; used where a file lacks the frequencies


def map_weights(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published tensors by textflow name, without the frequencies of rotary positions."""
    return {map_name(name): tensor for name, tensor in official.items() if name != FREQUENCIES}


def rotary_frequencies(width: int) -> Tensor:
    """Frequencies of rotary positions in channels of a number, rounded as the published code rounds them."""
    return 1.0 / (10000 ** (torch.arange(0, width, 2).float() / width))


def infer_sizes(official: Mapping[str, Tensor]) -> dict[str, Any]:
    """Width, depth, heads and cond_width of `DiT`, and vocab_size, the number of rows of the token table."""
    try:
        table = official[TABLE]
        if table.ndim != 2:
            raise ValueError(f"{TABLE} is {tuple(table.shape)}, needs (tokens, width)")
        vocab_size, width = table.shape
        head = 2 * official[FREQUENCIES].numel() if FREQUENCIES in official else HEAD_WIDTH
        sizes = {"width": width, "depth": count_blocks(official), "heads": max(width // head, 1)}
        return sizes | {"cond_width": official["sigma_map.mlp.0.bias"].shape[0], "vocab_size": vocab_size}
    except KeyError as error:
        names = sorted(official)[:6]
        raise ValueError(f"these tensors are not a published DiT: {error} is missing among {names} ...") from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"these tensors do not have the shapes of a published DiT ({error})") from error


def net_sizes(official: Mapping[str, Tensor], config: CheckpointConfig) -> dict[str, Any]:
    """`infer_sizes` with what shapes do not tell, the number of heads and dropout, if the configuration has it."""
    sizes = infer_sizes(official)
    heads = config.integer("n_heads", sizes["heads"])
    if sizes["width"] % heads:
        raise config.error("n_heads", heads, f"a divisor of the width of {TABLE}, {sizes['width']}")
    dropout = config.number("dropout")
    if dropout is not None and dropout >= 1:
        raise config.error("dropout", dropout, "a fraction below 1")
    return sizes | {"heads": heads} | ({} if dropout is None else {"dropout": float(dropout)})


def net_config(net: DiT) -> dict[str, Any]:
    """Entries of config.json that all these systems have."""
    block = net.blocks[0]
    sizes = {"cond_dim": net.out_modulation.in_features, "n_blocks": len(net.blocks)}
    return sizes | {"n_heads": block.heads, "dropout": block.drop.p}  # type: ignore[union-attr]


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
