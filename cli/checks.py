"""What `textflow check` tries out: a tokenizer's round trip, a pass, a step."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from textflow.models.autoencoder import Autoencoder
from textflow.models.discrete_diffusion import Masked
from textflow.models.generator import Generator
from textflow.training.engines.compatibility import refuse_optimizer, refuse_precision, refuse_tangents
from textflow.types import Batch, Given

from .estimate import Engine, saved, size, state_size

LARGE = 20_000_000  # parameters; Muon's update of a larger net takes a CPU more than seconds


def round_trip(texts: Sequence[str], back: Sequence[str]) -> str:
    """How many texts come back as they were, and the first difference; an error if nothing comes back.

    Args:
        texts: what was encoded.
        back: what was decoded.
    """
    if not any(text.strip() for text in back):
        raise ValueError(
            f"of {len(texts)} documents nothing comes back from the tokenizer; choose one of this language"
        )
    pairs = [(text, found) for text, found in zip(texts, back, strict=True) if text != found]
    said = f"{len(texts) - len(pairs)} of {len(texts)} documents come back exactly"
    if not pairs:
        return said
    text, found = pairs[0]
    spot = len(os.path.commonprefix([text, found]))
    around = slice(max(spot - 12, 0), spot + 20)
    return f"{said}; the tokenizer changes the others, first {text[around]!r} -> {found[around]!r}"


def standing(model: Any) -> dict[str, int]:
    """Bytes that stay from step to step, of a model on the meta device."""
    optimizer = model.configure_optimizers()["optimizer"]
    trained = [p for p in model.net.parameters() if p.requires_grad]
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return {
        "weights": size(model.net.parameters()),
        "gradients": size(trained),
        "optimizer": state_size(optimizer),
        "average": size(model.twin.parameters()),
    }


def refuse_under(engine: Engine, model: Any, precision: str) -> None:
    """What the engine would refuse at the start of a fit.

    Args:
        engine: of the recipe.
        model: on the meta device.
        precision: of the trainer.
    """
    if engine.name == "ddp":
        return
    refuse_optimizer(model.configure_optimizers()["optimizer"], engine.title)
    refuse_precision("bf16-mixed" if precision == "auto" else precision, engine.title)
    if engine.name == "zero3":
        refuse_tangents(model, engine.title)


def forward(model: Any, rows: int, length: int) -> str:
    """One pass of a model over zeros; its shapes, compared with those needed.

    Args:
        model: a Generator, an Autoencoder, a Masked, or one that wraps a causal transformer.
        rows: of the batch.
        length: tokens a row.
    """
    if isinstance(model, Generator):
        z, t = torch.zeros(rows, length, model.codec.dim), torch.ones(rows)
        mean = model.net(z, t, Given(prev=z, w=t)).mean
        with torch.no_grad():  # what is written keeps nothing for a way back
            logits = model.logits(z)
        needed = [list(z.shape), [rows, length, model.codec.vocab]]
        if (found := [list(mean.shape), list(logits.shape)]) != needed:
            raise ValueError(f"mean and logits have shapes {found}, {needed} are needed: mend the net or the readout")
        return f"latents {needed[0]} -> mean {found[0]}, logits {found[1]}"
    if isinstance(model, Autoencoder):
        net: Any = model.net
        z = torch.zeros(rows, length, net.dim)
        return f"latents {list(z.shape)} -> logits {list(net.readout(z).shape)}"
    if isinstance(model, Masked):
        logits = model.net.logits(model.net(torch.full((rows, length), model.net.mask), torch.zeros(rows)))
        return f"ids {[rows, length]} -> logits {list(logits.shape)}"
    logits = model.net(input_ids=torch.zeros(rows, length, dtype=torch.long)).logits
    return f"ids {[rows, length]} -> logits {list(logits.shape)}"


def clocks(model: Generator, config: Any, batch: Batch) -> str:
    """Measure the clocks, or give them a uniform law while the codec is untrained; says what was done."""
    if model.codec.ready:
        model.measure(batch, [clock for clock in model.unmeasured() if not clock.needs_denoiser])
        return ""
    if not config.codec:
        kind = type(model.codec).__name__
        raise ValueError(f"the codec {kind} is not trained: name its recipe or its run with --codec")
    unmeasured = model.unmeasured()
    for clock in unmeasured:
        clock.assume_uniform()
    return "; untrained as yet" + ("; the clock, measured once it is trained, is uniform here" if unmeasured else "")


def excerpt(batch: Batch, length: int) -> Batch:
    """Some positions of a batch's rows: the first, of pairs those around the end of the shortest source.

    Args:
        batch: whole rows.
        length: positions, at most.
    """
    first = 0 if batch.fixed is None else max(int(batch.fixed.sum(1).min()) - length // 2, 0)
    return batch.each(lambda part: part[:, first : first + length])


class Step(NamedTuple):
    """What a step gave.

    Args:
        loss: a scalar.
        norm: of all gradients together.
        kept: bytes that the pass kept for the way back.
        updated: parameters that the optimizer moved.
        whole: whether these are all.
    """

    loss: Tensor
    norm: Tensor
    kept: int
    updated: int
    whole: bool


def step(model: Any, batch: Batch) -> Step:
    """One step: all gradients, and an update; its numbers may be anything but infinite.

    Args:
        model: to be trained; it is changed.
        batch: small.
    """
    named = [(name, p) for name, p in model.net.named_parameters() if p.requires_grad]
    few = some(named, LARGE)
    optimizer = model.optimizer(few)
    with saved(model) as kept:
        loss = model.losses(model.net, batch)["loss"]
    loss.backward()
    norm = nn.utils.get_total_norm([p.grad for _, p in named if p.grad is not None])
    optimizer.step()
    if not all(bool(tensor.isfinite().all()) for tensor in (loss, norm, *(p for _, p in few))):
        raise ValueError(
            f"loss {loss.item():.3f}, gradient norm {norm.item():.3f}: these or the weights after the step are not "
            "finite; lower the learning rate or look at the codec"
        )
    return Step(loss, norm, sum(kept.values()), sum(p.numel() for _, p in few), len(few) == len(named))


def some(named: Sequence[tuple[str, nn.Parameter]], most: int) -> list[tuple[str, nn.Parameter]]:
    """All parameters, or where they are more than `most` numbers, one of each shape.

    Args:
        named: pairs (name, parameter).
        most: numbers in all of them together.
    """
    if sum(p.numel() for _, p in named) <= most:
        return list(named)
    return list({p.shape: (name, p) for name, p in reversed(named)}.values())
