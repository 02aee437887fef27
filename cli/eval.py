"""textflow eval: perplexity with entropy, repetition and the other numbers needed to interpret it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .options import SamplerName, configure_sampling, parse_sweep, require_positive, resolve_devices

Format = Literal["table", "csv", "markdown", "latex"]


def eval(
    run: Path,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    protocol: str = "local",
    steps: str = "1,2,4,8,16,32",
    n: int | None = None,
    scorer: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
    sampler: SamplerName = "recipe",
    gamma: float | None = None,
    sweep: str | None = None,
    dtype: str | None = None,
    memorization: bool | None = None,
    mauve: bool = False,
    device: str = "auto",
    devices: int | None = None,
    format: Format = "table",
    cfg_scale: float | None = None,
) -> None:
    """Sample at several numbers of steps, score them with a language model, print a table and write RUN/eval/*.json.

    The first two rows are baselines: validation text, and the same text with its words shuffled. Samples are saved, so
    running the same command again resumes. RUN may also be a file of texts. Runs of pairs are scored by BLEU and ROUGE.

    Args:
        run: folder of a trained generator; or a file of texts: .txt (one per line) or .jsonl (keys `text` and,
            optionally, `ids`).
        overlays: recipes that change sampling settings, such as recipes/escape/commit.yaml; usually written after RUN.
        protocol: evaluation protocol, which sets the scorer and the token weighting: elf, mdlm, langflow, ld4lg, local,
            or a YAML file with the same keys.
        steps: numbers of sampling steps, separated by commas.
        n: number of samples per row; default: as many as the protocol requires. Rows with fewer are marked.
        scorer: Hub name or folder of a language model that replaces the protocol's scorer; such rows are marked.
        seed: random seed for sampling and for the shuffled baseline.
        batch_size: number of samples generated at a time; does not change the texts.
        sampler: sampler and escape to use; recipe means those of the run's recipe.
        gamma: re-injection strength of --sampler reinject, >= 0; default: 1.5.
        sweep: sampling setting to vary in a plot of perplexity against entropy: gamma=0:2:.5, temperature=.5:1.5:.25 or
            w=1,2,3 (self-conditioning guidance).
        dtype: data type of the scorer: float32, float16 or bfloat16; default: the protocol's.
        memorization: measure the fraction of 4-grams that occur in the training text; default: the protocol's.
        mauve: measure MAUVE (needs pip install 'textflow[eval]').
        device: device to run on: cpu, cuda, mps or auto.
        devices: number of devices that sample in parallel; default: every GPU.
        format: output format: table, csv, markdown or latex.
        cfg_scale: scale of classifier-free guidance by the source, for runs of pairs only; default: the recipe's.
    """
    counts = parse_steps(steps)
    require_positive(n=n, batch_size=batch_size)
    key, values = parse_sweep(sweep) if sweep else ("", [])
    from textflow.eval.conditional import is_conditional

    if is_conditional(run):
        if scorer or sweep or memorization or mauve or format != "table":
            raise ValueError(f"{run} answers sources: leave scorer, sweep, memorization, mauve and format out")
        from .eval_conditional import answer

        return answer(run, counts, n, seed, batch_size, sampler, gamma, cfg_scale, overlays, device)
    from textflow.eval.frontier import draw_frontier
    from textflow.eval.parallel import SamplingConfig, SamplingJob
    from textflow.eval.scoring import evaluate_file, evaluate_run

    from .scorers import print_records, resolve_scorer

    device_names = resolve_devices(device, devices)
    if cfg_scale is not None:
        raise ValueError(f"--cfg-scale {cfg_scale} applies to runs of pairs, and {run} is not one; leave it out")
    scoring = resolve_scorer(run, protocol, scorer, dtype, memorization, mauve, device_names[0])
    if run.is_file():
        with progress_bar() as tick:
            records = [evaluate_file(run, scoring, n, tick)]
        return print_records(records, format)
    configs = [
        SamplingConfig(partial(configure_sampling, name=sampler, gamma=gamma, sweep=settings), settings)
        for settings in sweep_settings(key, values)
    ]
    job = SamplingJob(run, counts, n or scoring.protocol.n, configs, seed, batch_size, overlays)
    with progress_bar() as tick:
        records = list(evaluate_run(job, scoring, device_names, tick))
    print_records(records, format)
    if sweep:
        draw_frontier(records, key, run / "eval")
    return None


def sweep_settings(key: str, values: list[float]) -> list[dict[str, float]]:
    """Sampling settings of each configuration; without a sweep, a single empty one."""
    return [{key: value} for value in values] or [{}]


@contextmanager
def progress_bar() -> Iterator[Any]:
    """Show a progress bar on stderr; yields a function that sets its description, count and total."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("reading", total=None)

        def tick(description: str, done: int, total: int) -> None:
            bar.update(line, description=description, completed=done, total=total)

        yield tick


def parse_steps(text: str) -> list[int]:
    """Parse numbers such as `1,2,4`, each at least 1."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"steps is {text!r}; needs whole numbers above 0, separated by commas, such as 1,2,4,8")
    return [int(word) for word in words]
