"""Values that a model can take: finite floating point where it has floating point, whole numbers where it has those."""

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def fault(found: Tensor, own: Tensor) -> str:
    """Why a tensor cannot take the place of a model's, in words that follow its name; empty where it can.

    Args:
        found: in a file.
        own: of the model; all NaN is a law that waits to be measured, and so may the other be.
    """
    kind = str(found.dtype).removeprefix("torch.")
    if found.layout is not torch.strided or found.is_meta:
        return f"is {'a tensor without values' if found.is_meta else 'sparse'}, where the model needs plain values"
    if not own.is_floating_point():
        whole = not (found.is_floating_point() or found.is_complex())
        return "" if whole else f"is {kind}, where the model needs {str(own.dtype).removeprefix('torch.')}"
    if found.dtype not in FLOATS:
        return f"is {kind}, where the model needs floating point: float16, bfloat16, float32 or float64"
    finite = found.to(own.dtype).isfinite()
    if finite.all() or (own.isnan().all() and found.isnan().all()):
        return ""
    return f"has {int((~finite).sum()):,} of {finite.numel():,} values that are not finite"
