"""Flips do not depend on the decoder's temperature."""

from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms, text_and_mask
from tests.helpers.user_errors import refused
from textflow.diagnostics.decoder_temperature import DecoderVariant, scale_logits, shrink_to_uniform, sweep_decoder
from textflow.diagnostics.residual import terminal_posterior
from textflow.noise import Noise


def sweep(task: Codes) -> list[DecoderVariant]:
    x, mask = text_and_mask(task, 20, 100)
    terminal = terminal_posterior(task.denoise, task.path, x, mask, 0.6, Noise(range(20)))
    return sweep_decoder(task.read, x, terminal.x0_pred, mask, Noise(range(50, 70)), num_draws=2)


def test_a_temperature_changes_the_loss_but_no_flip_and_distant_codes_flip_less() -> None:
    result = sweep(atoms(16, 8, 0.0, scale=2.0))
    assert [(variant.change, variant.amount) for variant in result] == [
        *(("temperature", amount) for amount in (0.25, 1.0, 4.0, 16.0)),
        *(("uniform_mix", amount) for amount in (0.1, 0.5, 0.9)),
    ]
    rates = [variant.dabi.flip for variant in result]
    flips = {(flip.numerator, flip.denominator, flip.value) for flip in rates}
    assert len(flips) == 1 and min(next(iter(flips))[:2]) > 0
    losses = [variant.dabi.loss.numerator for variant in result]
    assert len(set(losses)) == len(losses) and max(losses) > 3 * min(losses)
    ratios = [variant.dabi.loss.value for variant in result]
    assert max(ratios) > 1.3 * min(ratios)
    close, distant = atoms(16, 8, 0.0, scale=2.0), Codes(2 * atoms(16, 8, 0.0).codes, path=atoms(16, 8, 0.0, 2.0).path)
    assert sweep(distant)[1].dabi.flip.numerator < 0.6 * sweep(close)[1].dabi.flip.numerator


def test_shrinking_mixes_probabilities_with_uniform_ones() -> None:
    logits = Noise([1]).normal(3, 7).double() * 5
    p = logits.softmax(-1)
    for share in (0.0, 0.3, 0.99):
        assert_close(shrink_to_uniform(logits, share).softmax(-1), (1 - share) * p + share / 7)
    assert shrink_to_uniform(logits, 0.0) is logits
    refused("share", shrink_to_uniform, logits, 1.0)
    refused("above 0", scale_logits, logits, 0.0)
