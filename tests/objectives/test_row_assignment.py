"""Assignment of rows to decoding and to self-conditioning, and the second pass that dropout needs."""

import math
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from tests.helpers.sampling import GivenLatents
from tests.helpers.tiny_elf import random_batch, tiny_elf
from textflow.nets import ELF, Denoiser
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.reference.elf import reference_elf_loss
from textflow.types import Conditioning, Latents, Posterior, Times

ROWS, LENGTH, DIM, VOCAB = 12, 5, 8, 20


X, BATCH = random_batch(ROWS, LENGTH, DIM, VOCAB)


def make_net(**options: Any) -> ELF:
    return tiny_elf(DIM, VOCAB, depth=4, std=0.3, **options)


@pytest.mark.parametrize(("rows", "decode", "self_cond"), [(20, 4, 8), (48, 10, 19), (5, 1, 2), (3, 1, 1)])
def test_stratified_assignment_takes_the_expected_number_of_rows(rows: int, decode: int, self_cond: int) -> None:
    torch.manual_seed(0)
    objective, x, rows_taken = ELFObjective(row_assignment="stratified"), torch.zeros(rows, 1, 1), set[int]()
    for _ in range(20):
        draws = objective.sample_draws(x)
        assert int(draws.decode.sum()) == decode and int(draws.self_cond.sum()) == self_cond
        assert not (draws.decode & draws.self_cond).any()
        rows_taken |= set((draws.self_cond | draws.decode).nonzero().flatten().tolist())
    assert rows_taken == set(range(rows)), "some rows are never taken"


def test_a_batch_too_small_for_stratified_assignment_is_refused_only_in_training() -> None:
    objective, x = ELFObjective(row_assignment="stratified"), torch.zeros(2, 1, 1)
    with pytest.raises(ValueError, match=r"0 decoding and 1 self-conditioned of 2 rows.* larger --data.batch_size"):
        objective.sample_draws(x)
    assert not objective.eval().sample_draws(x).decode.any()
    objective = ELFObjective(self_cond_prob=0.0, row_assignment="stratified")
    assert int(objective.sample_draws(torch.zeros(9, 1, 1)).decode.sum()) == 2


def test_bernoulli_assignment_has_the_right_means_and_varying_counts() -> None:
    torch.manual_seed(0)
    n = 40_000
    draws = ELFObjective(decode_prob=0.3, self_cond_prob=0.4).sample_draws(torch.zeros(n, 1, 1))
    for rows, probability in ((draws.decode, 0.3), (draws.self_cond, 0.7 * 0.4)):
        assert abs(float(rows.double().mean()) - probability) < 4 * math.sqrt(probability * (1 - probability) / n)
    assert not (draws.decode & draws.self_cond).any()
    counts = {int(ELFObjective().sample_draws(torch.zeros(10, 1, 1)).decode.sum()) for _ in range(50)}
    assert len(counts) > 2, "the number of rows is random"


@pytest.mark.parametrize("row_assignment", ["bernoulli", "stratified"])
def test_probabilities_0_and_1_take_no_row_and_all_rows(row_assignment: str) -> None:
    for p in (0.0, 1.0):
        objective = ELFObjective(decode_prob=p, self_cond_prob=1.0, row_assignment=row_assignment)
        draws = objective.sample_draws(torch.zeros(9, 1, 1))
        assert (draws.decode == bool(p)).all() and (draws.self_cond != bool(p)).all()


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("decode_prob", [0.0, 1.0])
def test_a_batch_of_one_kind_of_rows_gives_finite_losses_and_gradients(decode_prob: float, head: bool) -> None:
    net = make_net(commitment_head=head)
    losses = ELFObjective(decode_prob=decode_prob)(net, GivenLatents(X), LinearPath(), BATCH, 0)
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert (losses["mse"] == 0, losses["decode_ce"] == 0) == (decode_prob == 1, decode_prob == 0)
    assert not head or (losses["commitment_head_ce"] == 0) == (decode_prob == 1)
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


def passes(net: ELF, error: str = "v") -> tuple[list[int], dict[str, torch.Tensor]]:
    """Number of rows of each pass, and the losses, of the same draws."""
    objective, rows, forward = ELFObjective(loss_space=error, row_assignment="stratified"), [], net.forward_hidden
    torch.manual_seed(3)
    draws = objective.sample_draws(X)
    net.forward_hidden = lambda z, *rest: rows.append(len(z)) or forward(z, *rest)  # type: ignore[method-assign]
    losses = objective.loss(net, LinearPath(), X, BATCH, draws)
    losses["loss"].backward()
    return rows, losses


@pytest.mark.integration
@pytest.mark.parametrize("error", ["v", "x0"])
def test_dropout_takes_the_explicit_second_pass(error: str) -> None:
    rows, losses = passes(make_net(dropout=0.5).train(), error)
    assert rows == [5, ROWS, 5]  # 5 of the 10 denoising rows are self-conditioned
    assert all(value.isfinite() for value in losses.values())
    assert passes(make_net().train(), error)[0] == [5, ROWS]
    assert passes(make_net(dropout=0.5).eval(), error)[0] == [5, ROWS]


def test_a_net_is_deterministic_unless_it_draws_dropout() -> None:
    assert make_net().train().is_deterministic and make_net(dropout=0.5).eval().is_deterministic
    net = make_net(dropout=0.5).train()
    assert not net.is_deterministic
    t = torch.full((ROWS,), 0.5)
    assert not torch.equal(net(X, t).mean, net(X, t).mean), "nothing is dropped"


@pytest.mark.parametrize("error", ["v", "x0"])
def test_the_second_pass_changes_no_loss_without_dropout(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    two, three = make_net(), make_net()
    short = passes(two, error)
    monkeypatch.setattr(ELF, "is_deterministic", False)
    long = passes(three, error)
    assert len(short[0]) == 2 and len(long[0]) == 3
    for name, loss in short[1].items():
        assert_close(loss, long[1][name], rtol=1e-5, atol=1e-6)
    for p, q in zip(two.parameters(), three.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None)
        assert p.grad is None or torch.allclose(p.grad, q.grad, rtol=1e-4, atol=1e-6)


def test_the_error_in_x_is_the_error_in_velocity_weighted_by_time() -> None:
    t, losses = 0.5, {}
    for error in ("v", "x0"):
        torch.manual_seed(3)
        draws = ELFObjective().sample_draws(X)._replace(t=torch.full((ROWS,), t))
        losses[error] = ELFObjective(loss_space=error).loss(make_net(), LinearPath(), X, BATCH, draws)["mse"]
    assert_close(losses["v"] * (1 - t) ** 2, losses["x0"], rtol=1e-5, atol=0)
    expected = reference_elf_loss(ELFObjective(), make_net(), LinearPath(), X, BATCH, draws)["mse"]
    assert_close(losses["v"], expected, rtol=1e-5, atol=0)


class MeanOnly(Denoiser):
    """A denoiser without a decode mode."""

    dim = DIM

    def forward(self, z: Latents, t: Times, cond: Conditioning = Conditioning()) -> Posterior:
        return Posterior(z)


def test_a_net_without_a_decode_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="decode mode.*MeanOnly has none"):
        ELFObjective()(MeanOnly(), GivenLatents(X), LinearPath(), BATCH, 0)
