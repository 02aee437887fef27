"""What `textflow eval` does with a run of pairs: answers, held against the targets."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from textflow.eval.bleu_rouge import table
from textflow.eval.conditional import Task, answered

from .options import SamplerName, best_device, take


def answer(
    run: Path,
    steps: Sequence[int],
    n: int | None,
    seed: int,
    batch_size: int,
    sampler: SamplerName,
    gamma: float | None,
    prompt_guidance: float | None,
    overlays: Sequence[str],
    device: str,
) -> None:
    """Answer the test's sources, print a table of BLEU and ROUGE, write RUN/eval/pairs.

    Args:
        run: folder of a fitted run of pairs.
        steps: numbers of sampling steps.
        n: pairs; None is all of the test.
        seed: of the samples.
        batch_size: pairs at once.
        sampler: as of `take`.
        gamma: strength of reinject.
        prompt_guidance: scale of classifier-free guidance by the source; None is the recipe's.
        overlays: recipes that change how it samples.
        device: cpu, cuda, mps or auto.
    """
    from rich.console import Console

    from .eval import progress

    way, place = partial(take, name=sampler, gamma=gamma), str(best_device(device))
    task = Task(run, steps, n, seed, batch_size, way, prompt_guidance, overlays, place)
    with progress() as tick:
        records = list(answered(task, tick))
    Console(width=max(120, Console().width), highlight=False).print(table(records))
