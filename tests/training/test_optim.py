"""MuonAdam, the warm-up and the average against tensors of the published code."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.recorded import part, recorded
from textflow.training import MuonAdam, Warmup
from textflow.training.ema import follow
from textflow.training.optim import orthogonalise


def stored(name: str, tensor: Tensor) -> Tensor:
    """Ours are stored (out, in); the original's kernel_* are (in, out)."""
    return tensor.mT.contiguous() if name.startswith("kernel_") else tensor


class Toy(nn.Module):
    """The recorded parameters under names that a ParameterDict accepts."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self.names = list(tensors)
        self.all = nn.ParameterList([stored(name, t).clone() for name, t in tensors.items()])


def five_steps(missing_as_none: bool, as_pairs: bool) -> tuple[Toy, Toy, dict[str, Tensor], list[float]]:
    """Runs the recorded steps and compares after each one."""
    data, meta = recorded("elf_optim_tiny")
    config = meta["config"]
    net = Toy(part(data, "opt.before."))
    twin = copy.deepcopy(net)
    optimizer = MuonAdam(list(net.named_parameters()) if as_pairs else net.parameters(), lr=config["lr"])
    schedule = Warmup(optimizer, steps=config["warmup"])
    rates = []
    for k in range(5):
        for name, p in zip(net.names, net.all, strict=True):
            p.grad = stored(name, data[f"opt.grads.{name}"][k]).clone()
            if missing_as_none and not p.grad.any():
                p.grad = None
        norm = nn.utils.clip_grad_norm_(net.parameters(), config["clip_norm"])
        assert_close(norm, data["opt.grad_norm"][k])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        follow(net, twin, config["ema_decay"])
        for name, p, average in zip(net.names, net.all, twin.all, strict=True):
            assert_close(p.data, stored(name, data[f"opt.after.{name}"][k]), atol=1e-6, rtol=1e-6)
            assert_close(average.data, stored(name, data[f"opt.ema.{name}"][k]), atol=1e-6, rtol=1e-6)
    return net, twin, data, rates


@pytest.mark.parametrize("missing_as_none", [False, True])
@pytest.mark.parametrize("as_pairs", [False, True])
def test_five_steps_and_their_average_are_the_published_ones(missing_as_none: bool, as_pairs: bool) -> None:
    _, _, data, rates = five_steps(missing_as_none, as_pairs)
    assert rates == pytest.approx(data["opt.lr"].tolist(), rel=1e-12)


@pytest.mark.parametrize("name", ["tall", "wide"])
def test_newton_schulz_is_the_published_one(name: str) -> None:
    data, _ = recorded("elf_optim_tiny")
    assert_close(orthogonalise(data[f"ns.{name}.in"]), data[f"ns.{name}.out"], atol=1e-6, rtol=1e-6)


def test_newton_schulz_of_zero_is_zero_and_a_batch_is_its_parts() -> None:
    u = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0))
    u[1] = 0
    together = orthogonalise(u)
    assert not together[1].any()
    assert_close(together, torch.stack([orthogonalise(m) for m in u]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shape", ["constant", "cosine"])
def test_the_schedule_is_the_published_one(shape: str) -> None:
    data, _ = recorded("elf_optim_tiny")
    optimizer = MuonAdam([nn.Parameter(torch.ones(2))], lr=0.002)
    schedule = Warmup(optimizer, steps=3, shape=shape, total=20 if shape == "cosine" else None)
    rates = []
    for _ in range(21):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == 0
    assert rates == pytest.approx(data[f"lr.{shape}"].tolist(), rel=1e-12)


def test_matrices_and_the_rest_are_told_apart_by_shape_and_name() -> None:
    net = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "linear": nn.Linear(4, 3)})
    optimizer = MuonAdam(net.named_parameters(), adam=["embedding"])
    assert [g["matrices"] for g in optimizer.param_groups] == [True, False]
    assert [g["param_names"] for g in optimizer.param_groups] == [
        ["linear.weight"],
        ["embedding.weight", "linear.bias"],
    ]
    with pytest.raises(ValueError, match="named_parameters"):
        MuonAdam(net.parameters(), adam=["embedding"])


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


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"beta": 1.0}, {"steps": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="needs lr >= 0"):
        MuonAdam([nn.Parameter(torch.ones(2, 2))], **wrong)


def test_a_cosine_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="total=None"):
        Warmup(MuonAdam([nn.Parameter(torch.ones(2, 2))]), steps=3, shape="cosine")
