"""MuonAdam, the warm-up and the average against tensors of the published code."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.helpers.recordings import part, recorded
from textflow.reference.muon import PlainMuonAdam, newton_schulz
from textflow.training import MuonAdam, WarmupLR
from textflow.training.ema import update_ema
from textflow.training.newton_schulz import gram_is_cheaper, iterate, orthogonalize
from textflow.training.optim import memory_batches


def stored(name: str, tensor: Tensor) -> Tensor:
    """Ours are stored (out, in); the original's kernel_* are (in, out)."""
    return tensor.mT.contiguous() if name.startswith("kernel_") else tensor


class Toy(nn.Module):
    """The recorded parameters under names that a ParameterDict accepts."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(tensors)
        self.all = nn.ParameterList([stored(name, t).clone() for name, t in tensors.items()])


def rules(config: dict[str, Any]) -> dict[str, Any]:
    """The recorded numbers of Muon and Adam."""
    muon, adam = config["muon"], config["adam"]
    return {
        "momentum": muon["beta"],
        "ns_steps": muon["ns_steps"],
        "adam_betas": (adam["b1"], adam["b2"]),
        "eps": adam["eps"],
    }


def five_steps(missing_as_none: bool, as_pairs: bool) -> tuple[Toy, Toy, dict[str, Tensor], list[float]]:
    """Runs the recorded steps and compares after each one."""
    data, meta = recorded("elf_optim")
    config = meta["config"]
    net = Toy(part(data, "opt.before."))
    twin = copy.deepcopy(net)
    parameters = list(net.named_parameters()) if as_pairs else net.parameters()
    optimizer = MuonAdam(parameters, lr=config["lr"], weight_decay=config["weight_decay"], **rules(config))
    total = len(data["lr.cosine"]) - 1
    schedule = WarmupLR(optimizer, warmup_steps=config["warmup"], decay=config["schedule"], total_steps=total)
    rates = []
    for k in range(len(data["opt.lr"])):
        for name, p in zip(net.names, net.all, strict=True):
            p.grad = stored(name, data[f"opt.grads.{name}"][k]).clone()
            if missing_as_none and not p.grad.any():
                p.grad = None
        norm = nn.utils.clip_grad_norm_(net.parameters(), config["clip_norm"])
        assert_close(norm, data["opt.grad_norm"][k])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        update_ema(net, twin, config["ema_decay"])
        for name, p, average in zip(net.names, net.all, twin.all, strict=True):
            assert_close(p.data, stored(name, data[f"opt.after.{name}"][k]), atol=1e-6, rtol=1e-6)
            assert_close(average.data, stored(name, data[f"opt.ema.{name}"][k]), atol=1e-6, rtol=1e-6)
    return net, twin, data, rates


@pytest.mark.parity
@pytest.mark.parametrize("missing_as_none", [False, True])
@pytest.mark.parametrize("as_pairs", [False, True])
def test_five_steps_and_their_average_are_the_published_ones(missing_as_none: bool, as_pairs: bool) -> None:
    _, _, data, rates = five_steps(missing_as_none, as_pairs)
    assert rates == pytest.approx(data["opt.lr"].tolist(), rel=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["tall", "wide"])
def test_newton_schulz_is_the_published_one(name: str) -> None:
    data, meta = recorded("elf_optim")
    found = orthogonalize(data[f"ns.{name}.in"], meta["config"]["muon"]["ns_steps"])
    assert_close(found, data[f"ns.{name}.out"], atol=1e-6, rtol=1e-6)


def test_newton_schulz_of_zero_is_zero_and_a_batch_is_its_parts() -> None:
    u = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    u[1] = 0
    together = orthogonalize(u)
    assert not together[1].any()
    assert_close(together, torch.stack([orthogonalize(m) for m in u]), atol=1e-6, rtol=1e-5)


@pytest.mark.parity
@pytest.mark.parametrize("shape", ["constant", "cosine"])
def test_the_schedule_is_the_published_one(shape: str) -> None:
    data, meta = recorded("elf_optim")
    total = len(data[f"lr.{shape}"]) - 1
    optimizer = MuonAdam([nn.Parameter(torch.ones(2))], lr=meta["config"]["lr"])
    schedule = WarmupLR(optimizer, warmup_steps=meta["config"]["warmup"], decay=shape, total_steps=total)
    rates = []
    for _ in range(total + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(data[f"lr.{shape}"].tolist(), rel=1e-12)


def test_matrices_and_the_rest_are_told_apart_by_shape_and_name() -> None:
    net = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "linear": nn.Linear(4, 3)})
    optimizer = MuonAdam(net.named_parameters(), adam_names=["embedding"])
    assert [g["matrices"] for g in optimizer.param_groups] == [True, False]
    assert [g["param_names"] for g in optimizer.param_groups] == [
        ["linear.weight"],
        ["embedding.weight", "linear.bias"],
    ]
    with pytest.raises(ValueError, match="named_parameters"):
        MuonAdam(net.parameters(), adam_names=["embedding"])


def test_a_state_read_back_continues_to_the_bit() -> None:
    def fresh() -> tuple[nn.Linear, MuonAdam]:
        torch.manual_seed(0)
        net = nn.Linear(4, 3)
        return net, MuonAdam(net.named_parameters())

    def go(net: nn.Linear, optimizer: MuonAdam, steps: range) -> None:
        for k in steps:
            net.weight.grad, net.bias.grad = torch.full((3, 4), 0.1 * k), torch.arange(3.0) - k
            net.weight.grad[0, 0] = k
            optimizer.step()

    net, optimizer = fresh()
    go(net, optimizer, range(4))
    half, half_optimizer = fresh()
    go(half, half_optimizer, range(2))
    other, other_optimizer = fresh()
    other.load_state_dict(half.state_dict())
    other_optimizer.load_state_dict(copy.deepcopy(half_optimizer.state_dict()))
    go(other, other_optimizer, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_weight_decay_shrinks_by_lr_times_decay() -> None:
    p = nn.Parameter(torch.ones(3, 2))
    MuonAdam([p], lr=0.5, weight_decay=0.1).step()
    assert_close(p.data, torch.full((3, 2), 0.95))


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"ns_steps": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="needs lr >= 0"):
        MuonAdam([nn.Parameter(torch.ones(2, 2))], **wrong)


def test_a_cosine_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="total_steps=None"):
        WarmupLR(MuonAdam([nn.Parameter(torch.ones(2, 2))]), warmup_steps=3, decay="cosine")


def hard(rows: int, cols: int) -> Tensor:
    """A matrix with singular values from 1 down to 1e-6, and some that are 0."""
    draw = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=draw, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(cols, rows, generator=draw, dtype=torch.float64)).Q
    values = torch.logspace(0, -6, rows, dtype=torch.float64)
    values[-3:] = 0
    return (left * values @ right.T).float()


@pytest.mark.parametrize("easy", [True, False])
def test_gram_space_gives_the_same_update(easy: bool) -> None:
    u = torch.randn(64, 200, generator=torch.Generator().manual_seed(0)) if easy else hard(64, 200)
    assert gram_is_cheaper(u, 5)
    for matrix in (u, u.T):
        exact = newton_schulz(matrix.double())
        error = (orthogonalize(matrix).double() - exact).abs().max() / exact.abs().max()
        assert error < (1e-5 if easy else 1e-3)


def test_gram_space_is_entered_where_it_pays_and_is_exact_enough() -> None:
    wide = torch.zeros(64, 200)
    assert gram_is_cheaper(wide, 5)
    assert not gram_is_cheaper(wide, 6) and not gram_is_cheaper(wide, 1)  # rounding grows too much; nothing to save
    assert not gram_is_cheaper(torch.zeros(64, 96), 5) and not gram_is_cheaper(torch.zeros(63, 200), 5)
    u = torch.randn(64, 200, generator=torch.Generator().manual_seed(0))
    x = u.bfloat16()
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-8)
    assert torch.equal(orthogonalize(u, dtype=torch.bfloat16), iterate(x, 5).float())


def test_autocast_does_not_lower_the_products() -> None:
    u = torch.randn(3, 64, 200, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        lowered = orthogonalize(u)
    assert torch.equal(lowered, orthogonalize(u))


def test_the_update_is_the_plain_one() -> None:
    torch.manual_seed(0)
    nets = [nn.ModuleList([nn.Linear(200, 64), nn.Linear(200, 64), nn.Linear(64, 70)]) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    rules = [MuonAdam(nets[0].named_parameters(), lr=0.1), PlainMuonAdam(nets[1].named_parameters(), lr=0.1)]
    for _ in range(3):
        for ours, plain in zip(*(net.parameters() for net in nets), strict=True):
            ours.grad = torch.randn_like(ours)
            plain.grad = ours.grad.clone()
        for rule in rules:
            rule.step()
    for ours, plain in zip(*(net.parameters() for net in nets), strict=True):
        assert_close(ours.data, plain.data, atol=2e-6, rtol=1e-5)


def test_many_matrices_of_one_shape_go_in_batches_that_bound_the_memory() -> None:
    assert memory_batches(list(range(5)), torch.empty(1024, 512)) == [[0, 1], [2, 3], [4]]
    assert memory_batches([3, 4], torch.empty(4096, 768)) == [[3], [4]]
