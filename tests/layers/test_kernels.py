"""What is faster on a GPU: asked for only, refused elsewhere, with the same weights and gradients."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import Function
from torch.testing import assert_close

from textflow.codecs import LatentSpace
from textflow.layers import functional, transformer
from textflow.layers import kernels as gpu
from textflow.nets import ELF
from textflow.types import Conditioning

ROOT = Path(__file__).parents[2]
SHAPE = {"codec": LatentSpace(12, 50), "width": 16, "depth": 2, "heads": 2, "bottleneck": 8}
FASTER = [{"compile_blocks": "graphs"}, {"kernels": "liger"}]
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def net(**how: Any) -> ELF:
    torch.manual_seed(0)
    made = ELF(**SHAPE, **how)
    torch.nn.init.normal_(made.out.weight, std=0.02)
    return made


def states(made: ELF, seed: int = 1, rows: int = 3) -> Tensor:
    torch.manual_seed(seed)
    z, t = torch.randn(rows, 5, 12), torch.rand(rows)
    return made.predict_x0(made.forward_hidden(z, t, Conditioning(self_cond=z)))


def gradients(made: ELF) -> list[Tensor]:
    return [p.grad for p in made.parameters() if p.grad is not None]


def script(code: str, *words: str) -> None:
    """Run by itself, where no shapes are checked: torch.compile does not look through the checks."""
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture
def as_if_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (gpu, functional, transformer):
        monkeypatch.setattr(module, "cuda", lambda x: True)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (FASTER[0], "net has compile_blocks: graphs, which needs a GPU, but it runs on cpu; use compile_blocks: true"),
        (FASTER[1], "net has kernels: liger, which needs a GPU, but it runs on cpu; use kernels: torch"),
    ],
)
def test_a_cpu_is_refused_in_one_line_when_a_pass_would_run(how: dict[str, str], said: str) -> None:
    made = net(**how)
    with pytest.raises(ValueError) as error:
        states(made)
    assert str(error.value) == said


@pytest.mark.parametrize("how", FASTER)
def test_a_pass_that_is_only_counted_is_not_refused(how: dict[str, str]) -> None:
    with torch.device("meta"):
        made = net(**how)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert states(made.to_empty(device="cpu")).shape == (3, 5, 12)


@pytest.mark.integration
def test_nothing_is_imported_until_it_is_asked_for() -> None:
    script(
        "import sys, torch\n"
        "from textflow.codecs import LatentSpace\n"
        "from textflow.nets import ELF\n"
        "made = ELF(LatentSpace(12, 50), 16, 2, 2, 8, kernels=sys.argv[1])\n"
        "if sys.argv[1] == 'torch': made(torch.randn(2, 3, 12), torch.rand(2)).mean.sum().backward()\n"
        "found = {name.split('.')[0] for name in sys.modules} & {'liger_kernel', 'triton', 'flash_attn'}\n"
        "assert not found, found",
        "torch",
    )


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    as_if_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel", None)
    with pytest.raises(ValueError, match=r"pip install 'textflow\[kernels\]', or use kernels: torch") as error:
        states(net(kernels="liger"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("how", FASTER)
def test_the_weights_are_the_same_under_the_same_names(how: dict[str, str]) -> None:
    plain, faster = net().state_dict(), net(**how).state_dict()
    assert list(plain) == list(faster)
    assert all(torch.equal(plain[name], faster[name]) for name in plain)


def test_a_teacher_runs_by_the_means_of_its_student() -> None:
    made = net()
    made.use_backend_of(net(compile_blocks=True, kernels="liger"))
    assert made.compile_blocks is True and all(block._compiled_call_impl is not None for block in made.blocks)
    assert {module.kernels for module in made.modules() if isinstance(module, functional.RMSNorm)} == {"liger"}


def test_graphs_and_recomputing_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="activation_checkpointing"):
        net(compile_blocks="graphs", activation_checkpointing=True)


class Overwritten(Function):
    """What a graph gives lies where the next run puts its own."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, memory: dict[Any, Tensor]) -> Tensor:
        return put(memory, "states", states)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Any:
        return slope, None


