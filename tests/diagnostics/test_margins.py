"""Margins of hand-made runs, the early exit against the sampler's rule, and slopes of known readouts."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from textflow.codecs import LatentSpace
from textflow.diagnostics.margins import exit_calls, fit_threshold, sustained_margin, token_margins
from textflow.diagnostics.sensitivity import directional_slope, sensitivity
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import EarlyExit, Trace
from textflow.types import Latents, Logits, Posterior


def run(logits: Tensor, means: Tensor | None = None, own: bool = False) -> Trace:
    """A trace of K calls with these logits [K, B, L, V]."""
    K, B, L, _ = logits.shape
    means = torch.zeros(K, B, L, 2, dtype=torch.float64) if means is None else means
    beliefs = [Posterior(mean, each if own else None) for mean, each in zip(means, logits, strict=True)]
    return Trace(means[-1], [k / K for k in range(K)], list(means), beliefs)


def said(choices: list[list[int]], gap: float = 2.0) -> Tensor:
    """Logits of one row [K, 1, L, 3] that choose these tokens by this lead."""
    return gap * torch.nn.functional.one_hot(torch.tensor(choices), 3).double()[:, None]


def test_a_token_is_settled_when_all_later_choices_are_the_final_one() -> None:
    """By position: always right, wrong once in the middle, right at last only, never."""
    logits = said([[0, 1, 2, 2], [0, 0, 2, 2], [0, 1, 2, 2], [0, 1, 0, 2]])
    found = token_margins(run(logits), list(logits), final_ids=torch.tensor([[0, 1, 0, 1]]))
    assert found.settling_call.tolist() == [[0, 2, 3, 4]]
    assert found.agreement.sum((0, 1)).tolist() == [4, 3, 1, 0]
    default = token_margins(run(logits), list(logits))
    assert default.settling_call.tolist() == [[0, 2, 3, 0]] and default.agreement[-1].all()


def test_the_lead_is_that_of_log_probabilities() -> None:
    logits = 5 * Noise(range(4)).normal(3, 6, 9).double().transpose(0, 1)  # [K = 3, 4, 6, 9]
    found = token_margins(run(logits, own=True))
    top = logits.log_softmax(-1).sort(descending=True).values
    assert_close(found.margin, top[..., 0] - top[..., 1], rtol=1e-9, atol=1e-12)
    assert torch.equal(found.argmax_ids, logits.argmax(-1)) and found.margin.dtype == torch.float64


def test_beliefs_readers_and_lists_say_the_same() -> None:
    means = Noise(range(2)).normal(3, 5, 4).double().transpose(0, 1)
    codes = Noise([9]).normal(7, 4)[0].double()
    logits = means @ codes.T
    given = [
        token_margins(run(logits, means), list(logits)),
        token_margins(run(logits, means), lambda x: x @ codes.T),
        token_margins(run(logits, means, own=True)),
    ]
    assert all(torch.equal(given[0].margin, each.margin) for each in given[1:])
    assert_close(given[0].mean_shift[1], (means[2] - means[1]).square().sum(-1).sqrt(), rtol=1e-12, atol=0)
    assert given[0].mean_shift.shape == (2, 2, 5) and given[0].times == [0, 1 / 3, 2 / 3]
    with pytest.raises(ValueError, match="have no logits"):
        token_margins(run(logits, means))
    with pytest.raises(ValueError, match="all 3 calls of the trace, not of 2"):
        token_margins(run(logits, means), list(logits[:2]))


def test_the_summary_sees_text_alone() -> None:
    """Padding leads by nothing, disagrees and jumps; no number of the summary shows it."""
    logits = said([[0, 1, 0], [1, 1, 1]], gap=3.0)
    logits[:, :, 2] = 0.0
    means = torch.zeros(2, 1, 3, 2, dtype=torch.float64)
    means[1, 0, :, 0] = torch.tensor([1.0, 3.0, 100.0])
    found = token_margins(
        run(logits, means), list(logits), torch.tensor([[1, 1, 2]]), torch.tensor([[True, True, False]])
    )
    summary = {name: value.tolist() for name, value in found.summary().items()}
    expected = {
        "mean": [3, 3],
        "p10": [3, 3],
        "agreement": [0.5, 1],
        "settled_fraction": [0.5, 1],
        "mean_shift": [2],
    }
    assert summary == {name: pytest.approx(value) for name, value in expected.items()}


def test_latents_need_not_be_one_a_token() -> None:
    logits = said([[0, 1, 0], [1, 1, 1]])
    found = token_margins(run(logits, torch.stack([torch.zeros(1, 2, 4), torch.ones(1, 2, 4)])), list(logits))
    assert_close(found.summary()["mean_shift"], torch.tensor([2.0]).double(), rtol=1e-12, atol=0)


def rolls(B: int = 64, K: int = 12, L: int = 16, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Leads that grow, each row at its own speed, and choices that are wrong with probability exp(-lead) / 2."""
    noise = Noise(range(seed, seed + B))
    speed = 0.2 + noise.uniform(1, 1)
    leads = speed * torch.arange(K)[:, None] * (0.5 + noise.uniform(1, L)) + noise.uniform(K, L)
    agrees = noise.uniform(K, L) > (-leads).exp() / 2
    agrees[:, -1] = True
    return leads.transpose(0, 1), agrees.transpose(0, 1)


