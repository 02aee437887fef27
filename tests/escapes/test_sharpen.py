"""Sharpened beliefs: between the mean and the mode."""

import pytest
import torch
from torch.testing import assert_close

from textflow.escapes import Commit, Sharpen
from textflow.noise import Noise
from textflow.types import Ids, Latents, Logits, Posterior

ROWS, LENGTH, VOCAB, DIM = 3, 6, 5, 2
CODES = torch.randn(VOCAB, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
NOISE = Noise(range(ROWS))


def logits() -> Logits:
    return torch.randn(ROWS, LENGTH, VOCAB, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def embed(ids: Ids) -> Latents:
    return CODES[ids]


def belief() -> Posterior:
    return Posterior(logits().softmax(-1) @ CODES)


def sharpened(power: float, top: int = VOCAB, t: float = 0.5) -> Posterior:
    return Sharpen(power, top)(belief(), t, logits, embed, NOISE)


def test_power_1_over_all_tokens_is_the_mean() -> None:
    assert_close(sharpened(1.0).mean, belief().mean, rtol=0, atol=1e-12)


def test_a_high_power_is_the_mode() -> None:
    assert_close(sharpened(1e5).mean, Commit()(belief(), 0.5, logits, embed, NOISE).mean, rtol=0, atol=1e-6)


def test_a_power_weighs_the_tokens() -> None:
    weight = logits().softmax(-1) ** 3
    assert_close(sharpened(3.0).mean, weight / weight.sum(-1, keepdim=True) @ CODES, rtol=0, atol=1e-12)


def test_few_tokens_share_all_the_weight() -> None:
    best, ids = logits().topk(2)
    first = torch.sigmoid(4 * (best[..., 0] - best[..., 1]))[..., None]
    wanted = first * CODES[ids[..., 0]] + (1 - first) * CODES[ids[..., 1]]
    assert_close(sharpened(4.0, top=2).mean, wanted, rtol=0, atol=1e-12)


def test_no_token_is_chosen_and_at_t_0_none_is_asked_for() -> None:
    def refuse() -> Logits:
        raise AssertionError("tokens were asked for")

    assert sharpened(4.0).committed is None
    before = belief()
    assert Sharpen()(before, 0.0, refuse, embed, NOISE) is before


def test_latents_that_are_not_one_a_token_are_refused() -> None:
    with pytest.raises(ValueError, match="a latent a token.*NoEscape"):
        Sharpen()(belief(), 0.5, logits, lambda ids: CODES[ids][:, :2], NOISE)
    with pytest.raises(ValueError, match="inverse_temperature 0"):
        Sharpen(0.0)
