"""Blocks as CUDA graphs: outputs and gradients survive the next pass, and changing shapes or weights are refused."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function
from torch.testing import assert_close

from tests.helpers.tiny_elf import gradients, predict, tiny_elf
from textflow.layers import kernels
from textflow.nets import ELF
from textflow.types import Conditioning


def test_graphs_and_recomputing_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="activation_checkpointing"):
        tiny_elf(compile_blocks="graphs", activation_checkpointing=True)


class Overwritten(Function):
    """The output of a graph, which its next run overwrites."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, memory: dict[Any, Tensor]) -> Tensor:
        return put(memory, "states", states)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad, None


def put(memory: dict[Any, Tensor], key: Any, value: Tensor) -> Tensor:
    buffer = memory.setdefault((key, value.shape), torch.empty_like(value))
    return buffer.copy_(value).view_as(buffer)


@pytest.fixture
def graphs(as_if_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> ELF:
    """A net whose blocks overwrite their earlier outputs and gradients, as CUDA graphs do."""
    memory: dict[Any, Tensor] = {}

    def run(*parts: Any) -> Tensor:
        return Overwritten.apply(kernels.run_blocks(*parts), memory)

    monkeypatch.setattr(kernels, "recorded", lambda: run)
    net = tiny_elf(compile_blocks="graphs")
    for p in net.parameters():
        p.register_hook(lambda grad, p=p: put(memory, id(p), grad))
    return net


@torch.no_grad()
def test_the_output_of_a_pass_outlives_the_next_pass(graphs: ELF) -> None:
    torch.manual_seed(1)
    parts = [(torch.randn(3, 5, 12), torch.rand(3), Conditioning()) for _ in range(2)]
    first, second = [graphs.forward_hidden(*inputs) for inputs in parts]
    assert not torch.equal(first, second)
    assert_close(first, tiny_elf().forward_hidden(*parts[0]))


@pytest.mark.parametrize("rows", [1, 3])
def test_gradients_of_micro_batches_add_up(graphs: ELF, rows: int) -> None:
    plain = tiny_elf()
    for net in (graphs, plain):
        for seed in (1, 2, 3):
            predict(net, seed, rows).square().sum().backward()
    assert_close(gradients(graphs), gradients(plain), rtol=1e-4, atol=1e-4)


def test_random_shapes_are_refused(graphs: ELF) -> None:
    for rows in range(1, 5):
        predict(graphs, rows=rows)
    predict(graphs.eval(), rows=5)
    with pytest.raises(ValueError, match="blocks met 5, .*row_assignment: stratified.*compile_blocks: true"):
        predict(graphs.train(), rows=5)


def test_weights_without_a_fixed_address_are_refused(graphs: ELF) -> None:
    graphs.blocks[1].norm1.weight.ds_id = 0  # as ZeRO-3 marks them
    with pytest.raises(ValueError, match="FSDP and ZeRO-3"):
        predict(graphs)
