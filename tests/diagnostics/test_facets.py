"""Margins of readouts, by their weights and by their gradients."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms
from textflow.diagnostics.facets import nearest_facets, nearest_joint_facets
from textflow.noise import Noise


def test_the_margin_is_the_distance_to_the_boundary_and_the_normal_points_across() -> None:
    world = atoms(64, 8, 0.3)
    x = world.draw(3, 50)[1]
    found = nearest_facets(world.read, x, torch.zeros_like(x))
    said = world.read(x).argmax(-1)
    across = [world.read(x + step * found.distance[..., None] * found.normal).argmax(-1) for step in (0.999, 1.001)]
    assert torch.equal(across[0], said) and (across[1] != said).all()
    assert_close(found.normal.norm(dim=-1), torch.ones(3, 50, dtype=torch.float64))
    assert not found.normal_component.any()


def test_the_gradients_margins_are_those_of_the_weights() -> None:
    world = atoms(64, 8, 0.3)
    x = world.draw(3, 50)[1]
    r = Noise(range(3)).normal(50, 8).double()
    free, exact = nearest_facets(world.read, x, r), nearest_facets(world.read, x, r, weights=world.codes)
    for a, b in zip(free, exact, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)
    joint = nearest_joint_facets(world.read, x, r, positions=[0, 7])
    for at in (0, 7):
        assert_close(joint.distance[:, at], exact.distance[:, at], rtol=1e-9, atol=1e-12)
        assert_close(joint.normal_component[:, at], exact.normal_component[:, at], rtol=1e-9, atol=1e-12)
        assert_close(joint.normal[:, at], exact.normal[:, at], rtol=1e-9, atol=1e-12)
    assert joint.distance.isinf().sum() == 3 * 48


def test_a_readout_that_mixes_positions_has_one_boundary_in_all_of_them() -> None:
    W = Noise([1]).normal(5, 4 * 3)[0].double()  # logits of position 0 depend on the whole row

    def read(z: Tensor) -> Tensor:
        return (z.flatten(1) @ W.T)[:, None].expand(-1, 4, -1)

    x, r = Noise([2]).normal(4, 3).double(), Noise([3]).normal(4, 3).double()
    found = nearest_joint_facets(read, x, r, [0])
    logits = read(x)[0, 0]
    order = logits.argsort(descending=True)
    gaps, normals = logits[order[0]] - logits[order[1:]], W[order[0]] - W[order[1:]]
    distance, j = (gaps / normals.norm(dim=-1)).min(0)
    assert float(found.distance[0, 0]) == pytest.approx(float(distance), rel=1e-9)
    assert float(found.normal_component[0, 0]) == pytest.approx(
        float(-normals[j] @ r.flatten() / normals[j].norm()), rel=1e-9
    )


def test_tokens_of_one_code_share_no_boundary() -> None:
    codes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[[1.0, 0.3]]], dtype=torch.float64)
    assert float(nearest_facets(Codes(codes).read, x, torch.zeros_like(x)).distance) == pytest.approx(1.0)
    alone = nearest_facets(Codes(codes[:2]).read, x, torch.zeros_like(x))
    assert alone.distance.isinf().all() and not alone.normal.any()


def test_margins_are_found_under_inference_mode() -> None:
    world = atoms(8, 4, 0.3)
    with torch.inference_mode():
        x = world.draw(2, 5)[1]
        found = nearest_facets(world.read, x, torch.zeros_like(x))
    assert found.distance.isfinite().all() and not found.distance.requires_grad
