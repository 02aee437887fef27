"""Which rows decode and which see their own guess; and the pass that dropout asks for."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from tests.helpers.sampling import GivenLatents
from textflow.codecs import LatentSpace
from textflow.nets import ELF, Denoiser
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.reference.elf import reference_elf_loss
from textflow.types import Batch, Conditioning, Latents, Posterior, Times

ROWS, LENGTH, DIM, VOCAB = 12, 5, 8, 20


def tiny(dropout: float = 0.0) -> ELF:
    torch.manual_seed(0)
    net = ELF(LatentSpace(DIM, VOCAB), width=16, depth=4, heads=2, bottleneck=8, dropout=dropout)
    nn.init.normal_(net.out.weight, std=0.3)  # it starts at 0, where no guess differs from another
    return net


def toy() -> tuple[Latents, Batch]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(VOCAB, (ROWS, LENGTH), generator=draw)
    mask = torch.arange(LENGTH)[None].expand(ROWS, LENGTH) < torch.randint(1, LENGTH + 1, (ROWS, 1), generator=draw)
    return torch.randn(ROWS, LENGTH, DIM, generator=draw), Batch(ids, mask)


@pytest.mark.parametrize(("rows", "decode", "again"), [(20, 4, 8), (48, 10, 19), (5, 1, 2), (3, 1, 1)])
def test_stratified_coins_take_the_expected_number_of_rows(rows: int, decode: int, again: int) -> None:
    torch.manual_seed(0)
    objective, x, chosen = ELFObjective(row_assignment="stratified"), torch.zeros(rows, 1, 1), set()
    for _ in range(20):
        draws = objective.sample_draws(x)
        assert int(draws.decode.sum()) == decode and int(draws.self_cond.sum()) == again
        assert not (draws.decode & draws.self_cond).any()
        chosen |= set(draws.self_cond.nonzero().flatten().tolist()) | set(draws.decode.nonzero().flatten().tolist())
    assert chosen == set(range(rows)), "some rows are never taken"


def test_a_batch_too_small_for_stratified_coins_is_refused_in_training_and_validates() -> None:
    objective, x = ELFObjective(row_assignment="stratified"), torch.zeros(2, 1, 1)
    with pytest.raises(ValueError, match=r"0 decoding and 1 self-conditioned of 2 rows.* larger --data.batch_size"):
        objective.sample_draws(x)
    assert not objective.eval().sample_draws(x).decode.any()
    assert (
        int(
            ELFObjective(self_cond_prob=0.0, row_assignment="stratified")
            .sample_draws(torch.zeros(9, 1, 1))
            .decode.sum()
        )
        == 2
    )


def test_exact_coins_have_the_right_means_and_are_not_tied() -> None:
    torch.manual_seed(0)
    n = 40_000
    draws = ELFObjective(decode_prob=0.3, self_cond_prob=0.4).sample_draws(torch.zeros(n, 1, 1))
    for taken, share in ((draws.decode, 0.3), (draws.self_cond, 0.7 * 0.4)):
        assert abs(float(taken.double().mean()) - share) < 4 * math.sqrt(share * (1 - share) / n)
    assert not (draws.decode & draws.self_cond).any()
    small = [int(ELFObjective().sample_draws(torch.zeros(10, 1, 1)).decode.sum()) for _ in range(50)]
    assert len(set(small)) > 2, "one toss a row gives another number of rows each time"


@pytest.mark.parametrize("coins", ["bernoulli", "stratified"])
def test_shares_of_0_and_1_are_none_and_all(coins: str) -> None:
    x = torch.zeros(9, 1, 1)
    none, every = (
        ELFObjective(decode_prob=s, self_cond_prob=1.0, row_assignment=coins).sample_draws(x) for s in (0.0, 1.0)
    )
    assert not none.decode.any() and none.self_cond.all()
    assert every.decode.all() and not every.self_cond.any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_batch_of_one_kind_of_rows_still_gives_finite_losses_and_gradients(share: float) -> None:
    net, (x, batch) = tiny(), toy()
    losses = ELFObjective(decode_prob=share)(net, GivenLatents(x), LinearPath(), batch, 0)
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert losses["mse" if share else "decode_ce"] == 0 and losses["decode_ce" if share else "mse"] > 0
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def passes(net: ELF, error: str = "v") -> tuple[list[int], dict[str, torch.Tensor]]:
    """Rows of each pass through the trunk, and the losses, of one and the same draws."""
    x, batch = toy()
    objective, rows, trunk = ELFObjective(loss_space=error, row_assignment="stratified"), [], net.forward_hidden

    def counted(z: Latents, *rest: object) -> torch.Tensor:
        rows.append(len(z))
        return trunk(z, *rest)

    torch.manual_seed(3)
    draws = objective.sample_draws(x)
    net.forward_hidden = counted  # type: ignore[method-assign]
    losses = objective.loss(net, LinearPath(), x, batch, draws)
    losses["loss"].backward()
    return rows, losses


@pytest.mark.parametrize("error", ["v", "x0"])
def test_dropout_takes_the_explicit_second_pass(error: str) -> None:
    rows, losses = passes(tiny(dropout=0.5).train(), error)
    assert rows == [5, ROWS, 5]  # 5 of the 10 denoising rows see their own guess: once, with gradient, twice
    assert all(value.isfinite() for value in losses.values())
    assert passes(tiny().train(), error)[0] == [5, ROWS]
    assert passes(tiny(dropout=0.5).eval(), error)[0] == [5, ROWS]


def test_a_net_repeats_itself_unless_it_drops() -> None:
    assert tiny().train().is_deterministic and tiny(dropout=0.5).eval().is_deterministic
    net = tiny(dropout=0.5).train()
    assert not net.is_deterministic
    (x, _), t = toy(), torch.full((ROWS,), 0.5)
    assert not torch.equal(net(x, t).mean, net(x, t).mean), "nothing is dropped"


class Shy(ELF):
    """An ELF that does not say that its passes repeat."""

    @property
    def is_deterministic(self) -> bool:
        return False


@pytest.mark.parametrize("error", ["v", "x0"])
def test_the_explicit_pass_gives_the_losses_of_the_lean_one(error: str) -> None:
    lean, shy = tiny(), Shy(LatentSpace(DIM, VOCAB), width=16, depth=4, heads=2, bottleneck=8)
    shy.load_state_dict(lean.state_dict())
    (few, ours), (many, theirs) = passes(lean, error), passes(shy, error)
    assert len(few) == 2 and len(many) == 3
    for name in ours:
        assert_close(ours[name], theirs[name], rtol=1e-5, atol=1e-6)
    for p, q in zip(lean.parameters(), shy.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_the_error_in_x_is_the_error_in_velocity_weighed_by_time() -> None:
    (x, batch), path, t = toy(), LinearPath(), 0.5
    losses = {}
    for error in ("v", "x0"):
        objective = ELFObjective(loss_space=error)
        torch.manual_seed(3)
        draws = objective.sample_draws(x)._replace(t=torch.full((ROWS,), t))
        losses[error] = objective.loss(tiny(), path, x, batch, draws)["mse"]
        if error == "v":
            assert_close(
                losses[error], reference_elf_loss(objective, tiny(), path, x, batch, draws)["mse"], rtol=1e-5, atol=0
            )
    assert_close(losses["v"] * (1 - t) ** 2, losses["x0"], rtol=1e-5, atol=0)


class Mute(Denoiser):
    """Gives a mean and nothing else."""

    dim = DIM

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(z)


def test_a_net_without_a_decode_mode_is_refused() -> None:
    x, batch = toy()
    with pytest.raises(ValueError, match="decode mode.*Mute has none"):
        ELFObjective()(Mute(), GivenLatents(x), LinearPath(), batch, 0)
