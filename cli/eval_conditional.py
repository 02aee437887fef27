"""Evaluation of a run of pairs by `textflow eval`: answers compared with the targets."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from textflow.eval.bleu_rouge import make_table
from textflow.eval.conditional import ConditionalJob, evaluate_conditional

from .options import SamplerName, resolve_device, set_sampler


def answer(
    run: Path,
    steps: Sequence[int],
    n: int | None,
    seed: int,
    batch_size: int,
    sampler: SamplerName,
    gamma: float | None,
    cfg_scale: float | None,
    overlays: Sequence[str],
    device: str,
) -> None:
    """Answer the sources of the test split, print a table of BLEU and ROUGE, write RUN/eval/pairs.

    Args:
        run: folder of a trained run of pairs.
        steps: numbers of sampling steps.
        n: number of pairs; None: the whole test split.
        seed: random seed for sampling.
        batch_size: number of pairs answered at a time.
        sampler: name of a preset, as in `set_sampler`.
        gamma: strength of the reinject sampler.
        cfg_scale: scale of classifier-free guidance by the source; None: the recipe's.
        overlays: recipes that change sampling settings.
        device: device to run on: cpu, cuda, mps or auto.
    """
    from rich.console import Console

    from .eval import progress_bar

    configure, device = partial(set_sampler, name=sampler, gamma=gamma), str(resolve_device(device))
    job = ConditionalJob(run, steps, n, seed, batch_size, configure, cfg_scale, overlays, device)
    with progress_bar() as tick:
        records = list(evaluate_conditional(job, tick))
    Console(width=max(120, Console().width), highlight=False).print(make_table(records))
