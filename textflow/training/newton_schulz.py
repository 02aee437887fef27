"""Newton-Schulz: the nearest orthogonal matrix, about, by products alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MIN_GRAM_ROWS = 64  # rows below which the matrix itself costs next to nothing
MAX_GRAM_STEPS = (
    5  # steps in Gram space: rounding e of the smallest eigenvalues becomes 3.4445^(2 (steps - 1)) e, 2e4 e at 5
)


def orthogonalize(u: Tensor, ns_steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """About U V^T of u = U S V^T, for one matrix or a batch of them [..., rows, cols].

    Each step is x <- P x, P a polynomial of the Gram matrix x x^T. For wide matrices in float32 the Gram matrix is made
    once and the steps are taken in its own, smaller space: x only meets their product, at the end.

    Args:
        u: matrices; zero stays zero.
        ns_steps: of Newton-Schulz, at least 1.
        dtype: of the products; in bfloat16 the Gram space is too coarse and is not entered.
    """
    tall = u.shape[-2] > u.shape[-1]
    with full_float32_matmul(), torch.autocast("cpu" if u.is_meta else u.device.type, enabled=False):
        x = (u.mT if tall else u).to(dtype)
        x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-8)
        x = (
            iterate_in_gram_space(x, ns_steps)
            if dtype == torch.float32 and gram_is_cheaper(x, ns_steps)
            else iterate(x, ns_steps)
        )
    return (x.mT if tall else x).to(u.dtype)


@contextmanager
def full_float32_matmul() -> Iterator[None]:
    """Products of float32 in float32, whatever the rest of training takes: TF32 is too coarse for Gram space."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def gram_is_cheaper(x: Tensor, steps: int) -> bool:
    """Whether Gram space takes fewer products: steps (4 n^2 m + 2 n^3) against 4 n^2 m + (8 steps - 6) n^3."""
    n, m = x.shape[-2:]
    return n >= MIN_GRAM_ROWS and steps <= MAX_GRAM_STEPS and 4 * m * (steps - 1) > (6 * steps - 6) * n


def iterate(x: Tensor, steps: int) -> Tensor:
    """x <- (a + b x x^T + c (x x^T)^2) x, steps times."""
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


def iterate_in_gram_space(x: Tensor, steps: int) -> Tensor:
    """`iterate`, as (P_k ... P_1) x: the next Gram matrix is P g P, since all of them commute."""
    a, b, c = COEFFICIENTS
    gram, product = x @ x.mT, None
    for k in range(steps):
        p = b * gram + c * gram @ gram
        p.diagonal(dim1=-2, dim2=-1).add_(a)
        product = p if product is None else p @ product
        if k < steps - 1:
            gram = p @ gram @ p
    assert product is not None
    return product @ x
