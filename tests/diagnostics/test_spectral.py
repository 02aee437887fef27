"""Spectral norms of maps with known singular values, and products with the Jacobian of a network."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian
from torch.func import jvp, vjp
from torch.testing import assert_close

from textflow.codecs import LatentSpace
from textflow.diagnostics.sampler_steps import record_steps
from textflow.diagnostics.spectral import forward_mode, row_norm, spectral_norm, unit_rows
from textflow.diagnostics.stiffness import sampler_stiffness
from textflow.nets import ELF
from textflow.noise import Noise
from textflow.paths import LinearPath
from textflow.samplers import Euler
from textflow.types import Conditioning, Denoise, Latents, Posterior

PATH = LinearPath(noise_scale=2.0, min_one_minus_t=1e-6)
Z = Noise([0]).normal(3, 2).double() * PATH.noise_scale


def rotated_maps(sizes: Tensor) -> tuple[Callable[[Latents], Latents], Callable[[Latents], Latents]]:
    """Products of maps with these singular values, one map a row [B, n], n = S d."""
    n = sizes.shape[-1]
    q, r = (torch.linalg.qr(Noise([seed]).normal(n, n)[0].double())[0] for seed in (1, 2))
    maps = q @ torch.diag_embed(sizes.double()) @ r

    def times(m: Tensor) -> Callable[[Latents], Latents]:
        return lambda v: torch.einsum("bij,bj->bi", m, v.flatten(1)).unflatten(1, v.shape[1:])

    return times(maps), times(maps.mT)


def test_the_spectral_norm_is_the_largest_singular_value_and_beats_power_iteration() -> None:
    """Exact where the iterations exhaust the space, or the map has fewer directions; 0 of the map that is 0."""
    sizes = torch.tensor([[3.0, 2.0, 1.5, 1.0, 0.1, 0.0], [0.5, 0.1, 0.1, 0.0, 0.0, 0.0], [0.0] * 6, [2.0] * 6])
    push, pull = rotated_maps(sizes)
    starts = Noise(range(4)).normal(3, 3, 2).double().transpose(0, 1)
    result = spectral_norm(push, pull, starts)
    assert_close(result.value, sizes[:, 0].double(), rtol=1e-9, atol=1e-12)
    assert result.spread.max() < 1e-9
    assert_close(row_norm(push(result.direction))[:2], sizes[:2, 0].double(), rtol=1e-9, atol=0)
    early = spectral_norm(push, pull, starts, num_iterations=2)
    assert early.value[0] < 3 and early.spread[0] > 1e-3, "from below, and the spread shows it"
    push, pull = rotated_maps(torch.cat([torch.linspace(0.8, 1, 47), torch.tensor([1.1])])[None])
    v = starts = Noise([0]).normal(6, 8).double()
    for _ in range(8):
        v = unit_rows(pull(push(v)))
    result = spectral_norm(push, pull, starts[None])
    assert float(row_norm(push(v))) < 1.1 * 0.98
    assert 1.1 * 0.998 < float(result.value) <= 1.1 * (1 + 1e-12)


@pytest.fixture(scope="module")
def elf_denoise() -> Denoise:
    torch.manual_seed(0)
    net = ELF(LatentSpace(2, 11), width=8, depth=1, heads=2, bottleneck=4).double()
    torch.nn.init.normal_(net.out.weight, std=0.5)

    def denoise(z: Latents, t: float, self_cond: Latents | None = None, *_: object) -> Posterior:
        return net(z, z.new_full((len(z),), t), Conditioning(self_cond=self_cond, guidance=z.new_full((len(z),), 1.5)))

    return denoise


def test_products_with_the_jacobian_of_elf_match_the_dense_one(elf_denoise: Denoise) -> None:
    """J v and J^T v through ELF's attention, norms and gates, in float64, against its dense Jacobian."""
    step = record_steps(lambda _: elf_denoise, Euler(), PATH, [0.0, 0.3, 0.7, 1.0], Z, Noise([0]))[1]
    J = jacobian(step.next_z, step.z).reshape(6, 6).detach()
    v = Noise([3]).normal(3, 2).double()
    with forward_mode():
        pushed, pulled = jvp(step.next_z, (step.z,), (v,))[1], vjp(step.next_z, step.z)[1](v)[0]
    assert_close(pushed.flatten(), J @ v.flatten(), rtol=1e-9, atol=1e-12)
    assert_close(pulled.flatten(), J.T @ v.flatten(), rtol=1e-9, atol=1e-12)
    assert not torch.allclose(pushed, pulled, rtol=1e-3), "a symmetric map would give the same products"


@pytest.mark.integration
def test_inference_mode_changes_nothing(elf_denoise: Denoise) -> None:
    """Lightning validates in inference mode; its tensors are copied."""

    def step_norms() -> Tensor:
        streams, settings = (Noise([100]), Noise([200])), {"num_iterations": 2, "num_starts": 1}
        return sampler_stiffness(
            lambda _: elf_denoise, Euler(), PATH, [0.0, 1.0], 1 * Z, *streams, **settings
        ).step_norms

    with torch.inference_mode():
        inside = step_norms()
    assert_close(inside, step_norms(), rtol=1e-12, atol=0)
    assert inside.min() > 0 and not step_norms().requires_grad
