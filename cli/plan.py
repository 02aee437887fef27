"""textflow check RECIPE [OVERLAY ...] --devices N: a big job, planned without its hardware, text or network."""

import math
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from textflow.config import recipe as recipes
from textflow.data import Tokenizer
from textflow.eval.bench.flops import PEAKS

from .checks import forward, refuse_under, standing
from .duration import flops_a_batch, span, tokens_an_epoch
from .estimate import Engine, count, kept_by, largest_block, readable, tokens_a_step

VOCABULARIES = {"t5-small": 32_100, "t5-base": 32_100, "gpt2": 50_257}  # ids, where the tokenizer is not at hand
ROWS = 2  # of a pass of fake tensors
HALF = {"auto": True, "bf16-mixed": True, "16-mixed": True, "32-true": False, "32": False}  # Lightning's words


@dataclass
class Plan:
    """What is asked, and what the steps find out, each for those after it."""

    words: list[str]
    devices: int
    card: str
    mfu: float
    tokens: float | None
    vocab: int | None
    config: Any = None
    model: Any = None
    optimizer: Any = None
    engine: Engine | None = None
    sizes: dict[str, int] = field(default_factory=dict)  # bytes, before anything is shared out
    flops: int = 0  # of a forward pass over ROWS rows
    block: int = 0  # bytes that are gathered at a time where parameters are in shards


