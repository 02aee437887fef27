"""Checks of `textflow check`: a tokenizer's round trip, a forward pass, a training step."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from textflow.models.autoencoder import Autoencoder
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.fitted_schedules import fit_schedules
from textflow.models.generator import Generator
from textflow.readouts import Autoregressor, View
from textflow.training.engines.compatibility import (
    refuse_optimizer,
    refuse_precision,
    refuse_tangents,
    refuse_weights_outside_net,
)
from textflow.types import Batch, Conditioning, Latents, Logits, Times

from .estimate import Engine, count_saved_bytes, num_bytes, optimizer_bytes

MAX_UPDATED_PARAMETERS = 20_000_000  # parameters; Muon's update of a larger net takes too long on a CPU


def check_round_trip(texts: Sequence[str], decoded: Sequence[str]) -> str:
    """Count the texts that decode to themselves, and show the first difference.

    Raises:
        ValueError: if every text decodes to nothing.
    """
    if not any(text.strip() for text in decoded):
        advice = "choose a tokenizer for this language"
        raise ValueError(f"the tokenizer decodes all {len(texts)} documents to nothing; {advice}")
    pairs = [(text, result) for text, result in zip(texts, decoded, strict=True) if text != result]
    summary = f"{len(texts) - len(pairs)} of {len(texts)} documents decode exactly"
    if not pairs:
        return summary
    text, result = pairs[0]
    position = len(os.path.commonprefix([text, result]))
    excerpt = slice(max(position - 12, 0), position + 20)
    return f"{summary}; the tokenizer changes the others, first {text[excerpt]!r} -> {result[excerpt]!r}"


def persistent_bytes(model: Any) -> dict[str, int]:
    """Bytes that persist between training steps, by kind, for a model on the meta device."""
    optimizer = model.configure_optimizers()["optimizer"]
    trained = [p for p in model.net.parameters() if p.requires_grad]
    for p in trained:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    return {
        "weights": num_bytes(model.net.parameters()),
        "gradients": num_bytes(trained),
        "optimizer": optimizer_bytes(optimizer),
        "average": num_bytes(model.ema_net.parameters()),
    }


def check_engine(engine: Engine, model: Any, precision: str) -> None:
    """Raise the errors that the engine would raise at the start of a fit."""
    if engine.name == "ddp":
        return
    refuse_optimizer(model.configure_optimizers()["optimizer"], engine.title)
    refuse_weights_outside_net(model, engine.title)
    refuse_precision("bf16-mixed" if precision == "auto" else precision, engine.title)
    if engine.name == "zero3":
        refuse_tangents(model, engine.title)


def check_forward(model: Any, rows: int, length: int) -> str:
    """Run one forward pass over zeros and compare its shapes with the expected ones."""
    if isinstance(model, Generator):
        codec, t = model.codec_of(model.net), torch.ones(rows)
        z = torch.zeros(rows, codec.num_latents(length), codec.dim)
        mean = model.net(z, t, Conditioning(self_cond=z, guidance=t)).mean
        with torch.no_grad():  # decoding is not part of the backward pass
            logits = last_logits(model, torch.zeros(*z.shape[:2], model.codec.dim), t)
        expected = [list(z.shape), [rows, length, model.codec.vocab_size]]
        if (shapes := [list(mean.shape), list(logits.shape)]) != expected:
            raise ValueError(f"mean and logits have shapes {shapes}, need {expected}: correct the net or the readout")
        return f"latents {expected[0]} -> mean {shapes[0]}, logits {shapes[1]}"
    if isinstance(model, Autoencoder):
        net: Any = model.net
        z = torch.zeros(rows, net.num_latents(length), net.dim)
        return f"latents {list(z.shape)} -> logits {list(net.decode_logits(z).shape)}"
    if isinstance(model, DiscreteDiffusion):
        logits = model.net.lm_logits(model.net(torch.zeros(rows, length, dtype=torch.long), torch.zeros(rows)))
        return f"ids {[rows, length]} -> logits {list(logits.shape)}"
    logits = model.net(input_ids=torch.zeros(rows, length, dtype=torch.long)).logits
    return f"ids {[rows, length]} -> logits {list(logits.shape)}"


def last_logits(model: Generator, z: Latents, t: Times) -> Logits:
    """The readout's logits of the belief of a last step [B, L, V]; all at once where it draws token after token."""
    net, cond = model.sampling_net, Conditioning(self_cond=z, guidance=t)
    belief = net(z, t, cond)
    if isinstance(model.readout, Autoregressor):
        ids = torch.zeros(len(z), model.codec.num_tokens(z.shape[1]), dtype=torch.long)
        return model.readout.next_logits(belief.mean, ids)
    return model.readout.logits(View(z, model.path.t_max, belief, model.path, model.codec, net, cond))


def fit_time_schedules(model: Generator, config: Any, batch: Batch) -> str:
    """Fit the time schedules, or make them uniform while the codec is untrained; return a note on it."""
    if model.codec.is_trained or model.codec.trainable:
        fit_schedules(
            model, batch, [schedule for schedule in model.unfitted_schedules() if not schedule.needs_denoiser]
        )
        return ""
    if not config.codec:
        kind = type(model.codec).__name__
        raise ValueError(f"the codec {kind} is not trained: give its recipe or its run with --codec")
    unfitted = model.unfitted_schedules()
    for schedule in unfitted:
        schedule.assume_uniform()
    note = "; its time schedule is fitted after training and is uniform in this check" if unfitted else ""
    return f"; not trained yet{note}"


def truncate_batch(batch: Batch, length: int) -> Batch:
    """Truncate rows to `length` positions: the first, or for pairs those around the end of the shortest source."""
    first = 0 if batch.prompt_mask is None else max(int(batch.prompt_mask.sum(1).min()) - length // 2, 0)
    return batch.map(lambda part: part[:, first : first + length])


class StepResult(NamedTuple):
    """Results of a training step."""

    loss: Tensor  # a scalar
    grad_norm: Tensor  # of all gradients together
    activation_bytes: int  # bytes saved for the backward pass
    num_updated: int  # parameters that the optimizer updated
    is_complete: bool  # True if these are all parameters


def run_step(model: Any, batch: Batch) -> StepResult:
    """Run one training step, which modifies the model: all gradients and an update, which must be finite."""
    trainable = [(name, p) for name, p in model.net.named_parameters() if p.requires_grad]
    few = sample_parameters(trainable, MAX_UPDATED_PARAMETERS)
    optimizer = model.optimizer(few)
    with count_saved_bytes(model) as saved:
        loss = model.losses(model.net, batch)["loss"]
    loss.backward()
    norm = nn.utils.get_total_norm([p.grad for _, p in trainable if p.grad is not None])
    optimizer.step()
    if not all(bool(tensor.isfinite().all()) for tensor in (loss, norm, *(p for _, p in few))):
        raise ValueError(
            f"loss {loss.item():.3f}, gradient norm {norm.item():.3f}: these or the weights after the step are not "
            "finite; lower the learning rate or check the codec"
        )
    return StepResult(loss, norm, sum(saved.values()), sum(p.numel() for _, p in few), len(few) == len(trainable))


def sample_parameters(
    parameters: Sequence[tuple[str, nn.Parameter]], max_parameters: int
) -> list[tuple[str, nn.Parameter]]:
    """Return all named parameters, or one of each shape if they hold more than `max_parameters` numbers."""
    if sum(p.numel() for _, p in parameters) <= max_parameters:
        return list(parameters)
    return list({p.shape: (name, p) for name, p in reversed(parameters)}.values())
