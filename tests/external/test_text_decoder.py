"""Readouts of continuous text, against their definitions."""

import torch
from torch.testing import assert_close

from textflow.diagnostics.perturbation import shuffle_residuals
from textflow.external.text_decoder import linear_discriminant, nearest_embedding, text_response
from textflow.noise import Noise


def test_the_nearest_embedding_is_read_whatever_its_length() -> None:
    torch.manual_seed(0)
    table = torch.randn(9, 4) * torch.arange(1, 10)[:, None]
    z = torch.randn(2, 5, 4)
    assert_close(nearest_embedding(table)(z).argmax(-1), torch.cdist(z, table.expand(2, -1, -1)).argmin(-1))


def test_a_linear_discriminant_is_the_bayes_rule_of_gaussian_clouds() -> None:
    """Clouds of one elongated covariance: distances in it decide, Euclidean ones do not."""
    torch.manual_seed(0)
    stretch = torch.tensor([0.1, 3.0])
    means = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    ids = torch.randint(0, 3, (3000,))
    states = means[ids] + torch.randn(3000, 2) * stretch
    decode, tokens = linear_discriminant(states, ids + 40)
    assert tokens.tolist() == [40, 41, 42]
    read = tokens[decode(states[None]).argmax(-1)][0]
    nearest = torch.cdist(states, means).argmin(-1) + 40
    assert float((read == ids + 40).float().mean()) > 0.98 > 0.8 > float((nearest == ids + 40).float().mean())


def test_an_error_between_tokens_flips_and_random_errors_of_its_length_do_not() -> None:
    torch.manual_seed(0)
    table = torch.randn(6, 256)
    ids = torch.randint(0, 6, (12, 8))
    samples = [(table[row][None], torch.ones(1, 8, dtype=torch.bool)) for row in ids]
    bank = table[:3]  # half of the tokens are not in the bank, so the posterior takes another
    (result,) = text_response(nearest_embedding(table), samples, bank, list(range(12)), (0.3,))
    ratio = result.ratios["isotropic"]
    assert ratio.numerator == float((ids >= 3).double().mean()) and ratio.denominator == 0
    assert ratio.few_events and not ratio.has_value and ratio.low > 10


def test_errors_of_single_latents_are_shuffled_over_the_rows() -> None:
    r = torch.arange(1.0, 7)[:, None, None]
    mask = torch.ones(6, 1, dtype=torch.bool)
    moved = shuffle_residuals(r, mask, Noise(range(6)))
    assert moved.shape == r.shape and not torch.equal(moved, r)
    assert_close(moved.flatten().sort().values, r.flatten())
