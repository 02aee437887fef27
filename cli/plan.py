"""textflow check RECIPE [OVERLAY ...] --devices N: plan a large job without its hardware, text or network."""

import math
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from textflow.config import recipe as recipes
from textflow.config.model import load_model
from textflow.data import Tokenizer
from textflow.eval.bench.flops import PEAK_FLOPS

from .checks import check_engine, check_forward, persistent_bytes
from .duration import flops_per_batch, format_duration, tokens_per_epoch
from .estimate import Engine, count_saved_bytes, format_bytes, largest_block_bytes, tokens_per_step

VOCAB_SIZES = {"t5-small": 32_100, "t5-base": 32_100, "gpt2": 50_257}  # known without loading the tokenizer
TRACE_ROWS = 2  # rows in a forward pass of fake tensors
PRECISIONS = {"auto": True, "bf16-mixed": True, "16-mixed": True, "32-true": False, "32": False}  # True: bf16


@dataclass
class Plan:
    """Options of a plan, and the state that the steps fill in and share."""

    argv: list[str]
    devices: int
    gpu: str
    mfu: float
    epoch_tokens: float | None
    vocab_size: int | None
    config: Any = None
    model: Any = None
    engine: Engine | None = None
    sizes: dict[str, int] = field(default_factory=dict)  # bytes by kind, before sharding
    flops: int = 0  # FLOPs of a forward pass over TRACE_ROWS rows
    block_bytes: int = 0  # bytes gathered at a time if parameters are sharded


def parse_plan(argv: list[str]) -> Plan:
    """Parse the options of the plan; the remaining arguments describe the recipe."""
    parser = ArgumentParser(prog="textflow check", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--gpu", choices=list(PEAK_FLOPS), default="H100")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--epoch-tokens", type=float)
    parser.add_argument("--vocab-size", type=int)
    own = {"--epoch_tokens": "--epoch-tokens", "--vocab_size": "--vocab-size"}  # both spellings are accepted
    parts = [argument.partition("=") for argument in argv]
    try:
        options, rest = parser.parse_known_args([own.get(key, key) + sep + value for key, sep, value in parts])
    except ArgumentError as error:
        raise ValueError(f"{error}; see textflow check --help") from error
    devices, mfu, epoch_tokens = options.devices, options.mfu, options.epoch_tokens
    if not devices or devices < 1 or not 0 < mfu <= 1:
        raise ValueError(f"--devices {devices} --mfu {mfu}: needs at least 1 device and an mfu in (0, 1]")
    if epoch_tokens is not None and not 0 < epoch_tokens < math.inf:
        raise ValueError(f"--epoch-tokens {epoch_tokens}: needs the number of tokens in an epoch, such as 9.04e9")
    return Plan(rest, devices, options.gpu, mfu, epoch_tokens, options.vocab_size)


def check_recipe(plan: Plan) -> str:
    """Parse the recipe and find its tokenizer's vocabulary size."""
    plan.config = config = recipes.load_recipe(plan.argv)
    plan.engine = Engine.from_strategy(config.trainer.strategy, plan.devices)
    plan.vocab_size = plan.vocab_size or vocab_size_of(config.data.tokenizer)
    return f"{plan.argv[0]} parses; {plan.engine.title} on {plan.devices} devices; {plan.vocab_size:,} ids"


def vocab_size_of(tokenizer: Any) -> int:
    """Vocabulary size of a recipe's tokenizer."""
    from jsonargparse import ArgumentParser, Namespace

    name = getattr(tokenizer.init_args, "name", None)
    if name in VOCAB_SIZES and "vocab_size" not in tokenizer.init_args:
        return VOCAB_SIZES[name]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Tokenizer, "tokenizer")
    try:
        return parser.instantiate(Namespace(tokenizer=tokenizer)).tokenizer.vocab_size  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ValueError(f"cannot load the tokenizer {name}; give its vocabulary size: --vocab-size 32100") from error


def check_shapes(plan: Plan) -> str:
    """Check shapes at the recipe's length, and the optimizer under the engine, with fake tensors."""
    assert plan.engine is not None and plan.vocab_size is not None
    config = plan.config
    with torch.device("meta"):
        plan.model = load_model(recipes.dump(config), plan.vocab_size)
    check_engine(plan.engine, plan.model, str(config.trainer.precision))
    plan.sizes = persistent_bytes(plan.model)
    if (precision := str(config.trainer.precision)) not in PRECISIONS:
        raise ValueError(f"precision {precision}: a plan needs float32 weights; use one of {', '.join(PRECISIONS)}")
    bf16, length = PRECISIONS[precision], config.data.seq_length
    plan.block_bytes, trained = largest_block_bytes(plan.model.net), dict(plan.model.trained_parameters())
    parameters = sum(p.numel() for p in {*plan.model.net.parameters(), *trained.values()})  # a learned schedule's too
    with FakeTensorMode(allow_non_fake_inputs=True):
        plan.model = plan.model.to_empty(device="cpu")
        shapes, _, plan.flops = trace_forward(plan.model, TRACE_ROWS, length, bf16)
        plan.sizes["activations"] = estimate_activations(plan.model, config.data.batch_size, length, bf16)
    name = type(plan.model.net).__name__
    return f"{shapes}; parameters: {name} {parameters:,}; {'bfloat16' if bf16 else 'float32'}"


