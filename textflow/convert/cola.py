"""Convert published Cola-DLM weights, a folder of its VAE and one of its prior, to a textflow run folder."""

from pathlib import Path
from typing import Any

from textflow.config import recipe
from textflow.convert.cola_layout import dit_sizes, load_folder, map_name, read_folder, vae_sizes
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.data import LazyHFTokenizer
from textflow.models.generator import Generator

VAE, DIT = "cola_vae", "cola_dit"
TOKENIZER = "allenai/dolma2-tokenizer"  # OLMo 2's
EOS, PAD = "<|endoftext|>", "<|pad|>"


def convert_cola(checkpoint: str, target: Path, tokenizer: str | None = None, seq_length: int = 512) -> str:
    """Convert a published Cola-DLM to a run folder; returns a one-line summary.

    Args:
        checkpoint: folder (or Hub repository) that holds the folders cola_vae and cola_dit, each with config.json and
            model.safetensors.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer; default: OLMo 2's.
        seq_length: tokens per text, at least 1.
    """
    if seq_length < 1:
        raise ValueError(f"seq_length is {seq_length}; a text needs at least 1 token, such as --seq-length 512")
    root = find_folders(checkpoint)
    vae, dit = read_folder(root / VAE), read_folder(root / DIT)
    vocab, codec_args, net_args = vae.shape("decoder.final_layer.weight", 2)[0], vae_sizes(vae), dit_sizes(dit)
    lazy = LazyHFTokenizer(tokenizer or TOKENIZER, vocab, eos_token=EOS, pad_token=PAD)
    parts = cola_parts(codec_args, net_args)
    text = converted_recipe(target, lazy, seq_length, "Generator", parts)  # its training text is not named
    model, _ = recipe.load_model(text, vocab)
    assert isinstance(model, Generator)
    load_folder(model.codec, vae, str)
    model.codec.updates.fill_(1)  # type: ignore[operator]  # it is trained
    for net in (model.net, model.ema_net):
        load_folder(net, dit, map_name)
    note = write_converted(target, text, lazy, model, seq_length, f"Cola-DLM, converted from {checkpoint}")
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


def cola_parts(codec_args: dict[str, int], net_args: dict[str, int]) -> dict[str, Any]:
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
