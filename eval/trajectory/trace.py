"""Trajectories from noise to text, call by call, for continuous, masked and autoregressive models."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from textflow.diagnostics.cci import cci
from textflow.diagnostics.sample_callbacks import generator_cci
from textflow.discrete import Absorbing
from textflow.escapes import Escape
from textflow.models.base import Trainable
from textflow.models.causal_lm import CausalLM
from textflow.models.discrete_diffusion import DiscreteDiffusion
from textflow.models.generator import Generator
from textflow.noise import Noise
from textflow.readouts import FromPosterior
from textflow.schedules import TimeSchedule
from textflow.types import Ids, Latents, Logits, Mask, Posterior

MARGIN_DIGITS = 4  # recorded digits of a margin, nats


class ModelCall(NamedTuple):
    """Output of one network call for each position.

    Args:
        t: time of the call, 0 noise, 1 text.
        ids: chosen token, else the most likely one.
        margin: log p of the most likely token minus that of the second, nats, before any choice.
        committed: token fed to the next call as a token, -1 for none.
    """

    t: float
    ids: list[int]
    margin: list[float]
    committed: list[int]


class Trajectory(NamedTuple):
    """Sample with its text, its network calls and its CCI [ours]."""

    ids: list[int]
    calls: list[ModelCall]
    cci: float


def trace_sample(
    model: Trainable,
    seed: int,
    steps: int,
    grid: TimeSchedule | None = None,
    length: int | None = None,
    prompt_ids: Ids | None = None,
) -> Trajectory:
    """Sample one text and record its trajectory.

    Args:
        model: model to sample from.
        seed: random seed of the sample.
        steps: number of sampling steps; an autoregressive model takes one call per token.
        grid: time schedule; default: the model's own.
        length: number of tokens; default: the training length.
        prompt_ids: row of prompt tokens, -1 at positions without a prompt; default: no prompt.
    """
    if isinstance(model, Generator):
        return trace_flow(model, seed, steps, grid, length, prompt_ids)
    start = torch.full((1, length or model.text_format.seq_length), -1) if prompt_ids is None else prompt_ids
    if isinstance(model, DiscreteDiffusion):
        return trace_masked(model, seed, steps, grid, start.to(model.device))
    if isinstance(model, CausalLM):
        return trace_autoregressive(model, seed, start.to(model.device))
    raise ValueError(
        f"a {type(model).__name__} makes no samples; name the run of a Generator, DiscreteDiffusion or CausalLM"
    )


class RecordingEscape(Escape):
    """Escape that records the most likely token and the margin of its logits.

    Args:
        escape: escape that it calls.
        always: whether logits are recorded that the escape does not use.
    """

    def __init__(self, escape: Escape, always: bool = False) -> None:
        super().__init__()
        self.escape, self.always, self.recorded = escape, always, list[tuple[Tensor, Tensor] | None]()

    def forward(
        self,
        belief: Posterior,
        t: float,
        tokens: Callable[[], Logits],
        embed: Callable[[Ids], Latents],
        noise: Noise,
    ) -> Posterior:
        self.recorded.append(None)

        def recorded_tokens() -> Logits:
            logits = tokens()
            self.recorded[-1] = argmax_and_margin(logits)
            return logits

        if self.always:
            recorded_tokens()
        return self.escape(belief, t, recorded_tokens, embed, noise)


def argmax_and_margin(logits: Logits) -> tuple[Tensor, Tensor]:
    """Most likely token of each position, and its margin in nats."""
    best = logits.topk(2)
    values = best.values.double()
    return best.indices[..., 0], values[..., 0] - values[..., 1]


@torch.no_grad()
def trace_flow(
    model: Generator, seed: int, steps: int, grid: TimeSchedule | None, length: int | None, prompt_ids: Ids | None
) -> Trajectory:
    """Continuous sample. Tokens come from the escape's logits where it used them; else from the readout of the belief:
    the text if sampling ended at that call. A net's own logits are read in the call, as no trace keeps them."""
    own = isinstance(model.readout, FromPosterior) and isinstance(model.token_readout, FromPosterior)
    recorder = RecordingEscape(model.escape, own)
    prompt = None if prompt_ids is None else model.make_prompt(*prompt_and_mask(prompt_ids, model.device))
    sample = model.sample([seed], steps, length=length, escape=recorder, sampling_schedule=grid, prompt=prompt)
    trace, last = sample.trace, len(sample.trace.times) - 1
    tops = recorder.recorded if len(recorder.recorded) == last else [None] * last  # a sampler that asks twice a step
    calls, denoise = list[ModelCall](), model.denoiser(prompt=prompt, text=trace.z)
    for k, (t, z, belief) in enumerate(zip(trace.times, trace.states, trace.beliefs, strict=True)):
        top = tops[k] if k < last else None
        if top is None:
            final = belief._replace(mean=trace.z) if k == last else belief
            top = argmax_and_margin(model.readout.logits(denoise.view(z, t, final)))
        ids, margin = top
        fed = torch.full_like(ids, -1)
        if belief.committed is not None and belief.committed.shape == ids.shape:
            fed = belief.committed
        chosen = sample.ids if k == last else torch.where(fed >= 0, fed, ids)
        calls.append(make_call(t, chosen if prompt is None else prompt.restore_prompt_ids(chosen), margin, fed))
    return Trajectory(sample.ids[0].tolist(), calls, generator_cci(model, sample, Noise([seed]), prompt))


