"""Trajectories: a sample's way from noise to text, call by call, for continuous, masked and autoregressive models."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from textflow.diagnostics.cci import cci
from textflow.diagnostics.sample_callbacks import chosen
from textflow.escapes import Escape
from textflow.models.causal_lm import CausalLM
from textflow.models.discrete_diffusion import Masked
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.schedules import Clock
from textflow.types import Ids, Latents, Logits, Mask, Posterior

DIGITS = 4  # of a lead, nats: what a record keeps


class Call(NamedTuple):
    """What one call of the network says of each position.

    Args:
        t: time of the call, 0 noise, 1 text.
        ids: token that stands there: what was chosen, else the likeliest.
        lead: log p of the likeliest token less that of the second, nats, before anything was chosen.
        chosen: token that goes into the next call's input as a token, -1 where none does.
    """

    t: float
    ids: list[int]
    lead: list[float]
    chosen: list[int]


class Way(NamedTuple):
    """A sample: what was written, the calls that led there, and its CCI [ours]."""

    ids: list[int]
    calls: list[Call]
    cci: float


def walk(
    model: Any, seed: int, steps: int, grid: Clock | None = None, length: int | None = None, given: Ids | None = None
) -> Way:
    """One sample and its way.

    Args:
        model: loaded: a Generator, Masked or CausalLM.
        seed: of the sample's own stream.
        steps: of the grid; an autoregressive model takes a call a token.
        grid: of the times; default: the model's own.
        length: tokens; default: the length of training.
        given: a row of tokens, -1 where none is given; default: none is.
    """
    if isinstance(model, Generator):
        return flowed(model, seed, steps, grid, length, given)
    start = torch.full((1, length or model.length), -1) if given is None else given
    if isinstance(model, Masked):
        return unmasked(model, seed, steps, grid, start.to(model.device))
    if isinstance(model, CausalLM):
        return written(model, seed, start.to(model.device))
    raise ValueError(f"a {type(model).__name__} makes no samples; name the run of a Generator, Masked or CausalLM")


class Heard(Escape):
    """An escape that keeps what it was told: token and lead of the logits that it chose by.

    Args:
        inner: chooses.
    """

    def __init__(self, inner: Escape) -> None:
        super().__init__()
        self.inner, self.tops = inner, list[tuple[Tensor, Tensor] | None]()

    def forward(
        self,
        belief: Posterior,
        t: float,
        tokens: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        self.tops.append(None)

        def said() -> Logits:
            logits = tokens()
            self.tops[-1] = top(logits)
            return logits

        return self.inner(belief, t, said, embed, noise)


def top(logits: Logits) -> tuple[Tensor, Tensor]:
    """The likeliest token of each position, and its lead in nats."""
    best = logits.topk(2)
    values = best.values.double()
    return best.indices[..., 0], values[..., 0] - values[..., 1]


@torch.no_grad()
def flowed(model: Generator, seed: int, steps: int, grid: Clock | None, length: int | None, given: Ids | None) -> Way:
    """A continuous sample. Tokens are those that the escape was told, where it asked; else the readout of the belief:
    what would be written if the way ended there."""
    heard, prompt = Heard(model.escape), None if given is None else model.prompt(*tokens_of(given, model.device))
    made = model.sample([seed], steps, length=length, escape=heard, grid=grid, prompt=prompt)
    trace, last = made.trace, len(made.trace.times) - 1
    tops = heard.tops if len(heard.tops) == last else [None] * last  # a sampler that asks twice a step
    calls, settings = list[Call](), model.told(trace.z, prompt=prompt)
    for k, (t, z, belief) in enumerate(zip(trace.times, trace.states, trace.beliefs, strict=True)):
        final = belief._replace(mean=trace.z) if k == last else belief
        told = tops[k] if k < last else None
        ids, lead = told if told is not None else top(model.read(model.readout, z, t, final, settings))
        fed = belief.chosen if belief.chosen is not None and belief.chosen.shape == ids.shape else ids.new_tensor(-1)
        fed = fed.expand_as(ids)
        stands = made.ids if k == last else torch.where(fed >= 0, fed, ids)
        calls.append(call(t, stands if prompt is None else prompt.settle(stands), lead, fed))
    return Way(made.ids[0].tolist(), calls, chosen(model, made, Noise([seed]), prompt))


@torch.no_grad()
def unmasked(model: Masked, seed: int, steps: int, grid: Clock | None, given: Ids) -> Way:
    """A sample of a masked model: each call at which a token had changed; masks show their likeliest token."""
    net, met = model.twin, list[tuple[float, Ids, tuple[Tensor, Tensor]]]()

    def see(ids: Ids, t: float) -> Tensor:
        states = model.see(ids, t)
        met.append((t, ids, top(net.logits(states)[..., : net.mask])))
        return states

    start = given.masked_fill(given < 0, net.mask)
    times, timed = (grid or model.grid).grid(steps), model.objective.timed
    ids = model.eval().sampler.sample(see, net.logits, start, net.mask, times, Noise([seed]), timed)
    after = [each[1] for each in met[1:]] + [ids]
    fed = [now.masked_fill(now == net.mask, -1) for now in after]
    shown = [torch.where(now >= 0, now, best) for now, (_, _, (best, _)) in zip(fed, met, strict=True)]
    calls = [call(t, now, lead, given) for (t, _, (_, lead)), now, given in zip(met, shown, fed, strict=True)]
    return Way(ids[0].tolist(), calls, clean_cci(calls, ids, given < 0))


@torch.no_grad()
def written(model: CausalLM, seed: int, given: Ids) -> Way:
    """A sample of an autoregressive model: a call a token; what is not written yet has no token (-1) and no lead."""
    ids = model.complete(*tokens_of(given, model.device), [seed])
    begun = torch.cat([torch.full_like(ids[:, :1], model.tokenizer.eos), ids[:, :-1]], 1)
    _, lead = top(model.twin(input_ids=begun).logits)
    calls, n = [], ids.shape[1]
    for k in range(int((given >= 0).sum()), n):
        later = torch.arange(n, device=ids.device) > k
        now = ids.masked_fill(later, -1)
        calls.append(call((k + 1) / n, now, lead.masked_fill(later, 0.0), now))
    return Way(ids[0].tolist(), calls, clean_cci(calls, ids, given < 0))


def tokens_of(given: Ids, device: torch.device) -> tuple[Ids, Mask]:
    """The given tokens, and where they are given."""
    return given.clamp_min(0).to(device), (given >= 0).to(device)


def call(t: float, ids: Ids, lead: Tensor, fed: Ids) -> Call:
    """Tensors of one row as numbers that JSON keeps; an infinite lead is cut at 1e4 nats."""
    leads = [round(min(value, 1e4), DIGITS) for value in lead[0].tolist()]
    return Call(t, ids[0].tolist(), leads, fed[0].tolist())


def clean_cci(calls: list[Call], ids: Ids, made: Mask) -> float:
    """CCI of a model whose input holds its choices as they are, without noise, over the tokens that it made."""
    none = torch.full_like(ids, -1)
    fed = [none, *(torch.tensor([each.chosen], device=ids.device) for each in calls[:-1])]
    return cci(fed, ids, [1.0] * len(fed), made).value
