"""Flips do not depend on the decoder's temperature."""

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms
from textflow.diagnostics.decoder_temperature import DecoderVariant, scale_logits, shrink_to_uniform, sweep_decoder
from textflow.diagnostics.residual import terminal_posterior
from textflow.noise import Noise


def probe(world: Codes) -> list[DecoderVariant]:
    x = world.draw(20, 100)[1]
    mask = torch.ones(20, 100, dtype=torch.bool)
    seen = terminal_posterior(world.denoise, world.path, x, mask, 0.6, Noise(range(20)))
    return sweep_decoder(world.read, x, seen.x0_pred, mask, Noise(range(50, 70)), num_draws=2)


def test_neither_temperature_nor_shrinking_moves_a_flip_but_both_move_the_loss() -> None:
    found = probe(atoms(16, 8, 0.0, scale=2.0))
    assert [(one.change, one.amount) for one in found] == [
        *(("temperature", amount) for amount in (0.25, 1.0, 4.0, 16.0)),
        *(("uniform_mix", amount) for amount in (0.1, 0.5, 0.9)),
    ]
    flips = {(one.dabi.flip.numerator, one.dabi.flip.denominator, one.dabi.flip.value) for one in found}
    assert len(flips) == 1 and min(next(iter(flips))[:2]) > 0
    losses = [one.dabi.loss.numerator for one in found]
    assert len(set(losses)) == len(losses) and max(losses) > 3 * min(losses)
    ratios = [one.dabi.loss.value for one in found]
    assert max(ratios) > 1.3 * min(ratios)


def test_codes_further_apart_flip_less() -> None:
    near, far = atoms(16, 8, 0.0, scale=2.0), Codes(2 * atoms(16, 8, 0.0).codes, path=atoms(16, 8, 0.0, 2.0).path)
    assert probe(far)[1].dabi.flip.numerator < 0.6 * probe(near)[1].dabi.flip.numerator


def test_shrinking_mixes_probabilities_with_uniform_ones() -> None:
    logits = Noise([1]).normal(3, 7).double() * 5
    p = logits.softmax(-1)
    for share in (0.0, 0.3, 0.99):
        assert_close(shrink_to_uniform(logits, share).softmax(-1), (1 - share) * p + share / 7)
    assert shrink_to_uniform(logits, 0.0) is logits
    with pytest.raises(ValueError, match="share"):
        shrink_to_uniform(logits, 1.0)
    with pytest.raises(ValueError, match="above 0"):
        scale_logits(logits, 0.0)
