"""FastDiSS's noise scaling on two tokens: the law that its objective is least for is not the exact posterior."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from textflow.nets import Denoiser
from textflow.objectives import CrossEntropy, FastDiSS
from textflow.oracle import GaussianAtoms
from textflow.paths import LinearPath
from textflow.types import Batch, Conditioning, Latents, Posterior, Times

PATH, CODEC = LinearPath(noise_scale=1.0), GaussianAtoms(torch.tensor([[-1.0], [1.0]]))
TIMES, ODDS, LARGEST = 80, 120, 8.0  # bins of times, of log odds, and the largest log odds with a bin


class TwoTokens(Denoiser):
    """Tokens at -1 and 1, one a row, from log odds of the second as a function of the exact ones and of time."""

    dim = 1

    def __init__(self, log_odds: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.log_odds = log_odds

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        half = self.log_odds(*evidence(z, t)) / 2
        return Posterior(half.tanh()[..., None], torch.stack([-half, half], -1))


def evidence(z: Latents, t: Times) -> tuple[Tensor, Tensor]:
    """Log odds of the exact posterior, at most LARGEST, and times, both [B, 1]."""
    t = t.reshape(-1, 1)
    return (2 * t * z[..., 0] / (1 - t).clamp_min(1e-3) ** 2).clamp(-LARGEST, LARGEST), t


def noise_scaled(scaling: float) -> CrossEntropy:
    return CrossEntropy(self_conditioning=FastDiSS(0.0, scaling))


def texts(rows: int) -> Batch:
    ids = torch.randint(2, (rows, 1))
    return Batch(ids, ids >= 0)


def counted_law(scaling: float, rounds: int = 12, rows: int = 400_000) -> TwoTokens:
    """The law of the token given z and its own time, by counting at the times that its own predictions give."""
    objective, net, counts = noise_scaled(scaling), TwoTokens(lambda odds, t: odds), torch.zeros(2, TIMES * ODDS)
    torch.manual_seed(0)
    for number in range(rounds):
        batch = texts(rows)
        x = CODEC.encode(batch.ids)
        with torch.no_grad():
            z, t, _ = objective.noisy_input(net, PATH, x, batch, objective.sample_draws(x))
        if number <= 4:  # the first rounds have the times of other laws
            counts.zero_()
        counts.index_put_((batch.ids[:, 0], cell(*evidence(z, t))[:, 0]), torch.ones(rows), accumulate=True)
        both = counts.view(2, TIMES, ODDS)
        second = both[1] + both[0].flip(1)  # reflection exchanges the tokens
        start = torch.linspace(-LARGEST, LARGEST, ODDS).sigmoid()
        table = ((second + start) / (second.flip(1) + 1 - start)).log().flatten()
        net = TwoTokens(lambda odds, t, table=table: table[cell(odds, t)])
    return net


def cell(odds: Tensor, t: Tensor) -> Tensor:
    """Index of the bin."""
    place = ((odds + LARGEST) / (2 * LARGEST) * ODDS).long().clamp(0, ODDS - 1)
    return (t * TIMES).long().clamp(0, TIMES - 1) * ODDS + place


@torch.no_grad()
def losses(objective: CrossEntropy, net: TwoTokens) -> Tensor:
    """Loss of each of 40 batches of 5,000 rows, the same for every net."""
    torch.manual_seed(1)
    return torch.stack([objective(net, CODEC, PATH, texts(5000), 0)["loss"] for _ in range(40)])


@pytest.mark.slow
def test_noise_scaling_moves_the_optimum_of_the_objective_away_from_the_posterior() -> None:
    plain, exact = CrossEntropy(), TwoTokens(lambda odds, t: odds)
    best, bias = {scaling: counted_law(scaling) for scaling in (0.1, 0.3)}, dict[float, float]()
    for scaling, law in best.items():
        gain = losses(noise_scaled(scaling), exact) - losses(noise_scaled(scaling), law)
        assert float(gain.mean()) > 4 * float(gain.std()) / 40**0.5
        bias[scaling] = float(losses(plain, law).mean() / losses(plain, exact).mean() - 1)  # at equal times
    assert 0 < bias[0.1] < 0.01 and 0.03 < bias[0.3] < 0.15