def put(memory: dict[Any, Tensor], key: Any, value: Tensor) -> Tensor:
    place = memory.setdefault((key, value.shape), torch.empty_like(value))
    return place.copy_(value).view_as(place)


@pytest.fixture
def graphs(as_if_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch) -> ELF:
    """A net whose blocks and gradients overwrite what they gave before, as CUDA graphs do."""
    memory: dict[Any, Tensor] = {}

    def run(*parts: Any) -> Tensor:
        return Overwritten.apply(gpu.through(*parts), memory)

    monkeypatch.setattr(gpu, "recorded", lambda: run)
    made = net(compile_blocks="graphs")
    for p in made.parameters():
        p.register_hook(lambda slope, p=p: put(memory, id(p), slope))
    return made


@torch.no_grad()
def test_what_a_pass_gave_outlives_the_next_pass(graphs: ELF) -> None:
    torch.manual_seed(1)
    parts = [(torch.randn(3, 5, 12), torch.rand(3), Conditioning()) for _ in range(2)]
    first, second = [graphs.forward_hidden(*one) for one in parts]
    assert not torch.equal(first, second)
    assert_close(first, net().forward_hidden(*parts[0]))


@pytest.mark.parametrize("rows", [1, 3])
def test_gradients_of_micro_batches_add_up(graphs: ELF, rows: int) -> None:
    plain = net()
    for made in (graphs, plain):
        for seed in (1, 2, 3):
            states(made, seed, rows).square().sum().backward()
    assert_close(gradients(graphs), gradients(plain), rtol=1e-4, atol=1e-4)


def test_shapes_left_to_chance_are_refused(graphs: ELF) -> None:
    for rows in range(1, 5):
        states(graphs, rows=rows)
    states(graphs.eval(), rows=5)
    with pytest.raises(ValueError, match="blocks met 5, .*row_assignment: stratified.*compile_blocks: true"):
        states(graphs.train(), rows=5)


