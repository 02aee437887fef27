"""textflow eval: perplexity with entropy, repetition and the other numbers needed to interpret it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from textflow.config.paths import replace_files
from textflow.config.shipped import find_run

from .options import SamplerName, configure_sampling, parse_sweep, require_positive, resolve_devices
from .scorers import default_protocol, print_records, resolve_scorer

if TYPE_CHECKING:
    from textflow.eval.scoring import ScorerConfig

Format = Literal["table", "csv", "markdown", "latex"]


def eval(
    run: Path,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    protocol: str | None = None,
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
    data_files: str | list[str] | None = None,
) -> None:
    """Sample at several numbers of steps, score them with a language model, print a table and write RUN/eval/*.json.

    The first two rows are baselines: validation text, and the same text with its words shuffled. Running the same
    command again resumes. RUN may also be a file of texts. Pairs are scored by BLEU and ROUGE, stories by a grammar.

    Args:
        run: folder of a trained generator; hf:OWNER/NAME for one on the Hugging Face Hub; or a file of texts: plain
            lines, or records (JSON, CSV, TSV, Parquet) with a field `text` and, optionally, `ids`.
        overlays: recipes that change sampling settings, such as recipes/escape/commit.yaml; usually written after RUN.
        protocol: scorer and token weighting: elf, mdlm, langflow, ld4lg, local, smollm, stories; or a file with both.
        steps: numbers of sampling steps, separated by commas.
        n: number of samples per row; default: as many as the protocol requires. Rows with fewer are marked.
        scorer: Hub name or folder of another language model, which marks the rows; or the grammar of a file of stories.
        seed: random seed for sampling and for the shuffled baseline.
        batch_size: number of samples generated at a time; does not change the texts.
        sampler: sampler and escape to use; recipe means those of the run's recipe, tube-commit a mode commit only where
            the posterior is unsure.
        gamma: re-injection strength of --sampler reinject, >= 0; default: 1.5.
        sweep: setting to vary in a plot of perplexity against entropy: gamma=0:2:.5, temperature=.5:1.5:.25 or w=1,2,3.
        dtype: data type of the scorer: float32, float16 or bfloat16; default: the protocol's.
        memorization: measure the fraction of 4-grams that occur in the training text; default: the protocol's.
        mauve: measure MAUVE (needs pip install 'textflow[eval]').
        device: device to run on: cpu, cuda, mps or auto.
        devices: number of devices that sample in parallel; default: every GPU.
        format: output format: table, csv, markdown or latex.
        cfg_scale: scale of classifier-free guidance by the source, for runs of pairs only; default: the recipe's.
        data_files: text files in place of those of the run, which may have been moved; also written --data.files.
    """
    run, counts, sweeps = find_run(run), parse_steps(steps), parse_sweep(sweep)
    require_positive(seed, n=n, batch_size=batch_size)
    has_text_options = bool(scorer or sweep or memorization or mauve or format != "table")
    with replace_files(data_files, run):
        if answers_sources(run, cfg_scale, has_text_options):
            return evaluate_answers(run, counts, n, seed, batch_size, sampler, gamma, cfg_scale, overlays, device)
        names = resolve_devices(device, devices)
        configure = partial(configure_sampling, name=sampler, gamma=gamma)
        scoring = resolve_scorer(run, protocol or default_protocol(run), scorer, dtype, memorization, mauve, names[0])
        records = evaluate_texts(run, counts, n, configure, sweeps, seed, batch_size, overlays, scoring, names)
    print_records(records, format)
    return draw_sweep(records, sweeps, run)


def answers_sources(run: Path, cfg_scale: float | None, has_text_options: bool) -> bool:
    """True for a run of pairs; raise a ValueError for options that do not apply to this kind of run."""
    from textflow.eval.conditional import is_conditional

    is_pairs = is_conditional(run)
    if is_pairs and has_text_options:
        raise ValueError(f"{run} answers sources: leave scorer, sweep, memorization, mauve and format out")
    if not is_pairs and cfg_scale is not None:
        raise ValueError(f"--cfg-scale {cfg_scale} applies to runs of pairs, and {run} is not one; leave it out")
    return is_pairs


def evaluate_answers(
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
    """Answer the sources of the test split, print a table of BLEU and ROUGE, write RUN/eval/pairs."""
    from rich.console import Console

    from textflow.eval.bleu_rouge import make_table
    from textflow.eval.conditional import ConditionalJob, evaluate_conditional

    from .options import resolve_device, set_sampler

    configure, device = partial(set_sampler, name=sampler, gamma=gamma), str(resolve_device(device))
    job = ConditionalJob(run, steps, n, seed, batch_size, configure, cfg_scale, overlays, device)
    with progress_bar() as tick:
        records = list(evaluate_conditional(job, tick))
    Console(width=max(120, Console().width), highlight=False).print(make_table(records))


def evaluate_texts(
    run: Path,
    steps: Sequence[int],
    n: int | None,
    configure: Callable[..., None],
    sweeps: Sequence[dict[str, float]],
    seed: int,
    batch_size: int,
    overlays: Sequence[str],
    scoring: "ScorerConfig",
    devices: Sequence[str],
) -> list[dict[str, Any]]:
    """Score a file of texts, or the texts that a run samples at each number of steps with each sweep's settings."""
    from textflow.eval.parallel import SamplingConfig, SamplingJob
    from textflow.eval.scoring import evaluate_file, evaluate_run

    with progress_bar() as tick:
        if run.is_file():
            return [evaluate_file(run, scoring, n, tick)]
        configs = [SamplingConfig(partial(configure, sweep=settings), settings) for settings in sweeps]
        job = SamplingJob(run, steps, n or scoring.protocol.n, configs, seed, batch_size, overlays)
        return list(evaluate_run(job, scoring, devices, tick))


def draw_sweep(records: Sequence[dict[str, Any]], sweeps: Sequence[dict[str, float]], run: Path) -> None:
    """Plot perplexity against entropy over a sweep, if there is one."""
    from textflow.eval.frontier import draw_frontier

    if any(sweeps) and not run.is_file():
        draw_frontier(records, next(iter(sweeps[0])), run / "eval")


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
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
    counts = [count.strip() for count in text.split(",")]
    if not all(count.isdecimal() and int(count) > 0 for count in counts):
        raise ValueError(f"steps is {text!r}; needs whole numbers above 0, separated by commas, such as 1,2,4,8")
    return [int(count) for count in counts]
