"""MuonAdam, warm-up and EMA against tensors of the published code."""

import copy
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.helpers.recordings import part, recorded
from textflow.reference.muon import ReferenceMuon
from textflow.training import MuonAdam, WarmupLR
from textflow.training.ema import update_ema
from textflow.training.engines.distributed_muon import all_to_all, assign_matrices
from textflow.training.optim import memory_batches


def as_stored(name: str, tensor: Tensor) -> Tensor:
    """A recorded tensor in our layout: kernels are (out, in) rather than (in, out)."""
    return tensor.mT.contiguous() if name.startswith("kernel_") else tensor


def learning_rates(optimizer: MuonAdam, schedule: WarmupLR, step: Callable[[int], object], steps: int) -> list[float]:
    """Train a number of steps; return the learning rate of each."""
    rates = []
    for k in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        step(k)
        schedule.step()
    return rates


@pytest.mark.parity
@pytest.mark.parametrize(("missing_as_none", "as_pairs"), [(False, True), (True, False)])
def test_five_steps_and_their_ema_equal_the_published_ones(missing_as_none: bool, as_pairs: bool) -> None:
    data, meta = recorded("elf_optim")
    config, before = meta["config"], part(data, "opt.before.")
    net = nn.ParameterList([as_stored(name, tensor).clone() for name, tensor in before.items()])
    ema_net = copy.deepcopy(net)
    muon, adam = config["muon"], config["adam"]
    rules = dict(momentum=muon["beta"], ns_steps=muon["ns_steps"], adam_betas=(adam["b1"], adam["b2"]), eps=adam["eps"])
    params = list(net.named_parameters()) if as_pairs else net.parameters()
    optimizer = MuonAdam(params, lr=config["lr"], weight_decay=config["weight_decay"], **rules)
    total = len(data["lr.cosine"]) - 1
    schedule = WarmupLR(optimizer, warmup_steps=config["warmup"], decay=config["schedule"], total_steps=total)

    def step(k: int) -> None:
        for name, p in zip(before, net, strict=True):
            p.grad = as_stored(name, data[f"opt.grads.{name}"][k]).clone()
            if missing_as_none and not p.grad.any():
                p.grad = None
        assert_close(nn.utils.clip_grad_norm_(net.parameters(), config["clip_norm"]), data["opt.grad_norm"][k])
        optimizer.step()
        update_ema(net, ema_net, config["ema_decay"])
        for name, p, average in zip(before, net, ema_net, strict=True):
            assert_close(p.data, as_stored(name, data[f"opt.after.{name}"][k]), atol=1e-6, rtol=1e-6)
            assert_close(average.data, as_stored(name, data[f"opt.ema.{name}"][k]), atol=1e-6, rtol=1e-6)

    rates = learning_rates(optimizer, schedule, step, len(data["opt.lr"]))
    assert rates == pytest.approx(data["opt.lr"].tolist(), rel=1e-12)


@pytest.mark.parity
@pytest.mark.parametrize("decay", ["constant", "cosine"])
def test_the_schedule_equals_the_published_one(decay: Literal["constant", "cosine"]) -> None:
    data, meta = recorded("elf_optim")
    total = len(data[f"lr.{decay}"]) - 1
    optimizer = MuonAdam([nn.Parameter(torch.ones(2))], lr=meta["config"]["lr"])
    schedule = WarmupLR(optimizer, warmup_steps=meta["config"]["warmup"], decay=decay, total_steps=total)
    rates = learning_rates(optimizer, schedule, lambda k: optimizer.step(), total + 1)
    assert rates == pytest.approx(data[f"lr.{decay}"].tolist(), rel=1e-12)


def test_parameters_are_grouped_by_shape_and_name() -> None:
    net = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "linear": nn.Linear(4, 3)})
    optimizer = MuonAdam(net.named_parameters(), adam_names=["embedding"])
    assert [g["matrices"] for g in optimizer.param_groups] == [True, False]
    names = [group["param_names"] for group in optimizer.param_groups]
    assert names == [["linear.weight"], ["embedding.weight", "linear.bias"]]
    with pytest.raises(ValueError, match="named_parameters"):
        MuonAdam(net.parameters(), adam_names=["embedding"])


def test_a_loaded_state_resumes_bit_for_bit() -> None:
    def make() -> tuple[nn.Linear, MuonAdam]:
        torch.manual_seed(0)
        net = nn.Linear(4, 3)
        return net, MuonAdam(net.named_parameters())

    def train(net: nn.Linear, optimizer: MuonAdam, steps: range) -> None:
        for k in steps:
            net.weight.grad, net.bias.grad = torch.full((3, 4), 0.1 * k), torch.arange(3.0) - k
            net.weight.grad[0, 0] = k
            optimizer.step()

    (full, optimizer), (half, half_optimizer), (resumed, resumed_optimizer) = make(), make(), make()
    train(full, optimizer, range(4))
    train(half, half_optimizer, range(2))
    resumed.load_state_dict(half.state_dict())
    resumed_optimizer.load_state_dict(copy.deepcopy(half_optimizer.state_dict()))
    train(resumed, resumed_optimizer, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(full.parameters(), resumed.parameters(), strict=True))