def test_weights_without_a_lasting_address_are_refused(graphs: ELF) -> None:
    graphs.blocks[1].norm1.weight.ds_id = 0  # as ZeRO-3 marks them
    with pytest.raises(ValueError, match="FSDP and ZeRO-3"):
        states(graphs)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a stand-in for liger-kernel was told."""
    told: list[tuple[Any, ...]] = []

    def heard(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def call(*parts: Any) -> Any:
            told.append((name, *parts))
            return do(*parts)

        return call

    def norm(x: Tensor, weight: Tensor, eps: float, *how: Any) -> tuple[Any, ...]:
        flat = x.view(-1, x.shape[-1])
        return F.rms_norm(x, weight.shape, weight, eps), flat, (flat.square().mean(-1) + eps).rsqrt(), 64, 4, 1

    def norm_back(slope: Tensor, x: Tensor, weight: Tensor, rate: Tensor, *how: Any) -> tuple[Tensor, Tensor]:
        flat, unit = slope.view(-1, slope.shape[-1]), x * rate[:, None]
        dx = rate[:, None] * (flat * weight - unit * (flat * weight * unit).mean(-1, keepdim=True))
        return dx.view_as(slope), (flat * unit).sum(0)

    def product(ab: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ab.chunk(2, -1)
        return ab.view(-1, ab.shape[-1]), F.silu(a) * b

    def product_back(ab: Tensor, slope: Tensor) -> Tensor:
        return torch.func.vjp(lambda ab: product(ab)[1], ab)[1](slope)[0].view(-1, ab.shape[-1])

    parts: dict[str, dict[str, Any]] = {
        "": {},
        ".ops": {},
        ".ops.rms_norm": {
            "rms_norm_forward": heard("norm", norm),
            "rms_norm_backward": heard("norm back", norm_back),
            "_CASTING_MODE_GEMMA": type("Kind", (), {"value": 1}),
        },
        ".ops.swiglu": {
            "swiglu_fused_gate_up_forward": heard("gate", product),
            "swiglu_fused_gate_up_backward": heard("gate back", product_back),
        },
        ".ops.utils": {"calculate_settings": lambda width: (64, 4)},
    }
    modules = {f"liger_kernel{name}": ModuleType(f"liger_kernel{name}") for name in parts}
    for (name, module), inside in zip(modules.items(), parts.values(), strict=True):
        vars(module).update(inside)
        monkeypatch.setitem(sys.modules, name, module)
    modules["liger_kernel.ops"].rms_norm = modules["liger_kernel.ops.rms_norm"]  # type: ignore[attr-defined]
    return told


def test_fused_kernels_are_told_the_right_things_and_gradients_flow(
    as_if_on_a_gpu: None, told: list[tuple[Any, ...]]
) -> None:
    plain, fused = net(), net(kernels="liger")
    for made in (plain, fused):
        states(made).square().sum().backward()
    assert_close(gradients(fused), gradients(plain), rtol=1e-4, atol=1e-6)
    names = [name for name, *_ in told]
    assert {name: names.count(name) for name in set(names)} == {
        "norm": 2 * 4 + 1,  # before attention, of queries, of keys, before SwiGLU; and the last one
        "norm back": 2 * 4 + 1,
        "gate": 2 * 2,  # again on the way back
        "gate back": 2,
    }
    for name, *parts in told:
        if name == "norm":
            assert parts[0].is_contiguous() and parts[2:] == [1e-6, 0.0, "gemma", None]
        if name == "norm back":
            assert parts[0].is_contiguous() and parts[1].ndim == 2 and parts[4:] == [0.0, 1, 64, 4, False, None]


def test_without_the_option_no_kernel_is_called(as_if_on_a_gpu: None, told: list[tuple[Any, ...]]) -> None:
    states(net())
    assert told == []


STEPS = """
import sys
import torch
from textflow.codecs import LatentSpace
from textflow.nets import ELF
from textflow.layers import kernels as gpu
from textflow.objectives import ELFObjective
from textflow.paths import LinearPath
from textflow.types import Batch

device, how = sys.argv[1], {sys.argv[2]: sys.argv[3]}
if device == "cpu":
    gpu.cuda = lambda x: True  # compiled the same way, only not recorded
weights = []
for how in ({}, how):
    torch.manual_seed(0)
    net = ELF(LatentSpace(12, 50), 16, 2, 2, 8, **how).to(device)
    torch.nn.init.normal_(net.out.weight, std=0.02)
    rule, objective = torch.optim.SGD(net.parameters(), 0.1), ELFObjective(row_assignment="stratified")
    for step in range(6):
        for micro in range(2):  # the way of Lightning: gradients go after the first forward pass
            torch.manual_seed(10 * step + micro)
            x, ids = torch.randn(10, 6, 12), torch.randint(50, (10, 6))
            draws = type(drawn := objective.sample_draws(x))(*(part.to(device) for part in drawn))
            batch = Batch(ids, torch.ones_like(ids, dtype=torch.bool)).map(lambda part: part.to(device))
            loss = objective.loss(net, LinearPath(), x.to(device), batch, draws)["loss"]
            if micro == 0:
                rule.zero_grad()
            loss.backward()
        rule.step()
    weights.append(torch.cat([p.detach().flatten() for p in net.parameters()]))
start, end = weights
torch.testing.assert_close(end, start, rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
def test_graphs_train_as_plain_blocks_where_nothing_is_recorded() -> None:
    script(STEPS, "cpu", "compile_blocks", "graphs")


@pytest.mark.gpu
@needs_gpu
def test_graphs_train_as_plain_blocks() -> None:
    script(STEPS, "cuda", "compile_blocks", "graphs")


@pytest.mark.gpu
@needs_gpu
def test_fused_kernels_train_as_torchs() -> None:
    pytest.importorskip("liger_kernel")
    script(STEPS, "cuda", "kernels", "liger")
