"""Same-step dependence: nats lost when the tokens of one step are drawn independently given the state."""

import math
from collections.abc import Sequence
from inspect import signature
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from textflow.diagnostics.cci import cci
from textflow.external.language_model import LanguageModel, TokenIds
from textflow.noise import Noise
from textflow.samplers.categorical import sample_by_inversion

LogProbs = Float[Tensor, "M V"]


class TotalCorrelation(NamedTuple):
    """Sum of the marginal entropies of the first k tokens of a step minus their joint entropy, k = 1 ... K; nats [K].

    Args:
        low: expectation is at most the total correlation, and at most (k - 1) log M.
        high: expectation is at least the total correlation.
        joint: joint entropy of the first k tokens.
    """

    low: Float[Tensor, " K"]
    high: Float[Tensor, " K"]
    joint: Float[Tensor, " K"]


def total_correlation(conditionals: Sequence[LogProbs]) -> TotalCorrelation:
    """Bounds of the total correlation by the chain rule: the sum of I(token k; the tokens before it in the step).

    A marginal is the mean of the M conditionals. Averaging over all M gives the lower bound of each term, over the
    M - 1 others the upper bound (arXiv 1905.06922, bounds for a known conditional law).

    Args:
        conditionals: for each token, log p(token | the tokens before it) after M >= 2 drawn beginnings.
    """
    rows = [dependence_of_token(log_p.double()) for log_p in conditionals]
    low, high, joint = torch.tensor(rows, dtype=torch.float64).cumsum(0).T
    return TotalCorrelation(low, high, joint)


def dependence_of_token(log_p: LogProbs) -> tuple[float, float, float]:
    """Lower and upper bound of the information between a token and its beginnings, and its entropy given them."""
    p, n = log_p.exp(), len(log_p)
    conditional = float(-(p * log_p).nan_to_num(0.0).sum(-1).mean())  # 0 log 0 = 0
    mixture = log_p.logsumexp(0) - math.log(n)
    marginal = float(-(mixture.exp() * mixture).nan_to_num(0.0).sum())
    cross = 0.0
    for i in range(n):
        others = torch.cat([log_p[:i], log_p[i + 1 :]]).logsumexp(0) - math.log(n - 1)
        cross += float(-torch.where(p[i] > 0, p[i] * others, 0.0).sum()) / n
    return max(marginal - conditional, 0.0), max(cross - conditional, 0.0), conditional


@torch.no_grad()
def next_tokens(lm: LanguageModel, prefix: TokenIds, num_tokens: int, num_draws: int, noise: Noise) -> list[LogProbs]:
    """Conditional laws of the next tokens of a causal model, along continuations drawn from it.

    Args:
        lm: causal language model.
        prefix: ids of the text before the step.
        num_tokens: number of tokens in the step.
        num_draws: number of continuations, M.
        noise: one stream.
    """
    cache = DynamicCache(config=lm.model.config)
    options = {cache_argument(lm): cache, "use_cache": True}
    log_p = lm.model(input_ids=prefix[None], **options).logits[:, -1].double().log_softmax(-1).expand(num_draws, -1)
    cache.batch_repeat_interleave(num_draws)
    laws = [log_p]
    for _ in range(num_tokens - 1):
        tokens = draw(laws[-1], noise)
        laws.append(lm.model(input_ids=tokens[:, None], **options).logits[:, -1].double().log_softmax(-1))
    return laws


def cache_argument(lm: LanguageModel) -> str:
    """Name under which a model takes the keys and values of its text: it changed within transformers 5."""
    taken = signature(lm.model.forward).parameters
    for name in ("cache", "past_key_values"):
        if name in taken:
            return name
    raise ValueError(f"{lm.name} takes no keys and values of its text; leave the measure dependence out")


@torch.no_grad()
def masked_tokens(
    lm: LanguageModel, ids: TokenIds, positions: Int[Tensor, " K"], num_draws: int, noise: Noise
) -> list[LogProbs]:
    """Conditional laws of masked tokens, each given the tokens drawn before it.

    Args:
        lm: masked language model.
        ids: text with masks.
        positions: masked positions of the step, in their order.
        num_draws: number of draws, M.
        noise: one stream.
    """
    rows, laws = ids.expand(num_draws, -1).clone(), []
    for position in positions.tolist():
        laws.append(lm.model(input_ids=rows).logits[:, position].double().log_softmax(-1))
        rows[:, position] = draw(laws[-1], noise)
    return laws


def draw(log_p: LogProbs, noise: Noise) -> Int[Tensor, " M"]:
    """One token from each law."""
    return sample_by_inversion(log_p.exp(), noise.uniform(len(log_p))[0].to(log_p))


def parallel_cci(length: int, num_tokens: int) -> float:
    """CCI of decoding `length` tokens, `num_tokens` at a step: 1 for one, (1 - 1 / K) L / (L - 1) for K equal steps."""
    final = torch.zeros(1, length, dtype=torch.long)
    steps = range(0, length, num_tokens)
    fed = [torch.where(torch.arange(length) < first, final, -1) for first in steps]
    return cci(fed, final, [1.0] * len(steps), torch.ones_like(final, dtype=torch.bool)).value
