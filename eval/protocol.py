"""From folders to records: the run that is judged, its judge, and real text to read the numbers by."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from textflow.causal import scorer
from textflow.recipe import data_of, sampling
from textflow.types import Batch

from .run import Record, evaluate, references, write


def judged(
    run: Path,
    steps: Sequence[int],
    n: int = 256,
    judge: str = "gpt2-large",
    seed: int = 0,
    batch_size: int = 64,
    dtype: str = "float32",
    device: str = "cpu",
    way: Callable[[Any], None] = lambda generator: None,
    overlays: Sequence[str] = (),
) -> Iterator[Record]:
    """Records of real text, shuffled real text and each number of steps; each is written to RUN/eval when it is there.

    Args:
        run: folder of a fitted generator.
        steps: numbers of sampling steps.
        n: samples of each record.
        judge: Hub name or folder of a causal language model.
        seed: of the samples and of the shuffle.
        batch_size: samples at once.
        dtype: of the judge.
        device: cpu or cuda.
        way: changes how the loaded generator samples.
        overlays: recipes that change how the run samples.
    """
    from textflow.checkpoint import load

    common = facts(run, overlays) | {"apart": apart(recipe(run), recipe(Path(judge)))}
    words = scorer(judge, dtype=dtype, device=device)
    generator = load(run, device, overlays)
    way(generator)
    real = references(validation_texts(recipe(run)["data"], n), words, seed, common)
    for record in chain(real, evaluate(generator, words, steps, n, seed, (None,), batch_size, common)):
        write(record, run / "eval")
        yield record


def recipe(run: Path) -> dict[str, Any]:
    """The resolved recipe of a run; empty for what is no run folder. RUN/hf is part of RUN."""
    path = (run.parent if run.name == "hf" else run) / "recipe.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def facts(run: Path, overlays: Sequence[str] = ()) -> Record:
    """What a record says of the run: folder, hash of its weights, recipe with its overlays, length, tokenizer."""
    said = recipe(run)
    if not said:
        raise ValueError(
            f"no recipe.yaml in {run}; eval needs the folder of a fitted run, such as checkpoints/quickstart"
        )
    if not (run / "model.safetensors").is_file():
        raise ValueError(f"no model.safetensors in {run}: it has not saved yet; go on with textflow fit")
    data = said.get("data", {})
    return {
        "checkpoint": str(run),
        "checkpoint_hash": hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()[:16],
        "recipe": yaml.safe_load(sampling(run / "recipe.yaml", overlays)) if overlays else said,
        "overlays": list(overlays),
        "length": data.get("length", 128),
        "tokenizer": data.get("tokenizer"),
    }


def apart(run: dict[str, Any], judge: dict[str, Any]) -> bool | None:
    """Whether the judge was trained on documents that the generator never saw; None where its recipe is unknown."""
    if not judge:
        return None
    mine, other = run.get("data", {}), judge.get("data", {})
    split = ("source", "files", "validation", "held_apart")
    return other.get("part") == "held_apart" and all(mine.get(key) == other.get(key) for key in split)


def held_out(data: dict[str, Any], rows: int) -> Batch:
    """The first rows of a recipe's validation part.

    Args:
        data: the part `data` of a recipe.
        rows: at most.
    """
    text = data_of(data)
    text.prepare_data()
    text.setup("validate")
    batch: Batch = text.first(rows, held_out=True)
    return batch


def validation_texts(data: dict[str, Any], n: int) -> list[str]:
    """Up to n validation rows as text, cut at the first EOS as samples are.

    Args:
        data: the part `data` of a recipe.
        n: most rows.
    """
    module = data_of(data)
    module.prepare_data()
    module.setup("validate")
    texts: list[str] = []
    for packed in module.val_dataloader():
        texts += module.tokenizer.decode(module.on_after_batch_transfer(packed, 0).ids.tolist())
        if len(texts) >= n:
            break
    if not texts:
        raise ValueError("no validation text to compare with; the run's recipe needs data.validation above 0")
    return texts[:n]