@torch.no_grad()
def trace_masked(
    model: DiscreteDiffusion, seed: int, steps: int, grid: TimeSchedule | None, prompt_ids: Ids
) -> Trajectory:
    """Sample of a masked model: each call after a token change; masked positions show their most likely token."""
    reads = list[tuple[float, Ids, tuple[Tensor, Tensor]]]()
    if not isinstance(model.objective.process, Absorbing):
        kind = type(model.objective.process).__name__
        raise ValueError(f"a trajectory shows masks that become tokens, but this model corrupts tokens by {kind}")
    denoise = model.denoise_fn()
    mask_id = denoise.net.vocab_size - 1

    def observe(ids: Ids, t: float, states: Tensor) -> None:
        reads.append((t, ids, argmax_and_margin(denoise.logits(states)[..., :mask_id])))

    denoise.observe = observe
    start = prompt_ids.masked_fill(prompt_ids < 0, mask_id)
    times = (grid or model.sampling_schedule).grid(steps)
    ids = model.eval().sampler.sample(denoise, start, times, Noise([seed]))
    after = [each[1] for each in reads[1:]] + [ids]
    fed = [now.masked_fill(now == mask_id, -1) for now in after]
    best_ids = [torch.where(now >= 0, now, best) for now, (_, _, (best, _)) in zip(fed, reads, strict=True)]
    calls = [make_call(t, now, lead, given) for (t, _, (_, lead)), now, given in zip(reads, best_ids, fed, strict=True)]
    return Trajectory(ids[0].tolist(), calls, noiseless_cci(calls, ids, prompt_ids < 0))


@torch.no_grad()
def trace_autoregressive(model: CausalLM, seed: int, prompt_ids: Ids) -> Trajectory:
    """Sample of an autoregressive model, one call per token; later positions have no token (-1) and no margin."""
    ids = model.complete(*prompt_and_mask(prompt_ids, model.device), [seed])
    begun = torch.cat([torch.full_like(ids[:, :1], model.tokenizer.eos), ids[:, :-1]], 1)
    _, lead = argmax_and_margin(model.ema_net(input_ids=begun).logits)
    calls, n = [], ids.shape[1]
    for k in range(int((prompt_ids >= 0).sum()), n):
        later = torch.arange(n, device=ids.device) > k
        now = ids.masked_fill(later, -1)
        calls.append(make_call((k + 1) / n, now, lead.masked_fill(later, 0.0), now))
    return Trajectory(ids[0].tolist(), calls, noiseless_cci(calls, ids, prompt_ids < 0))


def prompt_and_mask(prompt_ids: Ids, device: torch.device) -> tuple[Ids, Mask]:
    """Prompt tokens and their mask."""
    return prompt_ids.clamp_min(0).to(device), (prompt_ids >= 0).to(device)


def make_call(t: float, ids: Ids, margin: Tensor, committed: Ids) -> ModelCall:
    """Network call of one row as JSON-compatible numbers; an infinite margin is clipped at 1e4 nats."""
    leads = [round(min(value, 1e4), MARGIN_DIGITS) for value in margin[0].tolist()]
    return ModelCall(t, ids[0].tolist(), leads, committed[0].tolist())


def noiseless_cci(calls: list[ModelCall], ids: Ids, made: Mask) -> float:
    """CCI of a model whose inputs contain its choices without noise, over the generated tokens."""
    none = torch.full_like(ids, -1)
    fed = [none, *(torch.tensor([each.committed], device=ids.device) for each in calls[:-1])]
    return cci(fed, ids, [1.0] * len(fed), made).value
