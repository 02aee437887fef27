"""Other repositories' checkpoints -> runs."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from textflow import run_folder
from textflow.config import recipe
from textflow.convert.elf_layout import elf_config, elf_weights
from textflow.data import Hosted
from textflow.training.values import fault
from textflow.training.weights import write_weights


def elf(source: str, target: Path, tokenizer: str, encoder: str, length: int) -> str:
    """A published ELF as a run; returns what was found, in a line.

    Args:
        source: file, folder with files checkpoint_<step>, or Hub name.
        target: folder of the run.
        tokenizer: Hub name or folder.
        encoder: Hub name or folder.
        length: tokens a text.
    """
    if length < 1:
        raise ValueError(f"length is {length}; a text needs at least 1 token, such as --length 1024")
    path = locate(source)
    official = averaged(read(path))
    config = elf_config(official)
    refuse_faults(official, path)
    dim, vocab = config.pop("dim"), config.pop("vocab")
    words = Hosted(tokenizer, vocab)
    note = fetched(words)
    tree = {
        "run": {"folder": str(target)},
        "data": {
            "source": {"class_path": "Hub", "init_args": {"name": "embedded-language-flows/openwebtext-t5"}},
            "tokenizer": {"class_path": "Hosted", "init_args": {"name": tokenizer, "vocab": vocab}},
            "length": length,
        },
        "model": {
            "class_path": "Generator",
            "init_args": {
                "codec": {"class_path": "T5", "init_args": {"name": encoder, "dim": dim}},
                "net": {"class_path": "ELF", "init_args": config},
                "objective": {"class_path": "ELFObjective"},
                "guidance": 3.0,
                "sampler": {"class_path": "Reinject", "init_args": {"gamma": 1.5}},
            },
        },
        "trainer": {"max_steps": 1},
    }
    text = recipe.write(recipe.parser().parse_object(tree))
    model, _ = recipe.load_model(text, vocab)
    model.length = length
    try:
        model.net.load_state_dict(elf_weights(official))
        model.twin.load_state_dict(elf_weights(official))
    except RuntimeError as error:
        raise ValueError(f"{path} does not hold a published ELF whole: {' '.join(str(error).split())[:400]}") from error
    run_folder.start(target, text, words, model, f"ELF, converted from {source}")
    write_weights(target / "model.safetensors", model.weights(), {})
    count = sum(t.numel() for t in official.values())
    return f"{target}: ELF of {count:,} parameters, {config}, latents {dim} wide, {vocab} tokens, from {path}{note}"


def refuse_faults(official: Mapping[str, Tensor], path: Path) -> None:
    """Weights that are not finite, or no floating point, are an error that names the first.

    Args:
        official: tensors by the names of the file.
        path: of the file.
    """
    for name, tensor in official.items():
        if why := fault(tensor, torch.zeros(())):
            raise ValueError(f"{path}: {name} {why}; name another checkpoint, or download this one anew")


def fetched(words: Hosted) -> str:
    """Fetch the tokenizer now if it can be had; otherwise what to say about it."""
    try:
        words.encode([""])
    except ValueError as error:
        return f"\nIts tokenizer is not in the folder yet, since {error}; it is fetched when text is first needed"
    return ""


def locate(source: str) -> Path:
    """The checkpoint file of a file name, a folder or a Hub name: the one with the most steps."""
    path = Path(source)
    if path.is_file():
        return path
    if path.is_dir():
        names = [p.name for p in path.iterdir()]
        return path / newest(names, source)
    from huggingface_hub import hf_hub_download, list_repo_files
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        return Path(hf_hub_download(source, newest(list_repo_files(source), source)))
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{source!r} is no file, no folder and no reachable Hub repository ({reason})") from error


def newest(names: list[str], source: str) -> str:
    """The file checkpoint_<step> of the largest step among names."""
    steps = {int(m[1]): name for name in names if (m := re.fullmatch(r"(?:.*/)?checkpoint_(\d+)(?:\.\w+)?", name))}
    if not steps:
        raise ValueError(f"{source} holds no file checkpoint_<step>, only {sorted(names)[:8]}; name the file itself")
    return steps[max(steps)]


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's contents, tensors and plain data only: code inside is refused."""
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        why = re.search(r"Unsupported [^.\n]*(?:\.\w[^.\n]*)*", str(error))
        raise ValueError(
            f"{path} holds more than tensors and plain data, so it is not opened"
            f" ({why[0] if why else ' '.join(str(error).split())[:200]})"
        ) from error
    except OSError:
        raise
    except Exception as error:  # of any kind: what torch makes of torn bytes
        said = f"{type(error).__name__} {' '.join(str(error).split())[:200]}"
        raise ValueError(f"{path} is no checkpoint, or a torn one: {said}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}; a checkpoint is a dictionary of tensors")
    return found


def averaged(file: Mapping[str, Any]) -> dict[str, Tensor]:
    """The averaged weights of an official checkpoint, or the tensors of a plain state dict."""
    places = (part for part in (file.get("ema_params1"), file.get("params")) if isinstance(part, Mapping) and part)
    found = next(places, file)
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors:
        raise ValueError(
            f"no tensors under ema_params1, params or at the top; the file has {sorted(map(str, file))[:8]}"
        )
    return tensors
