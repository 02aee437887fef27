"""Convert published ELF checkpoints to textflow run folders and back."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from textflow.codecs import T5Codec
from textflow.config.model import load_model
from textflow.convert.converted_run import converted_recipe, write_converted
from textflow.convert.elf_layout import infer_config, map_weights, official_tensors
from textflow.convert.published_folder import own_parameters, refuse_unplaced
from textflow.convert.published_text import refuse_short
from textflow.data import LazyHFTokenizer
from textflow.models.generator import Generator
from textflow.nets import ELF
from textflow.paths import LinearPath
from textflow.runtime.atomic import atomic_write
from textflow.training.weights import describe_mismatch

TRAINING_TEXT = {"name": "embedded-language-flows/openwebtext-t5"}
SEQ_LENGTH = 1024  # published, on OpenWebText


class ELFSettings(NamedTuple):
    """Training settings that an ELF checkpoint does not contain.

    Args:
        noise_scale: standard deviation of the noise.
        t_eps: smallest 1 - t by which velocities were divided.
        latent_mean: mean subtracted from the encoder states.
        latent_std: standard deviation by which the encoder states were divided.
        guidance_min: smallest self-conditioning guidance scale.
        guidance_max: largest self-conditioning guidance scale.
    """

    noise_scale: float = 2.0
    t_eps: float = 0.05
    latent_mean: float = 0.0
    latent_std: float = 0.2
    guidance_min: float = 0.5
    guidance_max: float = 5.0


def convert_elf(
    checkpoint: str,
    target: Path,
    tokenizer: str,
    encoder: str,
    seq_length: int | None = None,
    settings: ELFSettings = ELFSettings(),
) -> str:
    """Convert a published ELF checkpoint to a run folder; returns a one-line summary.

    Args:
        checkpoint: checkpoint file, folder with files checkpoint_<step>, or Hub repository.
        target: run folder to write.
        tokenizer: Hub name or folder of the tokenizer.
        encoder: Hub name or folder of the T5 encoder.
        seq_length: tokens per text, at least 1; default: the published 1,024.
        settings: noise, latent statistics and guidance range used in training.
    """
    refuse_short(seq_length)
    path, length = find_checkpoint(checkpoint), seq_length or SEQ_LENGTH
    official = ema_tensors(read_checkpoint(path))
    config = infer_config(official)
    for name, tensor in official.items():
        if why := describe_mismatch(tensor, torch.zeros(())):  # not finite, or not floating point
            raise ValueError(f"{path}: {name} {why}; choose another checkpoint, or download this one again")
    space = config.pop("codec")
    dim, vocab = space.dim, space.vocab_size
    lazy_tokenizer = LazyHFTokenizer(tokenizer, vocab)
    parts = elf_parts(encoder, settings, dim, config)
    text = converted_recipe(target, lazy_tokenizer, length, "Generator", parts, TRAINING_TEXT)
    model = load_model(text, vocab)
    try:
        model.net.load_state_dict(map_weights(official))
        model.ema_net.load_state_dict(map_weights(official))
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"{path} does not hold a complete published ELF: {reason}") from error
    note = write_converted(target, text, lazy_tokenizer, model, length, f"ELF, converted from {checkpoint}")
    count = sum(t.numel() for t in official.values())
    return f"{target}: ELF of {count:,} parameters, {config}, latents {dim} wide, {vocab} tokens, from {path}{note}"


def elf_parts(encoder: str, settings: ELFSettings, dim: int, net_args: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the model of a converted ELF."""
    latents = {"mean": settings.latent_mean, "std": settings.latent_std}
    guidance = {"guidance_min": settings.guidance_min, "guidance_max": settings.guidance_max}
    path_args = {"noise_scale": settings.noise_scale, "min_one_minus_t": settings.t_eps}
    return {
        "codec": {"class_path": "T5Codec", "init_args": {"name": encoder, "dim": dim} | latents},
        "net": {"class_path": "ELF", "init_args": net_args},
        "objective": {"class_path": "ELFObjective", "init_args": guidance},
        "path": {"class_path": "LinearPath", "init_args": path_args},
        "self_cond_guidance": 3.0,
        "sampler": {"class_path": "Reinject", "init_args": {"gamma": 1.5}},
    }


def find_checkpoint(source: str) -> Path:
    """The checkpoint file with the most steps, from a file, a folder or a Hub repository."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        return path / latest_checkpoint([p.name for p in path.iterdir()], source)
    from huggingface_hub import hf_hub_download, list_repo_files
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(source, latest_checkpoint(list_repo_files(source), source)))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{source!r} is not a file, a folder or a reachable Hub repository ({reason})") from error


def latest_checkpoint(names: list[str], source: str) -> str:
    """The name checkpoint_<step> with the largest step."""
    steps = {int(m[1]): name for name in names if (m := re.fullmatch(r"(?:.*/)?checkpoint_(\d+)(?:\.\w+)?", name))}
    if not steps:
        raise ValueError(f"{source} holds no file checkpoint_<step>, only {sorted(names)[:8]}; give the file's path")
    return steps[max(steps)]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read the tensors and plain data of a checkpoint; pickled code is rejected."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = re.search(r"Unsupported [^.\n]*(?:\.\w[^.\n]*)*", str(error))
        raise ValueError(
            f"{path} holds more than tensors and plain data, so it is not opened"
            f" ({why[0] if why else ' '.join(str(error).split())[:200]})"
        ) from error
    except OSError:
        raise
    except Exception as error:  # torch raises any type of error on a truncated file
        reason = f"{type(error).__name__} {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{path} is not a checkpoint, or is truncated: {reason}") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}; a checkpoint is a dictionary of tensors")
    return checkpoint


def ema_tensors(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """EMA weights of a published checkpoint, or the tensors of a plain state dict."""
    parts = (checkpoint.get("ema_params1"), checkpoint.get("params"))
    state_dict = next((part for part in parts if isinstance(part, Mapping) and part), checkpoint)
    tensors = {name: value for name, value in state_dict.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"no tensors under ema_params1, params or at the top; the file has {sorted(map(str, checkpoint))[:8]}"
        )
    return tensors


def write_elf(model: Generator, folder: Path, step: int) -> str:
    """Write an ELF as checkpoint_<step>; returns the options by which `textflow convert elf` reads it back."""
    net, codec, path = model.ema_net, model.codec_of(model.ema_net), model.path
    assert isinstance(net, ELF), "the caller has checked it"
    if not isinstance(codec, T5Codec) or not isinstance(path, LinearPath):
        raise ValueError(
            f"its latents are of {type(codec).__name__} along {type(path).__name__}, and the layout, which holds the "
            "network alone, stands for those of a T5 encoder from the Hub (T5Codec) along LinearPath"
        )
    official = official_tensors({name: p.detach() for name, p in own_parameters(net).items()})
    config = infer_config(official)
    space = config.pop("codec")
    with torch.device("meta"):
        plain = ELF(space, **config)
    refuse_unplaced(net, plain, ["head_width"])
    folder.mkdir(parents=True, exist_ok=True)
    content = {"params": official, "ema_params1": official, "step": step}  # of a run, the average is kept alone
    atomic_write(folder / f"checkpoint_{step}", lambda file: torch.save(content, file))
    settings = ELFSettings(path.noise_scale, path.min_one_minus_t, codec.mean, codec.std)._asdict()
    settings |= {name: getattr(model.objective, name, settings[name]) for name in ("guidance_min", "guidance_max")}
    values = {"seq_length": model.text_format.seq_length, "encoder": codec.name} | settings
    return " ".join(f"--{name.replace('_', '-')} {value}" for name, value in values.items())
