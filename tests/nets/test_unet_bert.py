"""The U of BERT blocks that denoises Cosmos's latents."""

import pytest
import torch

from textflow.codecs import LatentSpace
from textflow.nets import UNetBERT
from textflow.types import Conditioning

SPACE = LatentSpace(6, 11)


def net(**options: object) -> UNetBERT:
    torch.manual_seed(0)
    made = UNetBERT(SPACE, **{"width": 8, "depth": 4, "heads": 2, "max_latents": 5, **options})
    for p in made.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return made.eval()


def test_the_input_of_each_first_block_is_added_to_its_mirror_image() -> None:
    own, seen = net(), list[torch.Tensor]()
    for block in own.blocks:
        block.register_forward_pre_hook(lambda part, inputs: seen.append(inputs[0]))
    x, emb = torch.randn(2, 3, 8), torch.randn(2, 1, 8)
    out = own.run_blocks(x, emb, None)
    added = [own.time_in[i](emb) + own.self_cond_in[i].bias for i in range(4)]
    skips = [seen[0] - added[0], seen[1] - added[1]]
    torch.testing.assert_close(skips[0], x)
    torch.testing.assert_close(seen[2], own.blocks[1](seen[1]) + skips[1] + added[2])
    torch.testing.assert_close(seen[3], own.blocks[2](seen[2]) + x + added[3])
    torch.testing.assert_close(out, own.blocks[3](seen[3]))


def test_no_self_condition_is_one_of_zeros_and_a_row_time_is_that_of_its_positions() -> None:
    own, z, t = net(), torch.randn(2, 3, 6), torch.tensor([0.2, 0.9])
    free = own(z, t).mean
    torch.testing.assert_close(own(z, t, Conditioning(self_cond=torch.zeros_like(z))).mean, free)
    assert not torch.allclose(own(z, t, Conditioning(self_cond=z)).mean, free)
    torch.testing.assert_close(own(z, t[:, None].expand(2, 3)).mean, free)


def test_a_students_step_of_length_0_has_an_embedding_of_its_own() -> None:
    teacher, student = net(), net(two_time=True)
    student.init_from(teacher.state_dict())
    z, t = torch.randn(2, 3, 6), torch.tensor([0.2, 0.9])
    torch.testing.assert_close(student(z, t).mean, student(z, t, Conditioning(end_time=t)).mean)
    assert not torch.allclose(student(z, t).mean, student(z, t, Conditioning(end_time=t + 0.1)).mean)


def test_odd_depths_and_long_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="depth 3, .* even depth"):
        net(depth=3)
    with pytest.raises(ValueError, match="got 6 latents, but has max_latents 5"):
        net()(torch.randn(1, 6, 6), torch.ones(1))
