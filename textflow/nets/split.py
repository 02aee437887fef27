"""Splitting of a batch into chunks of rows."""

from collections.abc import Iterator

from textflow.types import Conditioning, Latents, Times


def split_batch(rows: int, z: Latents, t: Times, cond: Conditioning) -> Iterator[tuple[Latents, Times, Conditioning]]:
    """A denoiser's inputs in chunks of rows.

    Args:
        rows: most rows in a chunk, at least 1.
        z: latents [B, S, d].
        t: time of each row [B].
        cond: conditioning of the rows.
    """
    for i in range(0, len(z), rows):
        part = slice(i, i + rows)
        yield z[part], t[part], Conditioning(*(None if value is None else value[part] for value in cond))
