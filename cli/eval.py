"""textflow eval: perplexity with all that it must stand beside."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from .options import SamplerName, at_least_one, devices_of, sample_by, swept

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
    memory: bool | None = None,
    mauve: bool = False,
    device: str = "auto",
    devices: int | None = None,
    format: Format = "table",
    prompt_guidance: float | None = None,
) -> None:
    """Sample at several numbers of steps, let a language model judge, print a table and write RUN/eval/*.json.

    Two rows stand first: real validation text, and the same with its words shuffled. Samples are kept as they are
    made: the same command goes on with those that are there. RUN may be a file of texts made by anything.

    Args:
        run: folder of a fitted generator; or a .jsonl file (`text` a line, perhaps `ids`) or .txt file (a text a line).
        overlays: recipes that change how it samples, such as recipes/escape/commit.yaml; they may follow RUN.
        protocol: elf, mdlm, langflow, ld4lg, local, or a YAML file with their keys: who judges and what counts.
        steps: numbers of sampling steps, with commas between.
        n: samples a row; default: as many as the protocol needs. Fewer are marked.
        scorer: Hub name or folder of another judge than the protocol's, which is marked.
        seed: of the samples and of the shuffle.
        batch_size: samples at once; does not change the texts.
        sampler: ode, heun, multistep, reinject, commit (mode commit), tube, or what the recipe names.
        gamma: strength of reinject; default: 1.5.
        sweep: a frontier, perplexity against entropy over gamma=0:2:.5, w=1,2,3 or temperature=.5:1.5:.25.
        dtype: of the judge: float32, float16 or bfloat16; default: the protocol's.
        memory: whether the share of 4-grams seen in training is measured; default: as the protocol says.
        mauve: whether MAUVE is measured (pip install 'textflow[eval]').
        device: cpu, cuda, mps or auto.
        devices: that sample at the same time; default: every GPU.
        format: table, csv, markdown or latex.
        prompt_guidance: of a run of pairs, whose answers are held against the test's targets (BLEU and ROUGE; all of
            them unless n is given): scale of classifier-free guidance by the source; default: the recipe's.
    """
    counts = numbers(steps)
    at_least_one(n=n, batch_size=batch_size)
    key, values = swept(sweep) if sweep else ("", [])
    from textflow.eval.conditional import of_pairs

    if of_pairs(run):
        if scorer or sweep or memory or mauve or format != "table":
            raise ValueError(f"{run} answers sources: leave scorer, sweep, memory, mauve and format out")
        from .eval_conditional import answer

        return answer(run, counts, n, seed, batch_size, sampler, gamma, prompt_guidance, overlays, device)
    from textflow.eval.frontier import draw
    from textflow.eval.parallel import Task, Way
    from textflow.eval.scoring import given, judged

    from .scorers import judge_of, show

    places = devices_of(device, devices)
    if prompt_guidance is not None:
        raise ValueError(f"--prompt-guidance {prompt_guidance} is of runs of pairs, which {run} is not; leave it out")
    judge = judge_of(run, protocol, scorer, dtype, memory, mauve, places[0])
    if run.is_file():
        with progress() as tick:
            records = [given(run, judge, n, tick)]
        return show(records, format)
    ways = [Way(partial(sample_by, name=sampler, gamma=gamma, sweep=each), each) for each in over(key, values)]
    task = Task(run, counts, n or judge.protocol.n, ways, seed, batch_size, overlays)
    with progress() as tick:
        records = list(judged(task, judge, places, tick))
    show(records, format)
    if sweep:
        draw(records, key, run / "eval")
    return None


def over(key: str, values: list[float]) -> list[dict[str, float]]:
    """What each way sets; without a sweep, one that sets nothing."""
    return [{key: value} for value in values] or [{}]


@contextmanager
def progress() -> Iterator[Any]:
    """A bar on stderr: what is done, how much of it; a new line for each thing that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("reading", total=None)

        def tick(what: str, done: int, of: int) -> None:
            bar.update(line, description=what, completed=done, total=of)

        yield tick


def numbers(steps: str) -> list[int]:
    """`1,2,4` as numbers, each at least 1."""
    words = [word.strip() for word in steps.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ValueError(f"steps is {steps!r}; needs whole numbers above 0 with commas between, such as 1,2,4,8")
    return [int(word) for word in words]