def test_the_exit_is_that_of_the_sampler() -> None:
    """Call by call against EarlyExit itself, evaluated from the second call."""
    leads, _ = rolls()
    logits = torch.stack([leads, torch.zeros_like(leads)], -1)
    for tau, patience, share in ((1.0, 2, 0.1), (2.5, 1, 0.3), (1.5, 3, 0.0), (99.0, 2, 0.1)):
        rule = EarlyExit(tau, share, patience)
        passes, state = list[int](), None
        for k in range(len(leads)):
            rows = torch.ones(64).bool() if state is None else state.streak < patience
            passes.append(int(rows.sum()))
            read = lambda z, t, belief, k=k, rows=rows: logits[k][rows]  # noqa: E731
            denoise = lambda z, t, *_: Posterior(z)  # noqa: E731
            state = rule(denoise, read, LinearPath(), torch.zeros(64, 16, 2), k / 12, state=state).carry
        found = exit_calls(leads, tau, torch.ones(64, 16).bool(), share, patience)
        assert passes == [int((found >= k).sum()) for k in range(len(leads))]
        assert tau > 50 or 0 < float(found.double().mean()) < 11


def test_the_threshold_is_the_smallest_that_errs_rarely_enough() -> None:
    """Against a search over many thresholds, none of which does better."""
    leads, agrees = rolls()
    found = fit_threshold(leads, agrees, tolerance=0.005)
    mask = torch.ones(64, 16).bool()

    def error(tau: float) -> float:
        stop = exit_calls(leads, tau, mask)
        right = agrees[stop, torch.arange(64)] | (stop == len(leads) - 1)[:, None]
        return float((~right).double().mean())

    assert found.disagreement == pytest.approx(error(found.margin), abs=1e-12) and found.disagreement <= 0.005
    assert error(found.margin - 1e-9) == error(found.margin) or error(found.margin - 1e-9) > 0.005
    taus = torch.linspace(0, 8, 400).tolist()
    assert all(error(tau) <= 0.005 for tau in taus if tau >= found.margin)
    assert max(error(tau) for tau in taus if tau < found.margin) > 0.005
    stop = exit_calls(leads, found.margin, mask)
    assert (
        found.mean_calls == pytest.approx(1 + float(stop.double().mean()))
        and 3 < found.mean_calls < 12 == found.full_calls
    )
    assert found.early_exit() == EarlyExit(found.margin, 0.1, 2)


def test_it_holds_on_rolls_that_it_has_not_seen() -> None:
    """Fitted at .5 %; 10 SE of 16384 tokens whose errors come in rows allow .8 %."""
    found = fit_threshold(*rolls(256), tolerance=0.005)
    leads, agrees = rolls(1024, seed=5000)
    stop = exit_calls(leads, found.margin, torch.ones(1024, 16).bool())
    right = agrees[stop, torch.arange(1024)] | (stop == len(leads) - 1)[:, None]
    assert 0.001 < float((~right).double().mean()) < 0.008


def test_a_run_that_never_agrees_never_stops_and_one_that_always_does_stops_at_once() -> None:
    leads, agrees = rolls()
    never = fit_threshold(leads, torch.zeros_like(agrees))
    assert (never.margin, never.disagreement, never.mean_calls) == (math.inf, 0, 12)
    always = fit_threshold(leads, torch.ones_like(agrees))
    assert always.mean_calls == 3, "two calls after t = 0, the earliest that it may"
    assert fit_threshold(leads + torch.inf, torch.zeros_like(agrees)).mean_calls == 12


def test_padding_neither_holds_a_row_back_nor_counts() -> None:
    leads, agrees = rolls()
    mask = (torch.arange(16) < 10).expand(64, 16)
    spoilt, wrong = leads.masked_fill(~mask, -5.0), agrees & mask
    a, b = fit_threshold(spoilt, wrong, mask), fit_threshold(leads[..., :10], agrees[..., :10])
    assert (a.margin, a.disagreement, a.mean_calls, a.size) == (b.margin, b.disagreement, b.mean_calls, b.size)
    assert a.size.num_positions == 640 and a.size.num_sequences == 64
    empty = mask.clone()
    empty[0] = False
    assert sustained_margin(spoilt, empty, 0.1, 2, 1)[:, 0].isneginf().all()
    assert fit_threshold(spoilt, wrong, empty).size.num_sequences == 63


CODES = Noise([11]).normal(6, 4)[0].double()


def linear(x: Latents) -> Logits:
    return x @ CODES.T + torch.linspace(-1, 1, 6).double()


def text(rows: int = 3, length: int = 5) -> Latents:
    return Noise(range(rows)).normal(length, 4).double()


