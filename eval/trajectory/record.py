"""Recording of trajectories: RUN/trajectories/*.json hold all that is needed to replay them."""

import inspect
import json
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from textflow.config.recipe import open_data
from textflow.models.generator import Generator
from textflow.models.infilling import format_pairs
from textflow.noise import sample_seeds
from textflow.run_folder import load
from textflow.runtime.atomic import atomic_write_text
from textflow.types import Ids

from ..distillation.measure import standard_samplers
from ..protocol import run_recipe
from ..report.trajectory_files import FORMAT, is_complete, weights_hash
from .trace import Trajectory, trace_sample

Record = dict[str, Any]
# Sampling settings, spelled as in a recipe.
SAMPLING_PARTS = ("sampler", "escape", "token_readout", "readout", "self_cond_guidance", "cfg_scale", "early_exit")
ENVIRONMENT_KEYS = ("device", "dtype", "threads", "torch", "textflow")  # may change rounding


def to_recipe(part: Any) -> Any:
    """Part in recipe form {class_path, init_args}; numbers and strings unchanged."""
    if part is None or isinstance(part, bool | int | float | str):
        return part
    if isinstance(part, list | tuple):
        return [to_recipe(each) for each in part]
    kind = type(part)
    named = {name: getattr(part, name) for name in inspect.signature(kind).parameters if hasattr(part, name)}
    arguments = {name: to_recipe(value) for name, value in named.items()}
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": arguments}


def record_run(run: Path, num_samples: int, steps: int, seed: int = 0, device: Any = "cpu") -> Iterator[Path]:
    """Record n samples of a run with the ODE, re-injection, mode commit and the run's own sampler, from the same
    noise; a masked or autoregressive run only with its own sampler. A run on pairs answers its first held-out
    sources. Existing records of the same weights are reused."""
    if is_complete(run, num_samples, steps, seed):
        return
    model = load(run, device)
    checkpoint_hash = str(weights_hash(run))
    settings, own, prompts = sampling_methods(model), sampling_parts(model), prompt_rows(run, model, num_samples)
    for method, parts in settings.items():
        for name, part in parts.items():
            setattr(model, name, part)
        facts = {"method": method, "methods": list(settings), "is_recipe_default": sampling_parts(model) == own}
        facts |= {"checkpoint": str(run), "checkpoint_hash": checkpoint_hash}
        for index in range(num_samples):
            record = facts | record_sample(model, seed, index, steps, prompts[index])
            yield write_trajectory(record, run / "trajectories")


def prompt_rows(run: Path, model: Any, n: int) -> list[list[int] | None]:
    """First sources of a run on pairs as rows padded with -1, repeated cyclically."""
    if model.text_format.max_source_length is None:
        return [None] * n
    data = open_data(run_recipe(run)["data"])
    batch = data.first_rows(n, held_out=bool(len(data.validation_rows)))
    assert batch.prompt_mask is not None, "pairs have sources"
    rows = batch.ids.masked_fill(~batch.prompt_mask, -1).tolist()
    return [rows[i % len(rows)] for i in range(n)]


def sampling_methods(model: Any) -> dict[str, dict[str, Any]]:
    """Sampling methods with the model attributes to set; the model's own comes last if it differs from the others."""
    if not isinstance(model, Generator):
        return {"own": {}}
    samplers, own = standard_samplers(model), (model.escape, model.sampler)
    standard = {name: {"escape": escape, "sampler": sampler} for name, (escape, sampler) in samplers.items()}
    if [to_recipe(part) for part in own] in [[to_recipe(part) for part in parts] for parts in samplers.values()]:
        return standard
    return standard | {"own": dict(zip(("escape", "sampler"), own, strict=True))}


def sampling_parts(model: Any) -> Record:
    """Sampling settings of a model in recipe form."""
    return {name: to_recipe(getattr(model, name)) for name in SAMPLING_PARTS if hasattr(model, name)}


def record_sample(model: Any, seed: int, index: int, steps: int, prompt_ids: list[int] | None = None) -> Record:
    """Record of a sample with its trajectory and protocol."""
    sample_seed, grid = sample_seeds(seed, index, 1)[0], getattr(model, "sampling_schedule", None)
    trajectory = trace_sample(model, sample_seed, steps, prompt_ids=prompt_tensor(prompt_ids))
    ends = (model.path.t_min, model.path.t_max) if isinstance(model, Generator) else (0.0, 1.0)
    return {
        "format": FORMAT,
        "model_class": type(model).__name__,
        "sampling": sampling_parts(model),
        "schedule": None if grid is None else type(grid).__name__,
        "times": None if grid is None else grid.grid(steps, None, *ends),
        "steps": steps,
        "seed": seed,
        "index": index,
        "sample_seed": sample_seed,
        "prompt_ids": prompt_ids,
        **environment(model),
        **trajectory_fields(model, trajectory, prompt_ids),
    }


def environment(model: Any) -> Record:
    """Environment settings that may change rounding."""
    kind = str(next(model.parameters()).dtype).removeprefix("torch.")
    values = (str(model.device), kind, torch.get_num_threads(), torch.__version__, version("textflow"))
    return dict(zip(ENVIRONMENT_KEYS, values, strict=True))


def prompt_tensor(prompt_ids: list[int] | None) -> Ids | None:
    """Prompt tokens as a batch of one."""
    return None if prompt_ids is None else torch.tensor([prompt_ids])


def trajectory_fields(model: Any, trajectory: Trajectory, prompt_ids: list[int] | None) -> Record:
    """Text, tokens, calls and token texts; for pairs the text is source and answer."""
    if (prompt := prompt_tensor(prompt_ids)) is None:
        text = model.tokenizer.decode([trajectory.ids])
    else:
        text = format_pairs(model, torch.tensor([trajectory.ids]), prompt >= 0)
    token_set = sorted({token for call in trajectory.calls for token in (*call.ids, *call.committed) if token >= 0})
    return {
        "text": text[0],
        "ids": trajectory.ids,
        "length": len(trajectory.ids),
        "cci": trajectory.cci,
        "calls": [call._asdict() for call in trajectory.calls],
        "token_texts": token_texts(model.tokenizer, token_set),
    }


def token_texts(tokenizer: Any, ids: Sequence[int]) -> dict[str, str]:
    """Text that each token adds within a sentence; EOS and padding tokens are labelled."""
    start = tokenizer.encode(["a"])[0][-1:]
    length, marks = len(tokenizer.decode_ids([start])[0]), {tokenizer.pad: "<pad>", tokenizer.eos: "<eos>"}
    plain = [token for token in ids if token not in marks]
    texts = dict(zip(plain, tokenizer.decode_ids([[*start, token] for token in plain]), strict=True))
    return {str(token): marks[token] if token in marks else texts[token][length:] for token in ids}


def write_trajectory(record: Record, folder: Path) -> Path:
    """Write one JSON file, named by method, steps, seed, sample and weights."""
    name = f"{record['method']}-{record['steps']}-seed{record['seed']}-{record['index']}"
    path = folder / f"{name}-{record['checkpoint_hash'][:8]}.json".replace(" ", "-")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n")
    return path
