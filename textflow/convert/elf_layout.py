"""Map published ELF weights to textflow and back; infer the configuration from their shapes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from textflow.codecs import LatentSpace
from textflow.convert.name_map import NameMap, count_blocks

NAMES = NameMap(
    {
        "self_cond_proj.": "self_cond_proj.",
        "text_proj.proj1.": "bottleneck_down.",
        "text_proj.proj2.": "bottleneck_up.",
        "t_embedder.mlp_": "t_embed.mlp.",
        "t_emb_tokens": "t_embed.tokens",
        "self_cond_cfg_embedder.mlp_": "guidance_embed.mlp.",
        "self_cond_cfg_tokens": "guidance_embed.tokens",
        "mode_tokens": "mode_tokens",
        "final_layer.norm_final.": "norm.",
        "final_layer.linear.": "out.",
        "proj_kernel": "lm_head.down.weight",
        "proj_bias": "lm_head.down.bias",
        "unembed_kernel": "lm_head.up.weight",
        "unembed_bias": "lm_head.up.bias",
    }
)


def map_name(official: str) -> str:
    """The textflow name of a published ELF parameter."""
    return NAMES.to_textflow(official.removeprefix("_orig_mod."))


def map_weights(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published ELF tensors by textflow name; kernels (in, out) are transposed to (out, in)."""
    return {map_name(n): t.T.contiguous() if n.endswith("_kernel") else t for n, t in official.items()}


def official_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the net ELF by published name, the inverse of `map_weights`."""
    named = {NAMES.to_official(name): tensor for name, tensor in weights.items()}
    return {n: t.T.contiguous() if n.endswith("_kernel") else t for n, t in named.items()}


def infer_config(official: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `ELF`, with the latent space, inferred from the shapes of the published tensors."""
    shapes = {map_name(n): tuple(t.shape[::-1] if n.endswith("_kernel") else t.shape) for n, t in official.items()}
    try:
        width, dim = shapes["bottleneck_up.weight"][0], shapes["bottleneck_down.weight"][1]
        return {
            "codec": LatentSpace(dim, shapes["lm_head.up.weight"][0]),
            "width": width,
            "depth": count_blocks(shapes),
            "heads": width // shapes["blocks.0.attn.q_norm.weight"][0],
            "bottleneck": shapes["bottleneck_down.weight"][0],
            "mlp_width": shapes["blocks.0.mlp.w3.weight"][1],
            "time_tokens": shapes["t_embed.tokens"][1],
            "guidance_tokens": shapes["guidance_embed.tokens"][1],
            "mode_tokens": shapes["mode_tokens"][1],
        }
    except KeyError as error:
        raise ValueError(
            f"these tensors are not a published ELF: {error} is missing among {sorted(shapes)[:8]} ..."
        ) from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"these tensors do not have the shapes of a published ELF ({error})") from error
