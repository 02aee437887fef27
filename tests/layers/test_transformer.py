"""Attention of every transformer."""

import torch

from textflow.layers.transformer import attend


def test_attention_of_bfloat16_on_a_cpu_has_the_precision_of_float32() -> None:
    q, k, v = torch.randn(3, 2, 4, 6, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    with torch.autocast("cpu", torch.bfloat16):
        attended = attend(q, k, v, mask)
    torch.testing.assert_close(attended.double(), attend(q.double(), k.double(), v.double(), mask), rtol=0, atol=1e-6)
