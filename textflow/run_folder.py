"""Run folders: EMA weights, recipe, tokenizer, model card and training state; load a trained model from one."""

import hashlib
import json
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
import yaml

from textflow.config.model import build_model
from textflow.config.overlays import SAMPLING_KEYS, with_sampling_overlays
from textflow.config.shipped import find_run, shipped_runs
from textflow.config.strict_yaml import read_mapping, read_yaml_text
from textflow.data import Tokenizer
from textflow.models.base import Trainable
from textflow.models.fitted_schedules import fit_schedules
from textflow.models.generator import Generator
from textflow.models.text_format import TextFormat
from textflow.runtime.atomic import atomic_write_text, sha256
from textflow.samplers import ACE
from textflow.schedules import TimeSchedule
from textflow.training.weights import read_weights, write_weights

MODEL_CARD = """\
---
library_name: textflow
license: apache-2.0
---
# {name}

{title}

{parameters:,} parameters in `{net}`, latents {dim} wide by `{codec}`, {vocab:,} tokens, {length} a text.

```python
import textflow

generator = textflow.load("{name}")
print(generator.generate(num_samples=4, num_steps=32, seed=0))
```

`recipe.yaml` is the whole recipe, `metrics.csv` every logged number, `model.safetensors` the averaged weights.
"""


def load(run: str | Path, device: str | torch.device = "cpu", overlays: Sequence[str] = ()) -> Trainable:
    """Load the trained model of a run, in eval mode, with its tokenizer. A recipe can import only textflow, torch's
    optimizers and Lightning, unless the environment trusts a package by name: TEXTFLOW_TRUST=package.

    Args:
        run: run folder; hf:OWNER/NAME or hf:OWNER/NAME@REVISION for a run on the Hugging Face Hub; or the name of one
            that ships with textflow, such as demo.
        device: torch device of the model.
        overlays: paths of sampling overlays, such as recipes/escape/commit.yaml.
    """
    folder = find_run(run)
    for name in ("recipe.yaml", "model.safetensors"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder} holds no trained run: {name} is missing; {way_out(folder)}")
    tokenizer, file = Tokenizer.load(folder / "tokenizer"), folder / "recipe.yaml"
    saved = read_yaml_text(file)
    text = with_sampling_overlays(file, overlays) if overlays else saved
    tree = read_mapping(text, str(file))
    model, data = build_model(tree, tokenizer.vocab_size, str(file)), tree.get("data")
    model.text_format = text_format(tokenizer, data, str(file))
    tensors = read_weights_file(folder)
    if overlays and recipe_schedule(text) != recipe_schedule(saved):
        tensors = replace_schedule_buffers(model, tensors)
    model.load_weights(tensors)
    model.eval().to(device)
    if isinstance(model, Generator) and (schedules := model.unfitted_schedules()):
        fit_or_load_schedules(model, schedules, folder, data)
    if isinstance(model, Generator) and isinstance(model.sampler, ACE):
        fit_or_load_direction(model, model.sampler, folder, text)
    return model


def way_out(run: Path) -> str:
    """How to get a trained run in place of one that is missing: the nearest name of those that ship, or a fit."""
    near = get_close_matches(run.name, shipped_runs(), 1, 0.6)
    return f"did you mean {near[0]}?" if near else "make one with `textflow fit RECIPE`"


def text_format(tokenizer: Tokenizer, data: Any, origin: str) -> TextFormat:
    """The text format of a run.

    Args:
        tokenizer: tokenizer of the run.
        data: section `data` of its resolved recipe.
        origin: file of the recipe, for error messages.
    """
    data = data if isinstance(data, dict) else {}
    length, source = data.get("seq_length"), data.get("max_source_length")
    for name, value in (("seq_length", length), ("max_source_length", source)):
        if not (isinstance(value, int) and value >= 1 or (value is None and name == "max_source_length")):
            raise ValueError(f"data.{name} is {value} in {origin}; a text needs at least 1 token")
    return TextFormat(tokenizer, length, source, data.get("pack", True))


