"""Steps of `textflow check`; each returns its line of output or raises an error."""

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
from textflow.config.model import load_model
from textflow.config.shipped import find_run
from textflow.data import DataModule
from textflow.data.build import too_few_rows_error
from textflow.data.preview import build_preview
from textflow.models.autoencoder import Autoencoder
from textflow.models.generator import Generator

from .checks import (
    check_engine,
    check_forward,
    check_round_trip,
    fit_time_schedules,
    persistent_bytes,
    run_step,
    truncate_batch,
)
from .estimate import (
    Engine,
    device_count,
    format_bytes,
    free_memory,
    include_frozen,
    largest_block_bytes,
    num_bytes,
    num_parameters,
    tokens_per_step,
)
from .fit import is_recipe
from .options import resolve_device

ROWS, LENGTH = 4, 64  # largest batch of the training step


@dataclass
class CheckState:
    """State that the steps fill in and share."""

    argv: list[str]
    folder: Path
    config: Any = None
    data: Any = None
    vocab_size: int = 0
    model: Any = None
    batch: Any = None
    bytes_by_kind: dict[str, int] = field(default_factory=dict)  # memory by kind, in bytes
    block_bytes: int = 0  # bytes gathered at a time if parameters are sharded


def check_recipe(state: CheckState) -> str:
    """Parse the recipe and its codec's recipe; build the data module and the tokenizer."""
    state.config = config = recipes.load_recipe(state.argv)
    if is_recipe(config.codec):
        recipes.codec_recipe(config, state.folder / "codec")
    elif config.codec:
        run_folder.read_weights_file(find_run(config.codec))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(DataModule, "data", skip={"seed"})
    state.data = parser.instantiate(Namespace({"data": config.data})).data  # type: ignore[no-untyped-call]
    state.vocab_size = state.data.vocab_size
    return f"{state.argv[0]} parses" + (f", its codec is {config.codec}" if config.codec else "")


def engine_of(state: CheckState) -> Engine:
    """Engine of the recipe's trainer."""
    trainer = state.config.trainer
    return Engine.from_strategy(trainer.strategy, device_count(trainer.devices) * trainer.num_nodes)


def check_text(state: CheckState) -> str:
    """Read the first documents and pack them into rows."""
    data, trainer, name = state.data, state.config.trainer, type(state.data.source).__name__
    data.cache, data.num_proc = state.folder, 1
    is_complete = build_preview(data)
    devices, num_rows = device_count(trainer.devices) * trainer.num_nodes, len(data.rows)
    if is_complete and num_rows < data.batch_size * devices:
        raise ValueError(too_few_rows_error(num_rows, data.batch_size, devices, data.split, data.row_format.seq_length))
    state.batch = data.first_rows(ROWS)
    documents, tokens = sum(data.stats.documents.values()), sum(data.stats.tokens.values())
    return f"{'all' if is_complete else 'the first'} {documents:,} documents of {name}, {tokens:,} tokens"


def check_tokenizer(state: CheckState) -> str:
    """Check that documents survive the round trip through the tokenizer."""
    tokenizer = state.data.tokenizer
    documents = islice(state.data.source.documents(), 100)
    texts = [text for document in documents if (text := document.text[:2000]).strip()]
    ids = tokenizer.encode(texts)
    if (largest := max(max(row, default=0) for row in ids)) >= state.vocab_size:
        raise ValueError(
            f"the tokenizer gives id {largest}, the model has {state.vocab_size}: use the model's tokenizer"
        )
    is_partial = tokenizer.vocab_size != state.vocab_size
    preview = f" (here {tokenizer.vocab_size:,}, since little text was read)" if is_partial else ""
    rate = sum(map(len, texts)) / max(sum(map(len, ids)), 1)
    summary = f"{type(tokenizer).__name__} of {state.vocab_size:,} ids{preview}, {rate:.1f} characters per token"
    return f"{summary}; {check_round_trip(texts, tokenizer.decode(ids))}"


def check_shapes(state: CheckState) -> str:
    """Check the shapes of the net at the recipe's length with fake tensors, and count its memory."""
    with torch.device("meta"):
        model = load_model(recipes.dump(state.config), state.vocab_size)
    check_engine(engine_of(state), model, str(state.config.trainer.precision))
    state.bytes_by_kind, state.block_bytes = persistent_bytes(model), largest_block_bytes(model.net)
    with FakeTensorMode(allow_non_fake_inputs=True):  # runs no kernels
        shapes = check_forward(model.to_empty(device="cpu"), 2, state.config.data.seq_length)
    codec = getattr(model, "codec", None)
    size = 0 if codec is None else num_parameters(codec)
    codec_part = f", {type(codec).__name__} {size:,}" if size else ""
    return f"{shapes}; parameters: {type(model.net).__name__} {num_parameters(model.net):,}{codec_part}"


