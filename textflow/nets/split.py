"""A batch in parts."""

from collections.abc import Iterator

from textflow.types import Given, Latents, Times


def split(rows: int, z: Latents, t: Times, given: Given) -> Iterator[tuple[Latents, Times, Given]]:
    """What a denoiser sees of at most so many rows at a time.

    Args:
        rows: at least 1.
        z: latents.
        t: their times.
        given: what it is told besides.
    """
    for i in range(0, len(z), rows):
        part = slice(i, i + rows)
        yield z[part], t[part], Given(*(None if told is None else told[part] for told in given))
