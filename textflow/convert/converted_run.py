"""The run folder of a converted checkpoint: its recipe, its tokenizer and its weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from textflow import run_folder
from textflow.config import recipe
from textflow.config.schema import recipe_parser
from textflow.data import LazyHFTokenizer
from textflow.models.base import Trainable
from textflow.models.text_format import TextFormat
from textflow.training.weights import write_weights


def converted_recipe(
    target: Path,
    tokenizer: LazyHFTokenizer,
    seq_length: int,
    model: str,
    parts: Mapping[str, Any],
    source: Mapping[str, str],
) -> str:
    """The resolved recipe of a converted run.

    Args:
        target: run folder.
        tokenizer: tokenizer of the checkpoint.
        seq_length: tokens per text.
        model: class of the model.
        parts: arguments of the model by name.
        source: name and revision of the training text on the Hub.
    """
    tokenizer_args = {"name": tokenizer.name, "vocab_size": tokenizer.vocab_size, **tokenizer.options}
    tree = {
        "run": {"folder": str(target)},
        "data": {
            "source": {"class_path": "HubDataset", "init_args": dict(source)},
            "tokenizer": {"class_path": "LazyHFTokenizer", "init_args": tokenizer_args},
            "seq_length": seq_length,
        },
        "model": {"class_path": model, "init_args": dict(parts)},
        "trainer": {"max_steps": 1},
    }
    return recipe.dump(recipe_parser().parse_object(tree))


def write_converted(
    target: Path, text: str, tokenizer: LazyHFTokenizer, model: Trainable, seq_length: int, title: str
) -> str:
    """Write the run folder; return a note if the tokenizer is not in it yet, for the summary.

    Args:
        target: run folder.
        text: resolved recipe.
        tokenizer: tokenizer of the checkpoint, fetched if it is available.
        model: model with the weights.
        seq_length: tokens per text.
        title: what was converted, for the card.
    """
    note = fetch_tokenizer(tokenizer)
    model.text_format = TextFormat(tokenizer, seq_length)
    run_folder.write_run(target, text, tokenizer, model, title)
    write_weights(target / "model.safetensors", model.weights(), {})
    return note


def fetch_tokenizer(tokenizer: LazyHFTokenizer) -> str:
    """Fetch the tokenizer if it is available; otherwise return a note for the summary."""
    try:
        tokenizer.encode([""])
    except ValueError as error:
        return f"\nIts tokenizer is not in the folder yet, since {error}; it is fetched when text is first needed"
    return ""