def estimate_activations(model: Any, rows: int, length: int, half: bool) -> int:
    """Bytes saved for the backward pass, extrapolated linearly from two small batches, since a part of them (such as
    weights cast to bfloat16) does not grow with the batch. Activation checkpointing adds the activations of one block.
    """

    def saved_bytes() -> float:
        few, many = (trace_forward(model, n, length, half)[1] for n in (TRACE_ROWS, 2 * TRACE_ROWS))
        return few + (many - few) * (rows - TRACE_ROWS) / TRACE_ROWS

    checkpointed = saved_bytes()
    if not getattr(model.net, "activation_checkpointing", False):
        return round(checkpointed)
    model.net.activation_checkpointing = False
    block = (saved_bytes() - checkpointed) / len(model.net.blocks)
    model.net.activation_checkpointing = True
    return round(checkpointed + block)


def trace_forward(model: Any, rows: int, length: int, bf16: bool) -> tuple[str, int, int]:
    """Trace a forward pass of fake tensors: shapes, bytes saved for the backward pass, FLOPs."""
    from torch.utils.flop_counter import FlopCounterMode

    half_precision = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    with FlopCounterMode(display=False) as counter, half_precision, count_saved_bytes(model.net) as saved:
        shapes = check_forward(model, rows, length)
    return shapes, sum(saved.values()), counter.get_total_flops()


def report_memory(plan: Plan) -> str:
    """Memory per device, by kind."""
    assert plan.engine is not None
    sizes = plan.engine.memory_per_device(plan.sizes, plan.block_bytes)
    parts = ", ".join(f"{name} {format_bytes(amount)}" for name, amount in sizes.items() if amount)
    single, rows = Engine("ddp", 1).memory_per_device(plan.sizes, 0), plan.config.data.batch_size
    return (
        f"about {format_bytes(sum(sizes.values()))} per device: {parts} (activations of {rows} rows, without the "
        f"loss on the logits and a codec's encoder); on a single device: {format_bytes(sum(single.values()))}"
    )


def report_tokens(plan: Plan) -> str:
    """Tokens per step and in the run."""
    data, trainer = plan.config.data, plan.config.trainer
    a_step = tokens_per_step(data.batch_size, data.seq_length, trainer.accumulate_grad_batches, plan.devices)
    rows, total = a_step // data.seq_length, a_step * trainer.max_steps
    return f"{a_step:,} per step ({rows:,} rows of {data.seq_length}), {total:,} in {trainer.max_steps:,} steps"


def report_time(plan: Plan) -> str:
    """Time of a step, an epoch and the run from the FLOP formula."""
    data, trainer = plan.config.data, plan.config.trainer
    batch = flops_per_batch(plan.model, data.batch_size, data.seq_length, plan.flops / TRACE_ROWS)
    flops = batch * trainer.accumulate_grad_batches
    flops_per_second = PEAK_FLOPS[plan.gpu] * plan.mfu
    step_seconds, rows = flops / flops_per_second, data.batch_size * trainer.accumulate_grad_batches * plan.devices
    rate = f"an assumed {plan.mfu:.0%} of a {plan.gpu}'s peak"
    line = f"{step_seconds:.3g} s per step ({flops / 1e12:.3g} TFLOP per device at {rate})"
    if epoch := plan.epoch_tokens or tokens_per_epoch(plan.config):
        steps = epoch / (rows * data.seq_length)
        line += f"; an epoch of {epoch:,.0f} tokens: {steps:,.0f} steps, {format_duration(steps * step_seconds)}"
    line += f"; the run of {trainer.max_steps:,} steps: {format_duration(trainer.max_steps * step_seconds)}"
    return line if epoch else f"{line}; for the time of an epoch give its tokens, such as --epoch-tokens 9.04e9"


STEPS: dict[str, tuple[Callable[[Plan], str], set[str]]] = {  # name -> (function, prerequisites)
    "recipe": (check_recipe, set()),
    "shapes": (check_shapes, {"recipe"}),
    "memory": (report_memory, {"shapes"}),
    "tokens": (report_tokens, {"recipe"}),
    "time": (report_time, {"shapes"}),
}
