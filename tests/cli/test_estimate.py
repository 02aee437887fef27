"""Memory and tokens of a run, compared with values counted by hand."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from textflow.cli.checks import persistent_bytes, run_step, sample_parameters, truncate_batch
from textflow.cli.estimate import (
    count_saved_bytes,
    device_count,
    format_bytes,
    include_frozen,
    num_bytes,
    optimizer_bytes,
    tokens_per_step,
)
from textflow.codecs import T5Codec
from textflow.models.generator import Generator
from textflow.nets import ELF, Frozen
from textflow.objectives import ELFObjective
from textflow.training import MuonAdam
from textflow.types import Batch


def test_tokens_devices_and_the_state_of_an_optimizer_are_counted() -> None:
    assert tokens_per_step(64, 1024, 1, 8, 1) == 524_288 and tokens_per_step(2, 3, 5, 7, 11) == 2310
    assert [device_count(d) for d in (8, "8", [0, 2], "0,1,3", "2,")] == [8, 8, 2, 3, 1]
    assert device_count("auto") == device_count(-1) == max(torch.cuda.device_count(), 1)
    assert format_bytes(1_500_000) == "1.5 MB" and format_bytes(2_340_000_000) == "2.3 GB"
    with torch.device("meta"):
        net = nn.Linear(30, 20)
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer = MuonAdam(net.parameters())
    optimizer.step()
    assert num_bytes(net.parameters()) == 4 * 620
    assert optimizer_bytes(optimizer) == 4 * (600 + 2 * 20)  # one moment a matrix, two for the rest


@pytest.mark.parametrize("mode", [nullcontext, FakeTensorMode])
def test_saved_bytes_are_counted_once_and_without_weights(mode: Callable[[], AbstractContextManager[Any]]) -> None:
    with mode():
        net, x = nn.Sequential(nn.Linear(10, 50), nn.Tanh(), nn.Linear(50, 7)), torch.randn(8, 10)
        with count_saved_bytes(net) as saved:
            net(x).sum()
        assert sum(saved.values()) == 4 * (8 * 10 + 8 * 50)  # x, and tanh's output for itself and for the next layer
        with count_saved_bytes(net) as saved, torch.no_grad():
            net(x)
        assert not saved


def test_frozen_modules_are_included_and_a_large_net_is_updated_in_one_parameter_a_shape() -> None:
    inner = nn.Linear(2, 2)
    assert include_frozen(nn.Sequential(Frozen(inner)))[1:] == [inner]
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 5))
    named = list(net.named_parameters())
    assert sample_parameters(named, 44) == named
    assert {name for name, _ in sample_parameters(named, 43)} == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.integration
def test_elf_b_has_the_bytes_counted_by_hand() -> None:
    with torch.device("meta"):
        model = Generator(32100, T5Codec, ELF, ELFObjective())
    block = 2 * 768 + 2 * 64 + 3 * 768 + 768 + 2 * 2048 + 768  # norms and biases; all else are matrices
    scalar = 4 * 768 + 2 * 768  # tokens, biases
    projections = 512 + 768 + 768 + 512 + 512 + 32100  # join, widen, norm, out, down, up
    parameters, others = 104_579_940, 12 * block + 2 * scalar + 4 * 768 + projections
    assert persistent_bytes(model) == {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": 4 * (parameters + others),  # Muon keeps one moment, Adam two
        "average": 4 * parameters,
    }


def test_a_step_that_is_not_finite_is_an_error() -> None:
    class Infinite(nn.Module):
        net, optimizer = nn.Linear(1, 1), staticmethod(lambda named: MuonAdam(named))

        def losses(self, net: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
            return {"loss": net.weight.sum() * torch.inf}

    with pytest.raises(ValueError, match="not finite; lower the learning rate"):
        run_step(Infinite(), Batch(torch.zeros(1, 1, dtype=torch.long), torch.ones(1, 1, dtype=torch.bool)))


def test_truncated_pairs_hold_their_targets() -> None:
    fixed = torch.arange(200)[None] < torch.tensor([150, 120])[:, None]
    ids = torch.arange(200).repeat(2, 1)
    part = truncate_batch(Batch(ids, torch.ones_like(fixed), fixed), 64)
    assert part.ids[0].tolist() == list(range(88, 152)) and part.prompt_mask.sum(1).tolist() == [62, 32]
    assert truncate_batch(Batch(ids, torch.ones_like(fixed)), 64).ids[1].tolist() == list(range(64))
