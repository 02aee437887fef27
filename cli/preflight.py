"""What `textflow check` does, step by step; a step returns its line or raises the error."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from torch._subclasses.fake_tensor import FakeTensorMode

from textflow import run_folder
from textflow.config import recipe as recipes
from textflow.data import DataModule
from textflow.data.module import too_few
from textflow.data.preview import begin
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator

from .checks import clocks, excerpt, forward, refuse_under, round_trip, standing, step
from .estimate import (
    Engine,
    count,
    free_memory,
    largest_block,
    places,
    readable,
    size,
    tokens_a_step,
    with_frozen,
)
from .options import best_device

ROWS, LENGTH = 4, 64  # of the batch of the real step, at most


@dataclass
class Look:
    """What the steps find out, each for those after it."""

    words: list[str]
    folder: Path
    config: Any = None
    data: Any = None
    vocab: int = 0
    model: Any = None
    batch: Any = None
    sizes: dict[str, int] = field(default_factory=dict)  # bytes, by what they hold
    block: int = 0  # bytes that are gathered at a time where parameters are in shards


def recipe(look: Look) -> str:
    """It parses, as does the recipe of its codec; its data and tokenizer can be made."""
    look.config = config = recipes.read(look.words)
    if is_recipe(config.codec):
        recipes.codec_of(config, look.folder / "codec")
    elif config.codec:
        run_folder.weights(Path(config.codec))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DataModule, "data", skip={"seed"})
    look.data = parser.instantiate(Namespace({"data": config.data})).data  # type: ignore[no-untyped-call]
    look.vocab = look.data.vocab
    return f"{look.words[0]} parses" + (f", its codec is {config.codec}" if config.codec else "")


def is_recipe(codec: str | None) -> bool:
    """Whether a codec is given as a recipe rather than as a run."""
    return bool(codec) and str(codec).endswith((".yaml", ".yml"))


def engine(look: Look) -> Engine:
    """Of the recipe's trainer."""
    trainer = look.config.trainer
    return Engine.of(trainer.strategy, places(trainer.devices) * trainer.num_nodes)


def text(look: Look) -> str:
    """The first documents can be read, and become rows."""
    data, trainer = look.data, look.config.trainer
    name = type(data.source).__name__
    data.cache, data.processes = look.folder, 1
    whole = begin(data)
    needed = data.batch_size * places(trainer.devices) * trainer.num_nodes
    if whole and len(data.rows) < needed:
        raise ValueError(too_few(len(data.rows), needed, data.part, data.shape.length))
    look.batch = data.first(ROWS)
    documents, tokens = sum(data.report.documents.values()), sum(data.report.tokens.values())
    return f"{'all' if whole else 'the first'} {documents:,} documents of {name}, {tokens:,} tokens"


def tokenizer(look: Look) -> str:
    """Documents -> ids -> the same documents, or where they differ."""
    made = look.data.tokenizer
    texts = [document.text[:2000] for document in islice(look.data.source.documents(), 100)]
    texts = [text for text in texts if text.strip()]
    ids = made.encode(texts)
    if (largest := max(max(row, default=0) for row in ids)) >= look.vocab:
        raise ValueError(f"the tokenizer gives id {largest}, the model has {look.vocab} tokens: name the model's own")
    stand_in = f" (here {made.vocab:,}, since little text was read)" if made.vocab != look.vocab else ""
    rate = sum(map(len, texts)) / max(sum(map(len, ids)), 1)
    said = f"{type(made).__name__} of {look.vocab:,} ids{stand_in}, {rate:.1f} characters a token"
    return f"{said}; {round_trip(texts, made.decode(ids))}"


