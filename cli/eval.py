"""textflow eval: perplexity with all that it must stand beside."""

from functools import partial
from pathlib import Path

from textflow.cli.options import SamplerName, best_device, take


def eval(
    run: Path,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    steps: str = "1,2,4,8,16,32",
    n: int = 256,
    scorer: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
    sampler: SamplerName = "recipe",
    gamma: float = 1.5,
    dtype: str = "float32",
    device: str = "auto",
) -> None:
    """Sample at several numbers of steps, let a language model judge, print a table and write RUN/eval/*.json.

    Two rows stand first: real validation text, and the same with its words shuffled.

    Args:
        run: folder of a fitted generator.
        overlays: recipes that change how it samples, such as recipes/escape/commit.yaml; they may follow RUN.
        steps: numbers of sampling steps, with commas between.
        n: samples a row.
        scorer: Hub name or folder of the judge; default: the run `scorer` beside RUN if there is one, else gpt2-large.
        seed: of the samples and of the shuffle.
        batch_size: samples at once; does not change the texts.
        sampler: ode, heun, multistep, reinject, commit (mode commit), tube, or what the recipe names.
        gamma: strength of reinject.
        dtype: of the judge: float32, float16 or bfloat16.
        device: cpu, cuda, mps or auto.
    """
    counts = numbers(steps)
    if n < 1 or batch_size < 1:
        raise ValueError(f"n is {n} and batch_size {batch_size}; both need at least 1")
    from rich.console import Console

    from textflow.eval.protocol import judged
    from textflow.eval.table import table

    judge = scorer or (str(run.parent / "scorer") if (run.parent / "scorer").is_dir() else "gpt2-large")
    console = Console(width=max(125, Console().width))  # a narrow terminal wraps lines, but loses no number
    records = []
    with console.status("sampling and scoring") as status:
        place, way = str(best_device(device)), partial(take, name=sampler, gamma=gamma)
        for record in judged(run, counts, n, judge, seed, batch_size, dtype, place, way, overlays):
            records.append(record)
            status.update(f"{len(records)} of {len(counts) + 2} rows")
    console.print(table(records))


def numbers(steps: str) -> list[int]:
    """`1,2,4` as numbers, each at least 1."""
    words = [word.strip() for word in steps.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"steps is {steps!r}; needs whole numbers above 0 with commas between, such as 1,2,4,8")
    return [int(word) for word in words]
