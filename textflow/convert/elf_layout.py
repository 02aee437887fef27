"""Weights of other repositories as textflow's: names, shapes and what they say about the configuration."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

ELF_NAMES = {
    "self_cond_proj.": "join.",
    "text_proj.proj1.": "narrow.",
    "text_proj.proj2.": "widen.",
    "t_embedder.mlp_": "time.mlp.",
    "t_emb_tokens": "time.tokens",
    "self_cond_cfg_embedder.mlp_": "guidance.mlp.",
    "self_cond_cfg_tokens": "guidance.tokens",
    "mode_tokens": "mode",
    "final_layer.norm_final.": "norm.",
    "final_layer.linear.": "out.",
    "proj_kernel": "vocabulary.down.weight",
    "proj_bias": "vocabulary.down.bias",
    "unembed_kernel": "vocabulary.up.weight",
    "unembed_bias": "vocabulary.up.bias",
}


def elf_name(official: str) -> str:
    """textflow's name of a parameter of the published ELF."""
    official = official.removeprefix("_orig_mod.")
    for old, new in ELF_NAMES.items():
        if official.startswith(old):
            return new + official[len(old) :]
    return official


def elf_weights(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published ELF's tensors under textflow's names; its bare (in, out) kernels become (out, in)."""
    return {elf_name(n): t.T.contiguous() if n.endswith("_kernel") else t for n, t in official.items()}


def depth_of(names: Iterable[str]) -> int:
    """How many blocks there are; those that are counted must all be there.

    Args:
        names: textflow's, of all tensors.
    """
    found = {int(name.split(".")[1]) for name in names if name.startswith("blocks.")}
    if missing := next((i for i in range(len(found)) if i not in found), None):
        raise ValueError(f"there is a block {max(found)}, but no block {missing}")
    return len(found)


def elf_config(official: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of `ELF` (with dim and vocab), read off the shapes of the published tensors."""
    shapes = {elf_name(n): tuple(t.shape[::-1] if n.endswith("_kernel") else t.shape) for n, t in official.items()}
    try:
        width, dim = shapes["widen.weight"][0], shapes["narrow.weight"][1]
        return {
            "dim": dim,
            "vocab": shapes["vocabulary.up.weight"][0],
            "width": width,
            "depth": depth_of(shapes),
            "heads": width // shapes["blocks.0.attn.q_norm.weight"][0],
            "bottleneck": shapes["narrow.weight"][0],
            "hidden": shapes["blocks.0.mlp.w3.weight"][1],
            "time_tokens": shapes["time.tokens"][1],
            "guidance_tokens": shapes["guidance.tokens"][1],
            "mode_tokens": shapes["mode"][1],
        }
    except KeyError as error:
        raise ValueError(
            f"these tensors are not a published ELF: {error} is missing among {sorted(shapes)[:8]} ..."
        ) from error
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"these tensors do not have the shapes of a published ELF ({error})") from error
