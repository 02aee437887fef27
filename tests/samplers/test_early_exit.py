"""Early exit: settled rows take no further passes, and nothing else changes."""

from typing import Any

import pytest
import torch

from tests.helpers.systems import make
from textflow.escapes import Commit
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import EarlyExit, Euler, Trace, sample
from textflow.types import Latents, Logits, Posterior

PATH = LinearPath(noise_scale=1.0, min_one_minus_t=1e-9)
TIMES = [i / 8 for i in range(9)]
SPEED = torch.tensor([40.0, 6.0, 0.1])  # the margin of row b is SPEED[b] t


def net(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
    """Row by row, coordinate by coordinate; the last coordinate carries the row's speed and does not move."""
    moved = torch.tanh(z + t) + (0 if self_cond is None else 0.1 * self_cond)
    return Posterior(torch.cat([moved[..., :-1], z[..., -1:]], -1))


def tokens(z: Latents, t: float, belief: Posterior) -> Logits:
    margin = t * z[..., -1]
    return torch.stack([0 * margin, margin, -margin], -1)


def start() -> Latents:
    z = Noise([1, 2, 3]).normal(5, 3).double()
    return torch.cat([z[..., :-1], SPEED[:, None, None].expand(3, 5, 1).double()], -1)


class Exiting:
    """A denoiser with early exit; `rows` are the numbers of rows that the net evaluated, one a call."""

    def __init__(self, rule: EarlyExit, logits: Any = tokens) -> None:
        self.rule, self.logits, self.rows = rule, logits, list[int]()

    def __call__(
        self, z: Latents, t: float, self_cond: Latents | None = None, t_next: float | None = None, carry: Any = None
    ) -> Posterior:
        self.rows.append(0)
        return self.rule(self.net, self.logits, PATH, z, t, self_cond, t_next, carry)

    def net(self, z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        self.rows[-1] = len(z)
        return net(z, t, self_cond)

    def calls(self, zs: list[Latents], times: list[float]) -> list[Posterior]:
        """Successive calls, each with the carry of the previous one."""
        beliefs, carry = list[Posterior](), None
        for z, t in zip(zs, times, strict=True):
            beliefs.append(self(z, t, carry=carry))
            carry = beliefs[-1].carry
        return beliefs


def run(rule: EarlyExit, z: Latents | None = None) -> tuple[Exiting, Trace]:
    exiting, z = Exiting(rule), start() if z is None else z
    return exiting, sample(exiting, Euler(), PATH, TIMES, z, Noise(range(len(z))))


def test_each_row_exits_after_its_own_patience() -> None:
    """The margin is 40 t, 6 t, .1 t: at least 2 from t = 1/8, from t = 3/8, never."""
    exiting, trace = run(EarlyExit(margin=2.0, patience=2))
    #  t        0  1/8 1/4 3/8 1/2 5/8 3/4 7/8
    assert exiting.rows == [3, 3, 3, 2, 2, 1, 1, 1]
    for row, last in ((0, 2), (1, 4)):
        for belief in trace.beliefs[last:]:
            assert torch.equal(belief.mean[row], trace.beliefs[last].mean[row])
        assert not torch.equal(trace.beliefs[last - 1].mean[row], trace.beliefs[last].mean[row])
    assert not torch.equal(trace.beliefs[-1].mean[2], trace.beliefs[-2].mean[2])


def settled_logits(z: Latents, settled: bool) -> Logits:
    return torch.tensor([9.0 if settled else 0.1, 0.0]).expand(*z.shape[:2], 2)


def test_patience_counts_successive_calls() -> None:
    settled = iter([True, False, True, True, True])
    exiting = Exiting(EarlyExit(margin=1.0, patience=2), lambda z, t, belief: settled_logits(z, next(settled)))
    exiting.calls([start()[:1]] * 5, [0.5] * 5)
    assert exiting.rows == [1, 1, 1, 1, 0]


def test_a_call_at_t_0_does_not_count() -> None:
    exiting = Exiting(EarlyExit(margin=1.0, patience=1), lambda z, t, belief: settled_logits(z, True))
    assert exiting.calls([start()] * 3, [0.0, 0.1, 0.2])[0].logits is None
    assert exiting.rows == [3, 3, 0]


def test_a_margin_that_no_row_reaches_changes_nothing() -> None:
    exiting, trace = run(EarlyExit(margin=1e9))
    plain = sample(net, Euler(), PATH, TIMES, start(), Noise([0, 1, 2]))
    assert torch.equal(trace.z, plain.z) and exiting.rows == [3] * 8
    assert all(torch.equal(a.mean, b.mean) for a, b in zip(trace.beliefs, plain.beliefs, strict=True))


def test_a_row_does_not_depend_on_its_batch() -> None:
    together = run(EarlyExit(margin=2.0))[1]
    for row in range(3):
        alone = run(EarlyExit(margin=2.0), start()[row : row + 1])[1]
        assert torch.equal(together.z[row], alone.z[0])


def test_earlier_beliefs_are_not_overwritten() -> None:
    exiting = Exiting(EarlyExit(margin=2.0))
    beliefs = exiting.calls([start()] * 3, [0.1, 0.3, 0.5])
    copies = [(belief.mean.clone(), belief.logits.clone()) for belief in beliefs if belief.logits is not None]
    exiting(start() + 1, 0.6, carry=beliefs[-1].carry)
    assert exiting.rows[-1] == 2 and len(copies) == 3
    assert all(torch.equal(b.mean, m) and torch.equal(b.logits, k) for b, (m, k) in zip(beliefs, copies, strict=True))


def test_a_fraction_of_the_positions_may_have_a_smaller_margin() -> None:
    """One of five positions has no margin: the quantile is 0 only below 1 / 4."""
    logits = torch.stack([torch.tensor([5.0, 5.0, 0.0, 5.0, 5.0]), torch.zeros(5)], -1)[None]
    for quantile, settled in ((0.0, False), (0.1, False), (0.25, True), (1.0, True)):
        assert bool(EarlyExit(margin=4.0, quantile=quantile).settled(logits)) is settled


def test_an_escape_after_it_draws_for_all_rows() -> None:
    """A sampled choice of an active row is the same whether or not another row has exited."""
    ends = []
    for margin in (2.0, 1e9):
        noise, exiting = Noise([1, 2, 3]), Exiting(EarlyExit(margin))

        def denoise(z: Latents, *args: Any, noise=noise, exiting=exiting) -> Posterior:
            belief = exiting(z, *args)
            embed = lambda ids: torch.cat([ids[..., None].double().expand(*ids.shape, 2), z[..., -1:]], -1)  # noqa: E731
            return Commit("sample")(belief, args[0], lambda: belief.logits, embed, noise)

        ends.append(sample(denoise, Euler(), PATH, TIMES, start(), noise))
        assert (min(exiting.rows) < 3) == (margin == 2.0)
    assert torch.equal(ends[0].z[2], ends[1].z[2])


@pytest.mark.parametrize("wrong", [{"quantile": 1.5}, {"quantile": -0.1}, {"patience": 0}])
def test_a_wrong_rule_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="EarlyExit got"):
        EarlyExit(margin=1.0, **wrong)


@pytest.mark.parametrize("system", ["ELF", "LangFlow"])
def test_an_exit_that_no_text_takes_changes_no_token(system: str) -> None:
    plain, exiting = make(system), make(system, early_exit=EarlyExit(1e9))
    assert torch.equal(exiting.sample([1, 2], 3).ids, plain.sample([1, 2], 3).ids)
