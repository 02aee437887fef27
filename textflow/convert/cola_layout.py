"""Names and sizes of published Cola-DLM weights, in a `save_pretrained` folder of the VAE or of the prior."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from textflow.codecs.vae import TextVAE
from textflow.convert.checkpoint_config import CheckpointConfig, read_config
from textflow.convert.dit_layout import load_official
from textflow.convert.name_map import NameMap, count_blocks
from textflow.layers.block_causal import PostNormBlock
from textflow.nets.cola import ColaBlock, ColaDiT
from textflow.runtime.visible import visible_files
from textflow.training.weights import read_weights

NAMES = NameMap(  # of the prior; those of the VAE are unchanged
    prefixes={
        "txt_in.proj.": "latent_in.",
        "emb_in.proj_in.": "t_embed.mlp.0.",
        "emb_in.proj_hid.": "t_embed.mlp.2.",
        "emb_in.proj_out.": "t_embed.mlp.4.",
        "txt_out_norm.": "norm.",
        "txt_out_ada.out_in.1.": "out_modulation.",
        "txt_out.proj.": "out.",
    },
    inner={
        ".msa.proj_qkv.": ".attn.qkv.",
        ".msa.proj_out.": ".attn.proj.",
        ".msa.norm_q.": ".attn.q_norm.",
        ".msa.norm_k.": ".attn.k_norm.",
        ".mlp.proj_in.": ".mlp.0.",
        ".mlp.proj_out.": ".mlp.2.",
        ".ada.msa_in.1.": ".attn_modulation.",
        ".ada.msa_out.1.": ".attn_gate_modulation.",
        ".ada.mlp_in.1.": ".mlp_modulation.",
        ".ada.mlp_out.1.": ".mlp_gate_modulation.",
    },
)
map_name = NAMES.to_textflow
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
        return CheckpointConfig(self.folder / "config.json", self.config).integer(name)

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
        try:
            return count_blocks(self.tensors, f"{prefix}.")
        except ValueError as error:
            raise ValueError(f"{self.folder}: {error}") from error


def read_folder(folder: Path) -> SavedFolder:
    """Tensors (of one file or of shards) and configuration; code in the folder is not run."""
    files, config = visible_files(folder, "*.safetensors"), folder / "config.json"
    if not files or not config.is_file():
        raise ValueError(f"{folder} needs config.json and model.safetensors; download it again")
    content, tensors = read_config(files[0]).content, dict[str, Tensor]()
    for file in files:
        try:
            tensors |= read_weights(file)[0]
        except ValueError as error:
            raise ValueError(f"{file}: {error}; download it again") from error
    return SavedFolder(folder, tensors, dict(content))


def vae_sizes(vae: SavedFolder) -> dict[str, Any]:
    """Arguments of `TextVAE`, from the shapes of the tensors; what these do not tell, heads, blocks and a padding token
    that is not the last, from the configuration."""
    config = CheckpointConfig(vae.folder / "config.json", vae.config)
    return {
        "dim": vae.shape("encoder.final_layer.weight", 2)[0] // 2,
        "width": vae.shape("encoder.wte.weight", 2)[1],
        "mlp_width": vae.shape("encoder.blocks.0.ffn_out.weight", 2)[1],
        "encoder_depth": vae.depth("encoder.blocks"),
        "decoder_depth": vae.depth("decoder.blocks"),
        "heads": vae.number("num_heads"),
        "patch_size": vae.shape("encoder.patch_embedder.weight", 3)[2],
        "block_size": vae.number("block_size"),
    } | ({"pad_id": config.integer("pad_id", least=0)} if "pad_id" in vae.config else {})


def vae_config(vae: TextVAE) -> dict[str, Any]:
    """config.json of a VAE."""
    config = {
        "vocab_size": vae.vocab_size,
        "encoder_num_blocks": len(vae.encoder.blocks),
        "decoder_num_blocks": len(vae.decoder.blocks),
        "dim": vae.encoder.wte.embedding_dim,
        "ffn_dim": cast(PostNormBlock, vae.encoder.blocks[0]).ffn_out.in_features,
        "latent_dim": vae.dim,
        "patch_size": vae.patch_size,
        "num_heads": vae.encoder.wte.embedding_dim // vae.encoder.sizes[0],
        "block_size": vae.block_size,
    }
    return config | ({} if vae.pad_id == vae.vocab_size - 1 else {"pad_id": vae.pad_id})  # published: the last


def dit_config(net: ColaDiT) -> dict[str, Any]:
    """config.json of a prior."""
    block, width = cast(ColaBlock, net.blocks[0]), net.latent_in.out_features
    attention, ratio = block.attn, cast(nn.Linear, block.mlp[0]).out_features / width
    return {
        "txt_in_channels": net.dim,
        "txt_out_channels": net.dim,
        "txt_dim": width,
        "emb_dim": net.out_modulation.in_features,
        "heads": attention.heads,
        "head_dim": attention.proj.in_features // attention.heads,
        "expand_ratio": int(ratio) if ratio.is_integer() else ratio,
        "num_layers": len(net.blocks),
        "rope_dim": net.rope_width,
        "block_size": net.block_size,
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
        raise ValueError(f"{part.folder} is not a published Cola-DLM: {error}") from error
