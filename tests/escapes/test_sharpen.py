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


def sharpened(inverse_temperature: float, top_k: int = VOCAB) -> Latents:
    new = Sharpen(inverse_temperature, top_k)(belief(), 0.5, logits, embed, NOISE)
    assert new.committed is None
    return new.mean


def test_the_exponent_weights_all_tokens_from_the_mean_to_the_mode() -> None:
    assert_close(sharpened(1.0), belief().mean, rtol=0, atol=1e-12)
    weight = logits().softmax(-1) ** 3
    assert_close(sharpened(3.0), weight / weight.sum(-1, keepdim=True) @ CODES, rtol=0, atol=1e-12)
    assert_close(sharpened(1e5), Commit()(belief(), 0.5, logits, embed, NOISE).mean, rtol=0, atol=1e-6)


def test_the_likeliest_tokens_have_all_the_weight() -> None:
    best, ids = logits().topk(2)
    first = torch.sigmoid(4 * (best[..., 0] - best[..., 1]))[..., None]
    expected = first * CODES[ids[..., 0]] + (1 - first) * CODES[ids[..., 1]]
    assert_close(sharpened(4.0, top_k=2), expected, rtol=0, atol=1e-12)


def test_latents_that_are_not_one_a_token_are_refused() -> None:
    with pytest.raises(ValueError, match="a latent per token.*NoEscape"):
        Sharpen()(belief(), 0.5, logits, lambda ids: CODES[ids][:, :2], NOISE)
    with pytest.raises(ValueError, match="inverse_temperature 0"):
        Sharpen(0.0)
