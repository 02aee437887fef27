"""Optional GPU backends: refused on a CPU, with the same weights and gradients."""

import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from tests.helpers.tiny_elf import gradients, predict, tiny_elf
from textflow.layers import functional, transformer

FASTER = [{"compile_blocks": "graphs"}, {"kernels": "liger"}]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FASTER[0], "net has compile_blocks: graphs, which needs a GPU, but it runs on cpu; use compile_blocks: true"),
        (FASTER[1], "net has kernels: liger, which needs a GPU, but it runs on cpu; use kernels: torch"),
    ],
)
def test_a_pass_on_a_cpu_is_refused_in_one_line(options: dict[str, str], message: str) -> None:
    net = tiny_elf(**options)
    with pytest.raises(ValueError) as error:
        predict(net)
    assert str(error.value) == message


@pytest.mark.integration
@pytest.mark.parametrize("options", FASTER)
def test_a_pass_of_fake_tensors_is_not_refused(options: dict[str, str]) -> None:
    with torch.device("meta"):
        net = tiny_elf(**options)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert predict(net.to_empty(device="cpu")).shape == (3, 5, 12)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    as_if_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(ValueError, match=r"pip install 'textflow\[kernels\]', or use kernels: torch") as error:
        predict(tiny_elf(kernels="liger"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", FASTER)
def test_the_weights_are_the_same_under_the_same_names(options: dict[str, str]) -> None:
    plain, faster = tiny_elf().state_dict(), tiny_elf(**options).state_dict()
    assert list(plain) == list(faster)
    assert all(torch.equal(plain[name], faster[name]) for name in plain)


def test_a_teacher_uses_the_backend_of_its_student(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = list[transformer.TransformerBlock]()
    monkeypatch.setattr(transformer.TransformerBlock, "compile", lambda block: compiled.append(block))
    student, net = tiny_elf(compile_blocks=True, kernels="liger"), tiny_elf()
    net.use_backend_of(student)
    assert net.compile_blocks is True and compiled == [*student.blocks, *net.blocks]
    assert {module.kernels for module in net.modules() if isinstance(module, functional.RMSNorm)} == {"liger"}


@pytest.fixture
def kernel_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Names and arguments of the calls of a stand-in for liger-kernel."""
    calls: list[tuple[Any, ...]] = []

    def recorded(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append((name, *args))
            return kernel(*args)

        return call

    def norm(x: Tensor, weight: Tensor, eps: float, *options: Any) -> tuple[Any, ...]:
        flat = x.view(-1, x.shape[-1])
        return F.rms_norm(x, weight.shape, weight, eps), flat, (flat.square().mean(-1) + eps).rsqrt(), 64, 4, 1

    def norm_back(grad: Tensor, x: Tensor, weight: Tensor, rate: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
        flat, unit = grad.view(-1, grad.shape[-1]), x * rate[:, None]
        dx = rate[:, None] * (flat * weight - unit * (flat * weight * unit).mean(-1, keepdim=True))
        return dx.view_as(grad), (flat * unit).sum(0)

    def product(ab: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ab.chunk(2, -1)
        return ab.view(-1, ab.shape[-1]), F.silu(a) * b

    def product_back(ab: Tensor, grad: Tensor) -> Tensor:
        return torch.func.vjp(lambda ab: product(ab)[1], ab)[1](grad)[0].view(-1, ab.shape[-1])

    parts: dict[str, dict[str, Any]] = {
        "": {},
        ".ops": {},
        ".ops.rms_norm": {
            "rms_norm_forward": recorded("norm", norm),
            "rms_norm_backward": recorded("norm back", norm_back),
            "_CASTING_MODE_GEMMA": type("Kind", (), {"value": 1}),
        },
        ".ops.swiglu": {
            "swiglu_fused_gate_up_forward": recorded("gate", product),
            "swiglu_fused_gate_up_backward": recorded("gate back", product_back),
        },
        ".ops.utils": {"calculate_settings": lambda width: (64, 4)},
    }
    modules = {f"liger_kernel{name}": ModuleType(f"liger_kernel{name}") for name in parts}
    for (name, module), inside in zip(modules.items(), parts.values(), strict=True):
        vars(module).update(inside)
        monkeypatch.setitem(sys.modules, name, module)
    modules["liger_kernel.ops"].rms_norm = modules["liger_kernel.ops.rms_norm"]  # type: ignore[attr-defined]
    return calls


def test_fused_kernels_get_the_right_arguments_and_give_the_same_gradients(
    as_if_on_a_gpu: None, kernel_calls: list[tuple[Any, ...]]
) -> None:
    plain, fused = tiny_elf(), tiny_elf(kernels="liger")
    predict(plain).square().sum().backward()
    assert kernel_calls == [], "no kernel is called without the option"
    predict(fused).square().sum().backward()
    assert_close(gradients(fused), gradients(plain), rtol=1e-4, atol=1e-6)
    assert Counter(name for name, *_ in kernel_calls) == {
        "norm": 2 * 4 + 1,  # before attention, of queries, of keys, before SwiGLU; and the last one
        "norm back": 2 * 4 + 1,
        "gate": 2 * 2,  # again in the backward pass
        "gate back": 2,
    }
    for name, *args in kernel_calls:
        if name == "norm":
            assert args[0].is_contiguous() and args[2:] == [1e-6, 0.0, "gemma", None]
        if name == "norm back":
            assert args[0].is_contiguous() and args[1].ndim == 2 and args[4:] == [0.0, 1, 64, 4, False, None]
