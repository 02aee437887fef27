"""Recording of trajectories: RUN/trajectories/*.json hold all that is needed to replay them."""

import inspect
import json
from collections.abc import Iterable, Iterator, Sequence
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

from ..distillation.measure import SAMPLERS
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
    sources. Existing records of the same weights are reused.

    Args:
        run: folder of a fitted model.
        num_samples: number of samples.
        steps: number of sampling steps.
        seed: random seed for sampling.
        device: cpu, cuda or mps.
    """
    if is_complete(run, num_samples, steps, seed):
        return
    held, model = str(weights_hash(run)), load(run, device)
    settings, own, prompts = sampling_methods(model), sampling_parts(model), prompt_rows(run, model, num_samples)
    for method, parts in settings.items():
        for name, part in parts.items():
            setattr(model, name, part)
        facts = {"method": method, "methods": list(settings), "is_recipe_default": sampling_parts(model) == own}
        facts |= {"checkpoint": str(run), "checkpoint_hash": held}
        for index in range(num_samples):
            yield write_trajectory(
                facts | record_sample(model, seed, index, steps, prompts[index]), run / "trajectories"
            )


def prompt_rows(run: Path, model: Any, n: int) -> list[list[int] | None]:
    """First sources of a run on pairs as rows padded with -1, repeated cyclically."""
    if model.max_source_length is None:
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
    usual = {name: {"escape": escape, "sampler": sampler} for name, (escape, sampler) in SAMPLERS.items()}
    own = {"escape": model.escape, "sampler": model.sampler}
    return usual if same_parts(own, usual.values()) else usual | {"own": own}


def same_parts(own: dict[str, Any], others: Iterable[dict[str, Any]]) -> bool:
    """True if the parts equal any of the others in recipe form."""
    spelled = {name: to_recipe(part) for name, part in own.items()}
    return any(spelled == {name: to_recipe(part) for name, part in other.items()} for other in others)


def sampling_parts(model: Any) -> Record:
    """Sampling settings of a model in recipe form."""
    return {name: to_recipe(getattr(model, name)) for name in SAMPLING_PARTS if hasattr(model, name)}


def record_sample(model: Any, seed: int, index: int, steps: int, prompt_ids: list[int] | None = None) -> Record:
    """Record of a sample with its trajectory and protocol.

    Args:
        model: model configured with the sampling method.
        seed: random seed for sampling.
        index: index of the sample.
        steps: number of sampling steps.
        prompt_ids: prompt tokens of the row, -1 at positions without a prompt.
    """
    stream, grid = sample_seeds(seed, index, 1)[0], getattr(model, "sampling_schedule", None)
    return {
        "format": FORMAT,
        "model_class": type(model).__name__,
        "sampling": sampling_parts(model),
        "schedule": None if grid is None else type(grid).__name__,
        "times": None if grid is None else grid.grid(steps),
        "steps": steps,
        "seed": seed,
        "index": index,
        "sample_seed": stream,
        "prompt_ids": prompt_ids,
        **environment(model),
        **trajectory_fields(
            model, trace_sample(model, stream, steps, prompt_ids=prompt_tensor(prompt_ids)), prompt_ids
        ),
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
    row = prompt_tensor(prompt_ids)
    text = (
        model.tokenizer.decode([trajectory.ids])
        if row is None
        else format_pairs(model, torch.tensor([trajectory.ids]), row >= 0)
    )
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
    begun = tokenizer.encode(["a"])[0][-1:]
    bare, marks = len(tokenizer.decode_ids([begun])[0]), {tokenizer.pad: "<pad>", tokenizer.eos: "<eos>"}
    rows = [[*begun, token] for token in ids if token not in marks]
    texts = dict(zip((row[-1] for row in rows), tokenizer.decode_ids(rows), strict=True))
    return {str(token): marks[token] if token in marks else texts[token][bare:] for token in ids}


def write_trajectory(record: Record, folder: Path) -> Path:
    """Write one JSON file, named by method, steps, seed, sample and weights."""
    name = f"{record['method']}-{record['steps']}-seed{record['seed']}-{record['index']}"
    path = folder / f"{name}-{record['checkpoint_hash'][:8]}.json".replace(" ", "-")
    text = json.dumps(record, allow_nan=False, ensure_ascii=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, text)
    return path