def recipe_schedule(recipe_yaml: str) -> Any:
    """The sampling schedule of a resolved recipe, or None."""
    tree = yaml.safe_load(recipe_yaml)
    return tree["model"]["init_args"].get("sampling_schedule") if isinstance(tree, dict) else None


def replace_schedule_buffers(model: Trainable, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a run with the buffers of the model's own sampling schedule, which may not be fitted yet."""
    own = {name: buffer for name, buffer in model.state_dict().items() if name.startswith("own_sampling_schedule.")}
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("own_sampling_schedule.")} | own


def fit_or_load_schedules(model: Generator, schedules: list[TimeSchedule], folder: Path, data: Any) -> None:
    """Load data-dependent schedules from RUN/schedules, or fit them on held-out text of a recipe's `data` section."""
    name = "-".join(schedule.cache_key for schedule in schedules)
    weights = sha256(folder / "model.safetensors")[:16]
    cache = folder / "schedules" / f"{name}-{weights}.safetensors"
    if not cache.is_file():
        from textflow.config.recipe import open_data

        batch = open_data(data).first_rows(64, held_out=True)
        fit_schedules(model, batch.map(lambda part: part.to(model.device)), schedules)
        cache.parent.mkdir(parents=True, exist_ok=True)
        named = ((f"{i}.{name}", b) for i, schedule in enumerate(schedules) for name, b in schedule.named_buffers())
        write_weights(cache, {name: buffer.cpu() for name, buffer in named}, {})
    for name, value in read_tensors(cache, "remove it, and the schedules are fitted again").items():
        index, buffer = name.split(".", 1)
        dict(schedules[int(index)].named_buffers())[buffer].copy_(value)


def fit_or_load_direction(model: Generator, ace: ACE, folder: Path, recipe_yaml: str) -> None:
    """Load the direction of a run's ACE from RUN/schedules, or estimate it from samples by the resolved recipe."""
    parts = yaml.safe_load(recipe_yaml)["model"]["init_args"]
    parts["sampler"]["init_args"].pop("scale")  # the direction holds for every scale
    settings = json.dumps({name: parts.get(name) for name in SAMPLING_KEYS}, sort_keys=True)
    weights = sha256(folder / "model.safetensors")[:16]
    cache = folder / "schedules" / f"ACE-{hashlib.sha256(settings.encode()).hexdigest()[:16]}-{weights}.safetensors"
    if not cache.is_file():
        from textflow.models.repetition import fit_ace

        found = fit_ace(model).direction
        cache.parent.mkdir(parents=True, exist_ok=True)
        write_weights(cache, {"direction": found}, {})
    ace.direction = read_tensors(cache, "remove it, and the direction is estimated again")["direction"]


def read_tensors(path: Path, remedy: str) -> dict[str, torch.Tensor]:
    """Read tensors by name; the error for a damaged file names the remedy."""
    try:
        return read_weights(path)[0]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from error


def read_weights_file(folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a run's model.safetensors."""
    path = folder / "model.safetensors"
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no trained weights: {path.name} is missing; make them with `textflow fit RECIPE`"
        )
    remedy = "copy it again, or rewrite it from the training state with the same `textflow fit` command"
    return read_tensors(path, remedy)


def write_run(folder: Path, recipe_yaml: str, tokenizer: Tokenizer, model: Trainable, title: str) -> None:
    """Write the files of a run other than its weights: recipe, tokenizer and a model card with a one-line title."""
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / "recipe.yaml", recipe_yaml)
    tokenizer.save(folder / "tokenizer")
    codec = getattr(model, "codec", model.net)
    card = MODEL_CARD.format(
        name=folder.name,
        title=title,
        parameters=sum(p.numel() for p in model.net.parameters()),
        net=type(model.net).__name__,
        codec=type(codec).__name__,
        dim=getattr(codec, "dim", "-"),
        vocab=tokenizer.vocab_size,
        length=model.text_format.seq_length,
    )
    atomic_write_text(folder / "README.md", card)