def test_weight_decay_shrinks_by_lr_times_decay() -> None:
    p = nn.Parameter(torch.ones(3, 2))
    MuonAdam([p], lr=0.5, weight_decay=0.1).step()
    assert_close(p.data, torch.full((3, 2), 0.95))


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"ns_steps": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="needs lr >= 0"):
        MuonAdam([nn.Parameter(torch.ones(2, 2))], **wrong)


def cosine(total: int | None = None, training: int | None = None, warmup: int = 2) -> WarmupLR:
    """A cosine from 1 to 0."""
    optimizer = MuonAdam([nn.Parameter(torch.ones(2, 2))], lr=1.0)
    schedule = WarmupLR(optimizer, warmup_steps=warmup, decay="cosine", total_steps=total, min_lr_ratio=0.0)
    if training is not None:
        schedule.set_training_steps(training)
    return schedule


def rates(schedule: WarmupLR, steps: int) -> list[float]:
    return [schedule.factor(step) for step in range(steps + 1)]


def test_a_cosine_without_an_end_is_refused_outside_a_training() -> None:
    schedule = cosine()
    schedule.optimizer.step()
    with pytest.raises(ValueError, match="total_steps=None"):
        [(schedule.optimizer.step(), schedule.step()) for _ in range(3)]


def test_a_cosine_ends_with_the_training_unless_it_is_given_another_end() -> None:
    assert rates(cosine(training=8), 8) == rates(cosine(8), 8) == rates(cosine(8, training=20), 8)
    assert rates(cosine(training=12), 12)[8] > 0.2 and rates(cosine(training=12), 12)[12] == 0
    assert rates(cosine(8, training=20), 20)[8:] == [0.0] * 13
    assert rates(cosine(training=2, warmup=5), 2) == [0.0, 0.2, 0.4], "a training may end in the warmup"


def test_the_ends_of_schedule_and_training_are_both_named() -> None:
    assert cosine(training=8).describe() == "learning rate: warmup over 2 steps, then cosine to 0% at step 8"
    assert "at step 8 (total_steps); the training ends at step 20, 12 steps more" in cosine(8, training=20).describe()
    assert "the training ends at step 5, before the cosine does" in cosine(8, training=5).describe()
    assert "ends at step 2, before the warmup does" in cosine(training=2, warmup=5).describe()


@pytest.mark.parametrize(("total", "end"), [(None, 12), (10, 10)])
def test_a_longer_training_resumes_on_its_own_schedule(total: int | None, end: int) -> None:
    short, longer = cosine(total and 8, training=8), cosine(total, training=12)
    for _ in range(6):
        short.optimizer.step()
        short.step()
    longer.optimizer.load_state_dict(short.optimizer.state_dict())
    longer.load_state_dict(short.state_dict())
    assert longer.last_epoch == 6 and longer.optimizer.param_groups[0]["lr"] == cosine(end).factor(6) != short.factor(6)


def test_the_update_equals_the_reference() -> None:
    torch.manual_seed(0)
    nets = [nn.ModuleList([nn.Linear(200, 64), nn.Linear(200, 64), nn.Linear(64, 70)]) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    rules = [MuonAdam(nets[0].named_parameters(), lr=0.1), ReferenceMuon(nets[1].named_parameters(), lr=0.1)]
    for _ in range(3):
        for ours, reference in zip(*(net.parameters() for net in nets), strict=True):
            ours.grad = torch.randn_like(ours)
            reference.grad = ours.grad.clone()
        for rule in rules:
            rule.step()
    for ours, reference in zip(*(net.parameters() for net in nets), strict=True):
        assert_close(ours.data, reference.data, atol=2e-6, rtol=1e-5)


def test_batches_of_matrices_have_bounded_memory() -> None:
    assert memory_batches(list(range(5)), torch.empty(1024, 512)) == [[0, 1], [2, 3], [4]]
    assert memory_batches([3, 4], torch.empty(4096, 768)) == [[3], [4]]


def test_matrices_are_assigned_to_ranks_by_their_cost() -> None:
    shapes = [torch.Size(shape) for shape in [(8, 8), (4, 4), (4, 4), (4, 8), (2, 64), (4, 4)]]
    costs = [rows * cols * min(rows, cols) for rows, cols in shapes]
    assigned = assign_matrices(shapes, 2)
    work = [sum(costs[i] for i in indices) for indices in assigned]
    assert abs(work[0] - work[1]) <= max(costs) and min(work) > 0
    assert sorted(i for indices in assigned for i in indices) == list(range(6))
    assert assign_matrices(shapes, 1) == [list(range(6))]


def test_a_process_without_a_matrix_exchanges_tensors_of_the_same_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanged: list[torch.Tensor] = []
    monkeypatch.setattr(torch.distributed, "all_to_all_single", lambda *tensors: exchanged.extend(tensors[:2]))
    all_to_all([[], []], [0, 3], torch.empty(4, device="meta", dtype=torch.bfloat16))
    assert [(t.device.type, t.dtype, len(t)) for t in exchanged] == [("meta", torch.bfloat16, n) for n in (3, 0)]