def shapes(look: Look) -> str:
    """The net takes rows of the recipe's length; nothing is computed or held, only counted."""
    with torch.device("meta"):
        model = recipes.load_model(recipes.write(look.config), look.vocab)[0]
    refuse_under(engine(look), model, str(look.config.trainer.precision))
    look.sizes, parameters, look.block = standing(model), count(model.net), largest_block(model.net)
    with FakeTensorMode(allow_non_fake_inputs=True):  # a CPU's kernels, without their work
        said = forward(model.to_empty(device="cpu"), 2, look.config.data.length)
    codec = getattr(model, "codec", None)
    apart = f", {type(codec).__name__} {count(codec):,}" if codec is not None and count(codec) else ""
    return f"{said}; parameters: {type(model.net).__name__} {parameters:,}{apart}"


def codec(look: Look) -> str:
    """The codec encodes real ids; an untrained one will do where the recipe trains it first."""
    config, needed, free = look.config, 4 * look.sizes["weights"], free_memory()
    device = best_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
    if device.type == "cpu" and needed > free:
        return f"not tried, nor a step: that takes {readable(needed)} of memory, {readable(free)} are free here"
    torch.manual_seed(config.seed)
    look.model = model = recipes.load_model(recipes.write(config), look.vocab)[0].to(device)
    look.batch = excerpt(look.batch, LENGTH).each(lambda part: part.to(device))
    if not isinstance(model, Generator):
        return "is the net itself" if isinstance(model, Autoencoder) else "none"
    if config.codec and not is_recipe(config.codec):
        model.take_codec(run_folder.weights(Path(config.codec)))
    note = clocks(model, config, look.batch)
    with torch.no_grad():
        x = model.codec.encode(look.batch.ids, look.batch.mask)
    if x.shape[-1] != model.codec.dim or not bool(x.isfinite().all()):
        raise ValueError(f"the codec gives latents {list(x.shape)}; finite ones of width {model.codec.dim} are needed")
    look.sizes["codec"] = sum(size(m.parameters()) for m in with_frozen(model.codec))
    return f"{type(model.codec).__name__} gives latents {list(x.shape)} of std {float(x.std()):.2f}{note}"


def one_step(look: Look) -> str:
    """Loss, gradients and update of a few short rows."""
    if look.model is None:
        return "not run for lack of memory here"
    data, start = look.data, time.perf_counter()
    done, (rows, length) = step(look.model, look.batch), look.batch.ids.shape
    look.sizes["activations"] = done.kept * data.batch_size * data.shape.length // (rows * length)
    took = f"{time.perf_counter() - start:.1f} s for {rows} rows of {length} tokens"
    update = "" if done.whole else f", update of {done.updated:,} parameters (one of each shape)"
    return f"loss {done.loss.item():.3f}, gradient norm {done.norm.item():.3f}{update}, {took}"


def memory(look: Look) -> str:
    """Bytes a device."""
    data, sizes = look.data, engine(look).held(look.sizes, look.block)
    parts = ", ".join(f"{name} {readable(amount)}" for name, amount in sizes.items() if amount)
    total = f"about {readable(sum(sizes.values()))} a device: {parts}"
    if "activations" not in sizes:
        return f"{total}; activations come on top"
    return f"{total} (by the step's, for {data.batch_size} rows of {data.shape.length}; float32, about half in bf16)"


def tokens(look: Look) -> str:
    """Tokens of a step and of the run."""
    data, trainer = look.data, look.config.trainer
    factors = {
        "rows": data.batch_size,
        "length": data.shape.length,
        "accumulate": trainer.accumulate_grad_batches,
        "devices": places(trainer.devices),
        "nodes": trainer.num_nodes,
    }
    step, product = tokens_a_step(**factors), " x ".join(f"{name} {value}" for name, value in factors.items())
    return f"{step:,} a step ({product}), {step * trainer.max_steps:,} in {trainer.max_steps:,} steps"


STEPS: dict[str, tuple[Callable[[Look], str], set[str]]] = {  # by name: what is done, what must have gone well
    "recipe": (recipe, set()),
    "text": (text, {"recipe"}),
    "tokenizer": (tokenizer, {"text"}),
    "shapes": (shapes, {"recipe"}),
    "codec": (codec, {"text", "shapes"}),
    "step": (one_step, {"codec"}),
    "memory": (memory, {"shapes"}),
    "tokens": (tokens, {"recipe"}),
}
