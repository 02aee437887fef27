"""Write a run as a folder that readers of safetensors and, for a causal language model, transformers can read."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from textflow import run_folder
from textflow.data import HFTokenizer, LazyHFTokenizer, Tokenizer
from textflow.models.base import Trainable
from textflow.models.causal_lm import CausalLM
from textflow.runtime.atomic import atomic_write_text
from textflow.runtime.visible import visible_files
from textflow.training.weights import write_weights

CARD = """\
---
library_name: {library}
{license}
pipeline_tag: text-generation
---
# {name}

{model} of {parameters:,} parameters, {vocab:,} tokens, {length} a text; trained with textflow.

{note}```python
{usage}
```

## Metrics

{metrics}

## Recipe

```yaml
{recipe}```
"""
TRANSFORMERS_USAGE = """\
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("{name}")"""
WEIGHTS_USAGE = """\
from safetensors.torch import load_file

weights = load_file("{name}/model.safetensors")  # the averaged weights by name
"""
TEXTFLOW_USAGE = """\
import textflow

generator = textflow.load("{name}")"""
NO_LICENSE = "license: other\nlicense_name: name-your-licence"
PLACEHOLDER = "The licence above is a placeholder: name that of your weights before you publish them.\n\n"
SCORES = ("perplexity", "entropy", "mauve")


def export_run(run: Path, folder: Path, half: bool = False, license: str | None = None) -> str:
    """Write model.safetensors, config.json, tokenizer files and README.md of a run; returns a one-line summary.

    Args:
        run: run folder.
        folder: folder to write; textflow.load reads it, too, unless transformers does.
        half: whether the weights are written in float16.
        license: licence of the weights, such as apache-2.0; None writes a placeholder.
    """
    model = run_folder.load(run)
    if half:
        model.half()
    folder.mkdir(parents=True, exist_ok=True)
    recipe = (run / "recipe.yaml").read_text(encoding="utf-8")
    if isinstance(model, CausalLM):
        model.save_pretrained(folder, model.tokenizer)
    else:
        config = config_of(model, yaml.safe_load(recipe)["model"])
        atomic_write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
        atomic_write_text(folder / "recipe.yaml", recipe)
        model.tokenizer.save(folder / "tokenizer")
        write_weights(folder / "model.safetensors", {n: t.contiguous() for n, t in model.weights().items()}, {})
    save_hf_tokenizer(model.tokenizer, folder)
    if (run / "schedules").is_dir():  # fitted to the weights
        shutil.copytree(run / "schedules", folder / "schedules", dirs_exist_ok=True)
    atomic_write_text(folder / "README.md", card(run, model, folder.name, recipe, license))
    reader = "transformers and safetensors" if isinstance(model, CausalLM) else "safetensors and textflow"
    return f"{folder}: {type(model).__name__} of {count_parameters(model):,} parameters, for {reader}"


def config_of(model: Trainable, section: dict[str, Any]) -> dict[str, Any]:
    """config.json of a model that transformers does not know.

    Args:
        model: model of the run.
        section: `model` section of its resolved recipe.
    """
    return {
        "model_type": "textflow",
        "architectures": [type(model).__name__],
        "vocab_size": model.tokenizer.vocab_size,
        "max_position_embeddings": model.text_format.seq_length,
        "model": section,
    }


def save_hf_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write a tokenizer of the transformers library beside the weights, where AutoTokenizer looks for it, if it is one
    and its files are at hand."""
    if isinstance(tokenizer, HFTokenizer) or (isinstance(tokenizer, LazyHFTokenizer) and "inner" in vars(tokenizer)):
        tokenizer.write(folder)


def card(run: Path, model: Trainable, name: str, recipe: str, license: str | None, for_textflow: bool = False) -> str:
    """The model card: licence or a placeholder of one, size, use, metrics and recipe.

    Args:
        run: run folder.
        model: its model.
        name: name that loads it.
        recipe: its resolved recipe.
        license: licence of the weights; None writes a placeholder.
        for_textflow: whether textflow loads it, and transformers does not.
    """
    is_causal = isinstance(model, CausalLM) and not for_textflow
    usage = TRANSFORMERS_USAGE if is_causal else TEXTFLOW_USAGE if for_textflow else WEIGHTS_USAGE + TEXTFLOW_USAGE
    return CARD.format(
        name=name,
        license=f"license: {license}" if license else NO_LICENSE,
        note="" if license else PLACEHOLDER,
        library="transformers" if is_causal else "textflow",
        model=type(model).__name__,
        parameters=count_parameters(model),
        vocab=model.tokenizer.vocab_size,
        length=model.text_format.seq_length,
        usage=usage.format(name=name),
        metrics="\n".join([*logged_metrics(run), *scored_metrics(run)]) or "Nothing was measured.",
        recipe=recipe,
    )


def count_parameters(model: Trainable) -> int:
    """Number of parameters of the net."""
    return sum(p.numel() for p in model.net.parameters())


def logged_metrics(run: Path) -> list[str]:
    """The last value of each validation measure in metrics.csv, a line of Markdown each."""
    path, last = run / "metrics.csv", dict[str, str]()
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if len(row) == 3 and row[1].startswith("val/")]
        last = {name: f"- {name}: {value} at step {step}" for step, name, value in rows}
    return sorted(last.values())


def scored_metrics(run: Path) -> list[str]:
    """The scores of generated text in RUN/eval with their protocol, a line of Markdown a record."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in visible_files(run / "eval", "*.json")]
    return [line for record in records if record.get("text") == "generated" for line in record_lines(record)]


def record_lines(record: dict[str, Any]) -> list[str]:
    """A record of evaluation as a line of Markdown, if it has scores."""
    scores = [f"{key} {record[key]:.4g}" for key in SCORES if isinstance(record.get(key), int | float)]
    sampler = (record.get("sampler") or {}).get("class", "the recipe's sampler")
    how = f"{record.get('steps')} steps, {sampler}, n = {record.get('n')}, protocol {record.get('protocol')}"
    return [f"- {', '.join(scores)} ({how})"] if scores else []