def asked(words: list[str]) -> Plan:
    """The words of the command line, those of the plan taken out.

    Args:
        words: recipe, overlays, --key value, --devices N.
    """
    parser = ArgumentParser(prog="textflow check", add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--devices", type=int)
    parser.add_argument("--card", choices=list(PEAKS), default="H100")
    parser.add_argument("--mfu", type=float, default=0.4)
    parser.add_argument("--tokens", type=float)
    parser.add_argument("--vocab", type=int)
    try:
        found, rest = parser.parse_known_args(words)
    except ArgumentError as error:
        raise ValueError(f"{error}; see textflow check --help") from error
    if not found.devices or found.devices < 1 or not 0 < found.mfu <= 1:
        raise ValueError(
            f"--devices {found.devices} --mfu {found.mfu}: at least 1 device and an mfu in (0, 1] are needed"
        )
    if found.tokens is not None and not 0 < found.tokens < math.inf:
        raise ValueError(f"--tokens {found.tokens}: how many an epoch has, such as 9.04e9")
    return Plan(rest, found.devices, found.card, found.mfu, found.tokens, found.vocab)


def recipe(plan: Plan) -> str:
    """It parses; its tokenizer's number of ids is known."""
    plan.config = config = recipes.read(plan.words)
    plan.engine = Engine.of(config.trainer.strategy, plan.devices)
    plan.vocab = plan.vocab or vocabulary(config.data.tokenizer)
    return f"{plan.words[0]} parses; {plan.engine.title} on {plan.devices} devices; {plan.vocab:,} ids"


def vocabulary(tokenizer: Any) -> int:
    """Number of ids of a recipe's tokenizer.

    Args:
        tokenizer: class_path and init_args.
    """
    from jsonargparse import ArgumentParser, Namespace

    name = getattr(tokenizer.init_args, "name", None)
    if name in VOCABULARIES:
        return VOCABULARIES[name]
    small = ArgumentParser(exit_on_error=False)
    small.add_subclass_arguments(Tokenizer, "tokenizer")
    try:
        return small.instantiate(Namespace(tokenizer=tokenizer)).tokenizer.vocab  # type: ignore[no-untyped-call]
    except Exception as error:
        raise ValueError(f"the tokenizer {name} is not at hand, so give its number of ids: --vocab 32100") from error


def shapes(plan: Plan) -> str:
    """The net takes rows of the recipe's length, and its optimizer fits the engine; nothing is computed or held."""
    assert plan.engine is not None and plan.vocab is not None
    config = plan.config
    with torch.device("meta"):
        plan.model = recipes.load_model(recipes.write(config), plan.vocab)[0]
    refuse_under(plan.engine, plan.model, str(config.trainer.precision))
    plan.sizes = standing(plan.model)
    if (precision := str(config.trainer.precision)) not in HALF:
        raise ValueError(f"precision {precision}: a plan is one of float32 weights; give one of {', '.join(HALF)}")
    half, length = HALF[precision], config.data.length
    parameters, plan.block = count(plan.model.net), largest_block(plan.model.net)
    with FakeTensorMode(allow_non_fake_inputs=True):
        plan.model = plan.model.to_empty(device="cpu")
        said, _, plan.flops = passed(plan.model, ROWS, length, half)
        plan.sizes["activations"] = activations(plan.model, config.data.batch_size, length, half)
    name = type(plan.model.net).__name__
    return f"{said}; parameters: {name} {parameters:,}; {'bfloat16' if half else 'float32'}"


def activations(model: Any, rows: int, length: int, half: bool) -> int:
    """Bytes that a pass keeps for the way back, in a line through two small ones: a part of them, such as weights in
    bfloat16, is the same for all rows. A net that computes its blocks again holds one of them besides.

    Args:
        model: of fake tensors.
        rows: of the batch.
        length: tokens a row.
        half: whether in bfloat16.
    """

    def kept() -> float:
        few, many = (passed(model, n, length, half)[1] for n in (ROWS, 2 * ROWS))
        return few + (many - few) * (rows - ROWS) / ROWS

    least = kept()
    if not getattr(model.net, "recompute", False):
        return round(least)
    model.net.recompute = False
    block = (kept() - least) / len(model.net.blocks)
    model.net.recompute = True
    return round(least + block)


def passed(model: Any, rows: int, length: int, half: bool) -> tuple[str, int, int]:
    """A pass that is not computed: its shapes, the bytes it keeps for the way back, its FLOPs.

    Args:
        model: of fake tensors.
        rows: of the batch.
        length: tokens a row.
        half: whether in bfloat16.
    """
    from torch.utils.flop_counter import FlopCounterMode

    half_precision = torch.autocast("cpu", torch.bfloat16, enabled=half)
    with FlopCounterMode(display=False) as counter, half_precision, kept_by(model.net) as kept:
        said = forward(model, rows, length)
    return said, sum(kept.values()), counter.get_total_flops()


def memory(plan: Plan) -> str:
    """Bytes a device, by what holds them."""
    assert plan.engine is not None
    held = plan.engine.held(plan.sizes, plan.block)
    parts = ", ".join(f"{name} {readable(amount)}" for name, amount in held.items() if amount)
    alone = Engine("ddp", 1).held(plan.sizes, 0)
    return (
        f"about {readable(sum(held.values()))} a device: {parts} (of a forward pass over {plan.config.data.batch_size} "
        f"rows, without the logits' loss and a codec's encoder); one device alone: {readable(sum(alone.values()))}"
    )


def tokens(plan: Plan) -> str:
    """Tokens of a step and of the run."""
    data, trainer = plan.config.data, plan.config.trainer
    a_step = tokens_a_step(data.batch_size, data.length, trainer.accumulate_grad_batches, plan.devices)
    rows = a_step // data.length
    return (
        f"{a_step:,} a step ({rows:,} rows of {data.length}), {a_step * trainer.max_steps:,} in {trainer.max_steps:,}"
    )


def time(plan: Plan) -> str:
    """Seconds of a step, an epoch and the run, by the FLOP formula."""
    data, trainer = plan.config.data, plan.config.trainer
    batch = flops_a_batch(plan.model, data.batch_size, data.length, plan.flops / ROWS)
    flops = batch * trainer.accumulate_grad_batches
    second = PEAKS[plan.card] * plan.mfu
    a_step, rows = flops / second, data.batch_size * trainer.accumulate_grad_batches * plan.devices
    said = (
        f"{a_step:.3g} s a step ({flops / 1e12:.3g} TFLOP a device at {plan.mfu:.0%} of a {plan.card}'s peak, assumed)"
    )
    if epoch := plan.tokens or tokens_an_epoch(plan.config):
        steps = epoch / (rows * data.length)
        said += f"; an epoch of {epoch:,.0f} tokens: {steps:,.0f} steps, {span(steps * a_step)}"
    said += f"; the run of {trainer.max_steps:,} steps: {span(trainer.max_steps * a_step)}"
    return said if epoch else f"{said}; for that of an epoch give its tokens, such as --tokens 9.04e9"


STEPS: dict[str, tuple[Callable[[Plan], str], set[str]]] = {  # by name: what is done, what must have gone well
    "recipe": (recipe, set()),
    "shapes": (shapes, {"recipe"}),
    "memory": (memory, {"shapes"}),
    "tokens": (tokens, {"recipe"}),
    "time": (time, {"shapes"}),
}
