"""The activation and layer that save less: values and derivatives are torch's."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import jvp

from textflow.layers import gelu
from textflow.layers.gelu import gelu_out as of_layer


@pytest.fixture(autouse=True)
def recompute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recompute the activation of small inputs too."""
    monkeypatch.setattr(gelu, "SMALL", 0)


def gelu_out(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The function of a layer with given weights."""
    layer = torch.nn.Linear(8, 4)
    for name, tensor in (("weight", weight), ("bias", bias)):
        delattr(layer, name)
        setattr(layer, name, tensor)
    return of_layer(x, layer)


def plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.linear(F.gelu(x, approximate="tanh"), weight, bias)


def parts() -> list[torch.Tensor]:
    shapes = ((2, 3, 8), (4, 8), (4,))
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def test_values_and_gradients_are_torchs() -> None:
    inputs, outer = parts(), torch.randn(2, 3, 4).double()
    ours, theirs = (torch.autograd.grad((f(*inputs) * outer).sum(), inputs) for f in (gelu_out, plain))
    torch.testing.assert_close(gelu_out(*inputs), plain(*inputs))
    torch.testing.assert_close(ours, theirs)


def test_forward_derivatives_are_torchs() -> None:
    inputs = tuple(part.detach() for part in parts())
    directions = tuple(torch.randn_like(part) for part in inputs)
    torch.testing.assert_close(jvp(gelu_out, inputs, directions), jvp(plain, inputs, directions))
    weight, bias = inputs[1:]
    by_input = jvp(lambda x: gelu_out(x, weight, bias), inputs[:1], directions[:1])
    torch.testing.assert_close(by_input, jvp(lambda x: plain(x, weight, bias), inputs[:1], directions[:1]))
    by_weight = jvp(lambda w: gelu_out(inputs[0], w, bias), (weight,), directions[1:2])
    torch.testing.assert_close(by_weight, jvp(lambda w: plain(inputs[0], w, bias), (weight,), directions[1:2]))


def test_only_the_input_is_saved() -> None:
    saved: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    x, weight, bias = parts()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        gelu_out(x, weight, bias)
    assert sorted(saved) == sorted([x.numel(), weight.numel(), bias.numel()])


def test_a_small_input_on_a_cpu_keeps_its_activation(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = parts()
    recomputed = torch.autograd.grad(gelu_out(x, weight, bias).sum(), x)[0]
    monkeypatch.setattr(gelu, "SMALL", x.numel() + 1)
    kept = gelu_out(x, weight, bias)
    assert torch.equal(torch.autograd.grad(kept.sum(), x)[0], recomputed)
    assert type(kept.grad_fn).__name__ != "_GELUOutBackward"
