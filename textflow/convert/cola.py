"""Convert published Cola-DLM weights, a folder of its VAE and one of its prior, to a textflow run folder and back."""

from pathlib import Path
from typing import Any

import torch

from textflow.codecs import LatentSpace, TextVAE
from textflow.config.model import load_model
from textflow.convert.cola_layout import (
    FREQUENCIES,
    NAMES,
    SavedFolder,
    dit_config,
    dit_sizes,
    load_folder,
    map_name,
    read_folder,
    vae_config,
    vae_sizes,
)
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.dit_layout import rotary_frequencies
from textflow.convert.published_folder import own_parameters, refuse_setting, refuse_unplaced, write_published
from textflow.convert.published_text import OPENWEBTEXT, refuse_short
from textflow.data import LazyHFTokenizer
from textflow.models.generator import Generator
from textflow.nets import ColaDiT
from textflow.paths import LinearPath

VAE, DIT = "cola_vae", "cola_dit"
TOKENIZER = "allenai/dolma2-tokenizer"  # OLMo 2's
EOS, PAD = "<|endoftext|>", "<|pad|>"
SEQ_LENGTH = 512  # published


def convert_cola(checkpoint: str, target: Path, tokenizer: str | None = None, seq_length: int | None = None) -> str:
    """Convert a published Cola-DLM to a run folder; returns a one-line summary.

    Args:
        checkpoint: folder (or Hub repository) that holds the folders cola_vae and cola_dit, each with config.json and
            model.safetensors.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: OLMo 2's.
        seq_length: tokens per text, at least 1; default: the published 512.
    """
    refuse_short(seq_length)
    root, length = find_folders(checkpoint), seq_length or SEQ_LENGTH
    vae, dit = read_folder(root / VAE), read_folder(root / DIT)
    vocab, codec_args, net_args = vae.shape("decoder.final_layer.weight", 2)[0], vae_sizes(vae), dit_sizes(dit)
    lazy = LazyHFTokenizer(tokenizer or TOKENIZER, vocab, eos_token=EOS, pad_token=PAD)
    parts = cola_parts(codec_args, net_args)
    text = converted_recipe(target, lazy, length, "Generator", parts, OPENWEBTEXT.source)  # its own is not named
    model = load_model(text, vocab)
    assert isinstance(model, Generator)
    load_folder(model.codec, vae, str)
    model.codec.updates.fill_(1)  # type: ignore[operator]  # it is trained
    for net in (model.net, model.ema_net):
        load_folder(net, dit, map_name)
    note = write_converted(target, text, lazy, model, length, f"Cola-DLM, converted from {checkpoint}")
    counts = (sum(p.numel() for p in part.parameters()) for part in (model.codec, model.net))
    return "{}: Cola-DLM, VAE of {:,} and prior of {:,} parameters, {}, from {}{}".format(
        target, *counts, net_args, root, note
    )


def find_folders(source: str) -> Path:
    """The folder that holds both parts, in a folder or a Hub repository."""
    root = Path(source)
    if not root.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

        try:
            root = Path(snapshot_download(source, allow_patterns=[f"*{VAE}/*", f"*{DIT}/*"]))
        except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{source!r} is not a folder or a reachable Hub repository ({reason})") from error
    for folder in (root, root / "cola_dlm"):
        if all((folder / name).is_dir() for name in (VAE, DIT)):
            return folder
    raise ValueError(f"{source} does not hold both folders {VAE} and {DIT}; give the folder that they lie in")


def cola_parts(codec_args: dict[str, Any], net_args: dict[str, int]) -> dict[str, Any]:
    """Arguments of the model of a converted Cola-DLM."""
    return {
        "codec": {"class_path": "TextVAE", "init_args": codec_args},
        "net": {"class_path": "ColaDiT", "init_args": net_args},
        "objective": {"class_path": "ColaObjective"},
        "path": {"class_path": "LinearPath", "init_args": {"noise_scale": 1.0, "min_one_minus_t": 0.0}},
        "readout": {"class_path": "FromCodec", "init_args": {"repetition_penalty": 1.1}},
        "token_readout": {"class_path": "FromCodec"},
        "sampling_schedule": {"class_path": "Uniform"},
        "order": {"class_path": "Blockwise"},
    }


def write_cola(model: Generator, folder: Path) -> None:
    """Write the VAE and the prior of a Cola-DLM, a folder each."""
    net, vae = model.ema_net, model.codec_of(model.ema_net)
    assert isinstance(net, ColaDiT), "the caller has checked it"
    if not isinstance(vae, TextVAE) or not isinstance(model.path, LinearPath):
        raise ValueError(
            f"its latents are of {type(vae).__name__} along {type(model.path).__name__}, and the layout stands for "
            "TextVAE along LinearPath"
        )
    refuse_setting("the path's noise_scale", model.path.noise_scale, 1.0)
    codec = SavedFolder(folder / VAE, dict(vae.named_parameters()), vae_config(vae))
    named = {NAMES.to_official(name): p for name, p in own_parameters(net).items()}
    prior = SavedFolder(folder / DIT, named, dit_config(net))
    for i in range(len(net.blocks)):
        prior.tensors[f"blocks.{i}.msa{FREQUENCIES}"] = rotary_frequencies(net.rope_width)
    with torch.device("meta"):
        plain_vae = TextVAE(vae.vocab_size, **vae_sizes(codec))
        plain_net = ColaDiT(LatentSpace(vae.dim, vae.vocab_size), **dit_sizes(prior))
    refuse_unplaced(vae, plain_vae, ["block_size", "patch_size", "pad_id", "encoder.sizes"])
    refuse_unplaced(net, plain_net, ["block_size", "rope_width", "blocks.0.attn.heads"])
    for part in (codec, prior):
        write_published(part.folder, part.tensors, part.config)
