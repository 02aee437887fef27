"""Margins of readouts, by their weights and by their gradients."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.helpers.independent_tokens import Codes, atoms
from textflow.diagnostics.facets import nearest_facets, nearest_joint_facets
from textflow.noise import Noise


def test_the_margin_is_the_distance_to_the_boundary_and_the_normal_points_across() -> None:
    task = atoms(64, 8, 0.3)
    x = task.draw(3, 50)[1]
    result = nearest_facets(task.read, x)
    ids = task.read(x).argmax(-1)
    ids_across = [
        task.read(x + step * result.distance[..., None] * result.normal).argmax(-1) for step in (0.999, 1.001)
    ]
    assert torch.equal(ids_across[0], ids) and (ids_across[1] != ids).all()
    assert_close(result.normal.norm(dim=-1), torch.ones(3, 50, dtype=torch.float64))


def test_facets_by_gradients_equal_those_by_weights() -> None:
    task = atoms(64, 8, 0.3)
    x = task.draw(3, 50)[1]
    by_gradient, by_weights = nearest_facets(task.read, x), nearest_facets(task.read, x, weights=task.codes)
    for a, b in zip(by_gradient, by_weights, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)
    joint = nearest_joint_facets(task.read, x, positions=[0, 7])
    assert_close(joint.distance, by_weights.distance[:, [0, 7]], rtol=1e-9, atol=1e-12)
    own = joint.normal.unflatten(-1, (50, 8))[:, [0, 1], [0, 7]]
    assert_close(own, by_weights.normal[:, [0, 7]], rtol=1e-9, atol=1e-12)


def test_the_boundary_of_a_readout_that_mixes_positions_lies_in_the_row() -> None:
    W = Noise([1]).normal(5, 4 * 3)[0].double()  # logits of position 0 depend on the whole row

    def read(z: Tensor) -> Tensor:
        return (z.flatten(1) @ W.T)[:, None].expand(-1, 4, -1)

    x, r = Noise([2]).normal(4, 3).double(), Noise([3]).normal(4, 3).double()
    result = nearest_joint_facets(read, x, [0])
    logits = read(x)[0, 0]
    order = logits.argsort(descending=True)
    gaps, normals = logits[order[0]] - logits[order[1:]], W[order[0]] - W[order[1:]]
    distance, j = (gaps / normals.norm(dim=-1)).min(0)
    assert float(result.distance[0, 0]) == pytest.approx(float(distance), rel=1e-9)
    component = float(result.component(r.flatten(1)[:, None])[0, 0])
    assert component == pytest.approx(float(-normals[j] @ r.flatten() / normals[j].norm()), rel=1e-9)


def test_tokens_of_one_code_share_no_boundary_and_inference_mode_is_allowed() -> None:
    codes = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    x = torch.tensor([[[1.0, 0.3]]], dtype=torch.float64)
    assert float(nearest_facets(Codes(codes).read, x).distance) == pytest.approx(1.0)
    equal = nearest_facets(Codes(codes[:2]).read, x)
    assert equal.distance.isinf().all() and not equal.normal.any()
    task = atoms(8, 4, 0.3)
    with torch.inference_mode():
        x = task.draw(2, 5)[1]
        result = nearest_facets(task.read, x)
    assert result.distance.isfinite().all() and not result.distance.requires_grad


def test_latents_of_several_tokens_have_no_boundary_of_a_token() -> None:
    with pytest.raises(ValueError, match="6 tokens have 3 latents") as refused:
        nearest_facets(lambda z: z.repeat_interleave(2, 1), torch.randn(1, 3, 4))
    assert "\n" not in str(refused.value)
