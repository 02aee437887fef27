"""Newton-Schulz iteration: approximates the nearest orthogonal matrix by matrix products alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
MIN_GRAM_ROWS = 64  # products of smaller matrices cost next to nothing
MAX_GRAM_STEPS = 5  # a rounding error e of the smallest eigenvalues grows to 3.4445^(2 (steps - 1)) e: 2e4 e at 5 steps


def orthogonalize(u: Tensor, ns_steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Approximate U V^T of u = U S V^T.

    Each step is x <- P x, where P is a polynomial of the Gram matrix x x^T. For wide matrices in float32 the Gram
    matrix is computed once, all steps are taken in its smaller space, and their product is applied to x at the end.

    Args:
        u: one matrix or a batch [..., rows, cols]; zero maps to zero.
        ns_steps: number of iterations, at least 1.
        dtype: dtype of the products; bfloat16 is too coarse for Gram space.
    """
    tall = u.shape[-2] > u.shape[-1]
    with full_float32_matmul(), torch.autocast("cpu" if u.is_meta else u.device.type, enabled=False):
        x = (u.mT if tall else u).to(dtype)
        x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-8)
        in_gram_space = dtype == torch.float32 and gram_is_cheaper(x, ns_steps)
        x = iterate_in_gram_space(x, ns_steps) if in_gram_space else iterate(x, ns_steps)
    return (x.mT if tall else x).to(u.dtype)


@contextmanager
def full_float32_matmul() -> Iterator[None]:
    """Context with float32 products at full precision: TF32 is too coarse for Gram space."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def gram_is_cheaper(x: Tensor, steps: int) -> bool:
    """True if Gram space takes fewer operations: steps (4 n^2 m + 2 n^3) against 4 n^2 m + (8 steps - 6) n^3."""
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
    """`iterate` as (P_k ... P_1) x: the next Gram matrix is P gram P, since all polynomials commute."""
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
