"""The FLOP formula against torch's counter of matrix products."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.tiny_bench import TINY
from textflow.eval.bench.benchmark import Benchmark, make_benchmark, make_network, make_t5, random_batch
from textflow.eval.bench.distill import DistillationBenchmark
from textflow.eval.bench.flops import Flops, peak_flops
from textflow.eval.bench.sizes import SIZES, BenchConfig, ModelSize
from textflow.eval.bench.step import LossStepBenchmark
from textflow.eval.bench.timing import max_difference
from textflow.types import Conditioning

pytestmark = pytest.mark.integration

WIDE = BenchConfig(ModelSize(64, 3, 4, 40, 16, 120, 2, 48, 10, 40), steps=3)


def counted(work: Any, *parts: Any) -> float:
    """FLOPs of a call; attention by matrix products, which the counter supports on every CPU."""
    mine = {torch.ops.aten.addmm_: lambda out, a, b, **rest: 2 * a[0] * a[1] * b[1]}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=mine) as counter:
        work(*parts)
    return float(counter.get_total_flops())


@pytest.mark.parametrize("setting", [TINY, WIDE])
@torch.no_grad()
def test_forward_passes_have_the_counted_flops(setting: BenchConfig) -> None:
    s, flops, net = setting.size, Flops(setting.size), make_network(setting)
    z, t = torch.randn(s.rows, s.length, s.dim), torch.rand(s.rows)
    hidden = net.forward_hidden(z, t, Conditioning())
    assert counted(net.forward_hidden, z, t, Conditioning()) == flops.forward_hidden
    assert counted(net.predict_x0, hidden) == flops.predict_x0
    assert counted(net.lm_logits, hidden) == flops.decode_logits
    assert counted(net.decode_ids, z, t) == flops.forward_hidden + flops.decode_logits
    batch = random_batch(setting)
    assert counted(lambda: make_t5(setting).encode(*batch[:2])) == flops.encoder


@pytest.mark.parametrize("benchmark", [LossStepBenchmark, DistillationBenchmark])
def test_steps_have_the_counted_flops_without_gradients_of_the_latents(benchmark: type[Benchmark]) -> None:
    step, s = benchmark(WIDE), WIDE.size
    unused = 2 * s.tokens * 2 * s.dim * s.dim  # z needs no gradient
    scalars = 2 * 2 * s.rows * 256 * s.width  # nor do the sinusoids
    for form in ("optimized", "reference"):
        assert counted(step.run, form) == pytest.approx(step.flops(form) - unused - scalars, rel=1e-9), form


@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("langflow_step", 0.05), ("langflow_sample", 0.05), ("mdlm_step", 0.05), ("cola_sample", 1e-9)],
)
def test_each_system_has_the_counted_flops(name: str, tolerance: float) -> None:
    """To the products of the time embedding in a DiT, which its formula leaves out."""
    work = make_benchmark(name, replace(WIDE, size=replace(WIDE.size, rows=4, depth=1), steps=1))
    for form in ("optimized", "reference"):
        assert counted(work.run, form) == pytest.approx(work.flops(form), rel=tolerance), form
    assert max_difference(work) <= 5e-6


def test_the_number_of_passes_of_a_step_equals_the_published_one() -> None:
    flops = Flops(SIZES["B"])
    t, g, d = flops.forward_hidden, flops.predict_x0, flops.decode_logits
    assert flops.training_step("reference") - flops.encoder == pytest.approx(5 * t + 5 * g + 3 * d)
    assert flops.training_step("optimized") - flops.encoder == pytest.approx(3.4 * t + 2.8 * g + 0.6 * d)
    least = flops.distillation_step("optimized", 8) - flops.encoder
    assert least == pytest.approx((0.8 * 8 + 0.4 + 3) * t + (0.8 * 8 + 0.4 + 2.4) * g + 0.6 * d)
    published = flops.distillation_step("reference", 8) - flops.encoder
    assert published == pytest.approx((8 + 1 + 3) * t + (8 + 1 + 3) * g + 3 * d)


def test_a_token_of_elf_b_costs_793_mflops_and_the_peak_of_a_gpu_is_known() -> None:
    size = replace(SIZES["B"], rows=100, length=1024)
    assert Flops(size).training_step("optimized") / size.tokens == pytest.approx(793e6, rel=0.01)
    peaks = {
        **{"H100 80GB HBM3": 989, "H100 PCIe": 756, "H100 NVL": 836, "H200 NVL": 836, "GeForce RTX 4090": 165},
        **{"A100-SXM4-40GB": 312, "A100 80GB PCIe": 312, "L40S": 362, "L40": 181, "L4": 121, "T4": 65},
        **dict.fromkeys(("RTX A1000", "T400", "GH200 480GB", "H100 80GB HBM3 MIG 1g.10gb", "AMD EPYC"), 0),
        **dict.fromkeys(("GeForce RTX 4090 D", "GeForce RTX 4090 Laptop GPU"), 0),
    }
    assert {name: (peak_flops(f"NVIDIA {name}") or 0) / 1e12 for name in peaks} == peaks