def check_codec(state: CheckState) -> str:
    """Encode real ids with the codec, which may be untrained if the recipe trains it first."""
    config, needed, free = state.config, 4 * state.bytes_by_kind["weights"], free_memory()
    device = resolve_device("cpu" if config.trainer.accelerator == "cpu" else "auto")
    if device.type == "cpu" and needed > free:
        return f"skipped, as is the step: needs {format_bytes(needed)} of memory, {format_bytes(free)} are free"
    torch.manual_seed(config.seed)
    state.model = model = load_model(recipes.dump(config), state.vocab_size).to(device)
    state.batch = truncate_batch(state.batch, LENGTH).map(lambda part: part.to(device))
    if not isinstance(model, Generator):
        return "is the net itself" if isinstance(model, Autoencoder) else "none"
    if config.codec and not is_recipe(config.codec):
        model.load_codec(run_folder.read_weights_file(Path(config.codec)))
    note = fit_time_schedules(model, config, state.batch)
    with torch.no_grad():
        x = model.codec.encode(state.batch.ids, state.batch.mask)
    if x.shape[-1] != model.codec.dim or not bool(x.isfinite().all()):
        raise ValueError(f"the codec gives latents {list(x.shape)}; needs finite values of width {model.codec.dim}")
    state.bytes_by_kind["codec"] = sum(num_bytes(m.parameters()) for m in include_frozen(model.codec))
    return f"{type(model.codec).__name__} gives latents {list(x.shape)} of std {float(x.std()):.2f}{note}"


def check_step(state: CheckState) -> str:
    """Run one training step on a few short rows: loss, gradients and update."""
    if state.model is None:
        return "skipped for lack of memory"
    data, start = state.data, time.perf_counter()
    result, (rows, length) = run_step(state.model, state.batch), state.batch.ids.shape
    tokens_per_batch = data.batch_size * data.row_format.seq_length
    state.bytes_by_kind["activations"] = result.activation_bytes * tokens_per_batch // (rows * length)
    duration = f"{time.perf_counter() - start:.1f} s for {rows} rows of {length} tokens"
    update = "" if result.is_complete else f", update of {result.num_updated:,} parameters (one of each shape)"
    return f"loss {result.loss.item():.3f}, gradient norm {result.grad_norm.item():.3f}{update}, {duration}"


def report_memory(state: CheckState) -> str:
    """Memory per device."""
    data, sizes = state.data, engine_of(state).memory_per_device(state.bytes_by_kind, state.block_bytes)
    parts = ", ".join(f"{name} {format_bytes(amount)}" for name, amount in sizes.items() if amount)
    total = f"about {format_bytes(sum(sizes.values()))} per device: {parts}"
    if "activations" not in sizes:
        return f"{total}; plus activations, which were not measured"
    batch = f"{data.batch_size} rows of {data.row_format.seq_length}"
    return f"{total} (activations scaled from the step above to {batch}; in float32, about half in bf16)"


def report_tokens(state: CheckState) -> str:
    """Tokens per step and in the run."""
    data, trainer = state.data, state.config.trainer
    factors = {
        "rows": data.batch_size,
        "length": data.row_format.seq_length,
        "accumulation_steps": trainer.accumulate_grad_batches,
        "num_devices": device_count(trainer.devices),
        "num_nodes": trainer.num_nodes,
    }
    step, product = tokens_per_step(**factors), " x ".join(f"{name} {value}" for name, value in factors.items())
    return f"{step:,} per step ({product}), {step * trainer.max_steps:,} in {trainer.max_steps:,} steps"


STEPS: dict[str, tuple[Callable[[CheckState], str], set[str]]] = {  # name -> (function, prerequisites)
    "recipe": (check_recipe, set()),
    "text": (check_text, {"recipe"}),
    "tokenizer": (check_tokenizer, {"text"}),
    "shapes": (check_shapes, {"recipe"}),
    "codec": (check_codec, {"text", "shapes"}),
    "step": (check_step, {"codec"}),
    "memory": (report_memory, {"shapes"}),
    "tokens": (report_tokens, {"recipe"}),
}