def test_slopes_of_a_linear_readout_are_its_weights() -> None:
    x, way = text(), text() @ Noise([4]).normal(4, 4)[0].double()
    found = directional_slope(linear, x, way, (0.0,))
    speed = torch.nn.functional.normalize(way, dim=-1) @ CODES.T
    own = speed.gather(-1, linear(x).argmax(-1, keepdim=True))
    assert_close(found, (own - speed).abs().amax(-1), rtol=1e-9, atol=0)
    assert_close(directional_slope(linear, x, 7 * way, (0.0, 0.3, 2.0)), found, rtol=1e-9, atol=0)


def test_nothing_flips_within_rho_along_any_direction() -> None:
    x, residual = text(40), text(40).flip(0)
    found = sensitivity(linear, x, residual, Noise(range(100, 140)), num_draws=1, batch_size=7)
    iso = Noise(range(100, 140)).normal(1, 5, 4)[:, 0].double()
    top = linear(x).topk(2).indices
    gradient = CODES[top[..., 0]] - CODES[top[..., 1]]
    before, flips = linear(x).argmax(-1), 0
    for name, way in (("isotropic", iso), ("residual", residual), ("gradient", gradient)):
        u = torch.nn.functional.normalize(way, dim=-1) * found.rho(name)[..., None]
        assert all(torch.equal(linear(x + s * u).argmax(-1), before) for s in (0.999, -0.999)), name
        flips += int((linear(x - 3 * u).argmax(-1) != before).sum())
    assert flips > 100, "farther out they do flip"


def test_with_two_tokens_rho_along_the_gradient_is_the_distance_to_the_boundary() -> None:
    w = CODES[:2]
    found = sensitivity(lambda x: x @ w.T, text(), text(), Noise(range(3)))
    exact = (text() @ (w[0] - w[1])).abs() / (w[0] - w[1]).norm()
    assert_close(found.rho("gradient"), exact, rtol=1e-9, atol=0)
    assert (found.rho("isotropic") > exact).all() and (found.rho("residual") > exact).all()
    assert_close(found.margin, (text() @ (w[0] - w[1])).abs(), rtol=1e-9, atol=0)


def test_slopes_are_those_of_finite_differences_and_the_steepest_offset_counts() -> None:
    """A readout that mixes positions and bends."""

    def read(x: Latents) -> Logits:
        return (x.tanh() + 0.3 * x.roll(1, 1).square()) @ CODES.T

    x, way = text(), torch.nn.functional.normalize(text().flip(0), dim=-1)
    y, h, found = read(x).argmax(-1, keepdim=True), 1e-6, []
    for at in (0.0, 0.5):
        speed = (read(x + (at + h) * way) - read(x + (at - h) * way)) / (2 * h)
        found.append((speed.gather(-1, y) - speed).abs().amax(-1))
        assert_close(directional_slope(read, x, way, (at,)), found[-1], rtol=1e-6, atol=1e-8)
    assert_close(directional_slope(read, x, way, (0.0, 0.5)), torch.maximum(*found), rtol=1e-6, atol=1e-8)
    assert (found[0] > found[1]).any() and (found[1] > found[0]).any()


def test_no_direction_has_no_slope_and_padding_does_not_move() -> None:
    still = sensitivity(linear, text(), torch.zeros(3, 5, 4).double(), Noise(range(3)))
    assert not still.slopes["residual"].any() and still.rho("residual").isinf().all()
    assert math.isinf(still.summary()["rho/residual"]) and still.summary()["slope/gradient"] > 0


def test_padding_does_not_move() -> None:
    """The first position attends to the last, which is padding: its slope is then that of its own move."""

    def near(x: Latents) -> Logits:
        return linear(x + 10 * x.roll(1, 1))

    mask = (torch.arange(5) < 4).expand(3, 5)
    free, held = (sensitivity(near, text(), text(), Noise(range(3)), m).slopes["residual"] for m in (None, mask))
    speed = torch.nn.functional.normalize(text(), dim=-1)[:, 0] @ CODES.T
    own = speed.gather(-1, near(text()).argmax(-1)[:, :1])
    assert_close(held[:, 0], (own - speed).abs().amax(-1), rtol=1e-9, atol=0)
    assert (free[:, 0] > 2 * held[:, 0]).any() and torch.equal(free[:, 1:4], held[:, 1:4])


def test_rows_do_not_depend_on_the_chunks() -> None:
    whole, parts = (sensitivity(linear, text(), text().flip(0), Noise(range(3)), batch_size=n) for n in (8, 2))
    for name, value in whole.slopes.items():
        assert_close(value, parts.slopes[name], rtol=1e-9, atol=0)


def test_the_networks_own_readout_can_be_measured_in_inference_mode() -> None:
    torch.manual_seed(0)
    net = ELF(LatentSpace(4, 9), width=8, depth=1, heads=2, bottleneck=4)
    read = lambda x: net.decode_logits(x, x.new_ones(len(x)))  # noqa: E731
    with torch.inference_mode():
        found = sensitivity(read, text().float(), text().float().flip(0), Noise(range(3)), num_draws=2)
    assert all((value > 0).all() and not value.requires_grad for value in found.slopes.values())
    assert (found.slopes["gradient"] > found.slopes["residual"]).double().mean() > 0.5
