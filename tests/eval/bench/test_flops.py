"""The FLOP formula against torch's counter of matrix products."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.helpers.tiny_bench import TINY
from textflow.eval.bench.benchmark import make_network, make_t5, random_batch
from textflow.eval.bench.flops import Flops, peak_flops
from textflow.eval.bench.pd import DistillationBenchmark
from textflow.eval.bench.sizes import SIZES, BenchConfig, ModelSize
from textflow.eval.bench.step import LossStepBenchmark
from textflow.types import Conditioning

WIDE = BenchConfig(ModelSize(64, 3, 4, 40, 16, 120, 2, 48, 10, 40), steps=3)


def counted(work: Any, *parts: Any) -> float:
    """FLOPs of what is called; attention by products, since the counter does not know a CPU's kernel."""
    mine = {torch.ops.aten.addmm_: lambda out, a, b, **rest: 2 * a[0] * a[1] * b[1]}
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False, custom_mapping=mine) as counter:
        work(*parts)
    return float(counter.get_total_flops())


@pytest.mark.parametrize("setting", [TINY, WIDE])
@torch.no_grad()
def test_forward_passes_are_counted_exactly(setting: BenchConfig) -> None:
    s, flops, net = setting.size, Flops(setting.size), make_network(setting)
    z, t = torch.randn(s.rows, s.length, s.dim), torch.rand(s.rows)
    hidden = net.forward_hidden(z, t, Conditioning())
    assert counted(net.forward_hidden, z, t, Conditioning()) == flops.forward_hidden
    assert counted(net.predict_x0, hidden) == flops.predict_x0
    assert counted(net.lm_logits, hidden) == flops.decode_logits
    assert counted(net.decode_ids, z, t) == flops.forward_hidden + flops.decode_logits
    batch = random_batch(setting)
    assert counted(lambda: make_t5(setting).encode(*batch[:2])) == flops.encoder


@pytest.mark.parametrize("form", ["optimized", "reference"])
def test_a_training_step_is_counted_up_to_the_way_back_into_the_latents(form: str) -> None:
    step, flops, s = LossStepBenchmark(WIDE), Flops(WIDE.size), WIDE.size
    unused = 2 * s.tokens * 2 * s.dim * s.dim  # no gradient of z is asked
    scalars = 2 * 2 * s.rows * 256 * s.width  # nor of the sinusoids
    assert counted(step.run, form) == pytest.approx(flops.training_step(form) - unused - scalars, rel=1e-9)


@pytest.mark.parametrize("form", ["optimized", "reference"])
def test_a_distilling_step_likewise(form: str) -> None:
    step, flops, s = DistillationBenchmark(WIDE), Flops(WIDE.size), WIDE.size
    unused, scalars = 2 * s.tokens * 2 * s.dim * s.dim, 2 * 2 * s.rows * 256 * s.width
    assert counted(step.run, form) == pytest.approx(flops.distillation_step(form, 3) - unused - scalars, rel=1e-9)


def test_the_passes_of_a_step_are_the_published_ones() -> None:
    flops = Flops(SIZES["B"])
    t, g, d = flops.forward_hidden, flops.predict_x0, flops.decode_logits
    assert flops.training_step("reference") - flops.encoder == pytest.approx(5 * t + 5 * g + 3 * d)
    assert flops.training_step("optimized") - flops.encoder == pytest.approx(3.4 * t + 2.8 * g + 0.6 * d)
    least = flops.distillation_step("optimized", 8) - flops.encoder
    assert least == pytest.approx((0.8 * 8 + 0.4 + 3) * t + (0.8 * 8 + 0.4 + 2.4) * g + 0.6 * d)
    published = flops.distillation_step("reference", 8) - flops.encoder
    assert published == pytest.approx((8 + 1 + 3) * t + (8 + 1 + 3) * g + 3 * d)


def test_a_token_of_elf_b_costs_what_the_design_says() -> None:
    size = replace(SIZES["B"], rows=100, length=1024)
    assert Flops(size).training_step("optimized") / size.tokens == pytest.approx(793e6, rel=0.01)


def test_the_peak_of_a_card_is_known_by_its_name() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA L40S") == 362e12 and peak_flops("NVIDIA L4") == 121e12
    assert (
        peak_flops("NVIDIA H100 PCIe") == 756e12
        and peak_flops("NVIDIA H100 NVL") == peak_flops("NVIDIA H200 NVL") == 836e12
    )
    assert peak_flops("NVIDIA A100-SXM4-40GB") == peak_flops("NVIDIA A100 80GB PCIe") == 312e12
    assert (
        peak_flops("NVIDIA L40") == 181e12
        and peak_flops("NVIDIA GeForce RTX 4090") == 165e12
        and peak_flops("Tesla T4") == 65e12
    )


@pytest.mark.parametrize(
    "hardware",
    ["AMD EPYC", "NVIDIA RTX A1000", "NVIDIA T400", "NVIDIA GH200 480GB", "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
     "NVIDIA GeForce RTX 4090 D", "NVIDIA GeForce RTX 4090 Laptop GPU"],
)  # fmt: skip
def test_a_card_that_only_looks_like_another_has_no_known_peak(hardware: str) -> None:
    assert peak_flops(hardware) is None
