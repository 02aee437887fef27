"""Names and sizes of published Cola-DLM weights, from a `save_pretrained` folder of the VAE or of the prior."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from textflow.convert.dit_layout import load_official, rename_parameter
from textflow.runtime.visible import visible_files
from textflow.training.weights import read_weights

PREFIX_MAP = {
    "txt_in.proj.": "latent_in.",
    "emb_in.proj_in.": "t_embed.mlp.0.",
    "emb_in.proj_hid.": "t_embed.mlp.2.",
    "emb_in.proj_out.": "t_embed.mlp.4.",
    "txt_out_norm.": "norm.",
    "txt_out_ada.out_in.1.": "out_modulation.",
    "txt_out.proj.": "out.",
}
IN_BLOCKS = {
    "msa.proj_qkv": "attn.qkv",
    "msa.proj_out": "attn.proj",
    "msa.norm_": "attn.",  # q and k
    "mlp.proj_in": "mlp.0",
    "mlp.proj_out": "mlp.2",
    "ada.msa_in.1": "attn_modulation",
    "ada.msa_out.1": "attn_gate_modulation",
    "ada.mlp_in.1": "mlp_modulation",
    "ada.mlp_out.1": "mlp_gate_modulation",
}
FREQUENCIES = ".rope.rope.freqs"  # computed, not learned


class SavedFolder(NamedTuple):
    """A `save_pretrained` folder.

    Args:
        folder: where it lies.
        tensors: tensors by name.
        config: content of config.json.
    """

    folder: Path
    tensors: dict[str, Tensor]
    config: dict[str, Any]

    def number(self, name: str) -> int:
        """A size that no tensor tells, from config.json."""
        value = self.config.get(name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.folder / 'config.json'} has {name} {value!r}; it needs a number above 0")
        return value

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor with this many dimensions."""
        if name not in self.tensors:
            raise ValueError(f"{self.folder} lacks {name}; it holds {sorted(self.tensors)[:4]} ...")
        shape = tuple(self.tensors[name].shape)
        if len(shape) != dims or not all(shape):
            raise ValueError(f"{self.folder}: {name} is {shape}, needs {dims} dimensions above 0")
        return shape

    def depth(self, prefix: str) -> int:
        """Number of layers `prefix.0` ..."""
        found = [match for name in self.tensors if (match := re.match(rf"{re.escape(prefix)}\.(\d+)\.", name))]
        return 1 + max((int(match[1]) for match in found), default=-1)


def read_folder(folder: Path) -> SavedFolder:
    """Tensors (of one file or of shards) and configuration; code in the folder is not run."""
    files, config = visible_files(folder, "*.safetensors"), folder / "config.json"
    if not files or not config.is_file():
        raise ValueError(f"{folder} needs config.json and model.safetensors; download it again")
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{config} is not JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{config} holds a {type(content).__name__}, not an object with names; download it again")
    tensors = dict[str, Tensor]()
    for file in files:
        try:
            tensors |= read_weights(file)[0]
        except ValueError as error:
            raise ValueError(f"{file}: {error}; download it again") from error
    return SavedFolder(folder, tensors, content)


def map_name(official: str) -> str:
    """The textflow name of a published parameter of the prior; those of the VAE are unchanged."""
    return re.sub(r"attn\.([qk])\.", r"attn.\1_norm.", rename_parameter(official, PREFIX_MAP, IN_BLOCKS))


def vae_sizes(vae: SavedFolder) -> dict[str, int]:
    """Arguments of `TextVAE`, from the shapes of the tensors; heads and blocks, which these do not tell, from the
    configuration."""
    return {
        "dim": vae.shape("encoder.final_layer.weight", 2)[0] // 2,
        "width": vae.shape("encoder.wte.weight", 2)[1],
        "mlp_width": vae.shape("encoder.blocks.0.ffn_out.weight", 2)[1],
        "encoder_depth": vae.depth("encoder.blocks"),
        "decoder_depth": vae.depth("decoder.blocks"),
        "heads": vae.number("num_heads"),
        "patch_size": vae.shape("encoder.patch_embedder.weight", 3)[2],
        "block_size": vae.number("block_size"),
    }


def dit_sizes(dit: SavedFolder) -> dict[str, int]:
    """Arguments of `ColaDiT`, from the shapes of the tensors, and the block size from the configuration."""
    head, freqs = dit.shape("blocks.0.msa.norm_q.weight", 1)[0], f"blocks.0.msa{FREQUENCIES}"
    return {
        "width": dit.shape("txt_in.proj.weight", 2)[0],
        "depth": dit.depth("blocks"),
        "heads": max(dit.shape("blocks.0.msa.proj_qkv.weight", 2)[0] // (3 * head), 1),
        "head_width": head,
        "mlp_width": dit.shape("blocks.0.mlp.proj_in.weight", 2)[0],
        "rope_width": 2 * dit.shape(freqs, 1)[0] if freqs in dit.tensors else dit.number("rope_dim"),
        "cond_width": dit.shape("emb_in.proj_out.weight", 2)[0],
        "time_width": dit.shape("emb_in.proj_in.weight", 2)[0],
        "block_size": dit.number("block_size"),
    }


def load_folder(net: nn.Module, part: SavedFolder, rename: Callable[[str], str]) -> None:
    """Copy a folder's tensors into a net; an error names the folder, the tensor and both shapes."""
    learned = {n: t for n, t in part.tensors.items() if not n.endswith(FREQUENCIES)}
    try:
        load_official(net, learned, rename)
    except ValueError as error:
        raise ValueError(f"{part.folder} is no published Cola-DLM: {error}") from error
