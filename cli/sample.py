"""textflow sample RUN"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from .options import SamplerName, at_least_one, best_device, take


def sample(
    run: Path | None = None,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    n: int | None = None,
    steps: int = 32,
    sampler: SamplerName = "recipe",
    gamma: float | None = None,
    guidance: float | None = None,
    length: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    out: Path | None = None,
    device: str = "auto",
    prompt: str | None = None,
    prompt_file: Path | None = None,
    infill: str | None = None,
    prompt_guidance: float | None = None,
    from_record: Path | None = None,
) -> None:
    """Write texts with a trained run. Text i depends on the weights, the sampler, the seed and i alone.

    Args:
        run: folder of the run; a record finds its own.
        overlays: recipes that change how it samples, such as recipes/escape/commit.yaml; they may follow RUN.
        n: number of texts; default: 16, or one for each prompt of a file.
        steps: of the grid; network passes a text are steps + 1 (heun: 2 steps).
        sampler: ode, heun, multistep, reinject, commit (mode commit), tube, or what the recipe names.
        gamma: strength of reinject; default: 1.5.
        guidance: scale w; default: the recipe's.
        length: tokens a text; default: the length of training.
        seed: of the noise.
        batch_size: texts at a time.
        out: a .jsonl file for the texts, a line each, continued if it holds some already; default: the terminal.
        device: cpu, cuda, mps or auto.
        prompt: a text to go on with; of a run that was trained on pairs, a source to answer.
        prompt_file: a prompt a line; text i has prompt i, from the first again after the last.
        infill: a text with holes, such as 'a [MASK:8] b': eight tokens between a and b. A flow that was not trained on
            prompts is given text by replacement, which is an approximation.
        prompt_guidance: scale of classifier-free guidance by the prompt; 1 is none; default: the recipe's.
        from_record: a trajectory of textflow report: its text made again from the record alone, and compared with it.
    """
    if from_record is not None:
        from textflow.eval.trajectory.replay import replayed

        print(replayed(from_record, run, None if device == "auto" else best_device(device)))
        return
    if run is None:
        raise ValueError("sample needs a RUN, or --from-record FILE; see textflow sample --help")
    from textflow.eval.measure import fields
    from textflow.eval.report.trajectory_files import of_weights

    from .prompts import approximate, digest, rows_of

    at_least_one(n=n, steps=steps, length=length, batch_size=batch_size)
    if prompt_guidance is not None and not any((prompt, prompt_file, infill)):
        raise ValueError(f"--prompt-guidance {prompt_guidance} guides by a prompt: give one too, such as --prompt TEXT")
    generator = writer(run, device, overlays)
    take(generator, sampler, gamma)
    rows = rows_of(generator, prompt, prompt_file, infill, length)
    n = (len(rows) if prompt_file else 16) if n is None else n
    settings: dict[str, Any] = {
        "checkpoint_hash": of_weights(run) if out else None,  # a large file to read
        "seed": seed,
        "steps": steps,
        "sampler": repr(generator.sampler),
        "escape": fields(getattr(generator, "escape", None)),
        "grid": fields(getattr(generator, "grid", None)),
        "overlays": said_by(overlays, run) if out else [],
        "guidance": guidance,
        "length": length,
    }
    if rows:
        given = prompt or infill or f"{prompt_file} {digest(rows)}"
        settings |= {"given": given, "prompt_guidance": prompt_guidance, "approximate": approximate(generator, rows)}
    put(generator, rows, n, settings, batch_size, out)


def said_by(overlays: list[str], run: Path) -> list[str]:
    """What overlays change of a run's recipe: their names alone would not tell.

    Args:
        overlays: recipes.
        run: folder of the run.
    """
    from textflow.config.overlays import differences, sampling

    kept = run / "recipe.yaml"
    return differences(kept.read_text(encoding="utf-8"), sampling(kept, overlays)) if overlays else []


def writer(run: Path, device: str, overlays: list[str]) -> Any:
    """The model of a run that writes texts.

    Args:
        run: its folder.
        device: cpu, cuda, mps or auto.
        overlays: recipes that change how it samples.
    """
    from textflow.run_folder import load

    generator: Any = load(run, best_device(device), overlays)
    if not hasattr(generator, "generate"):
        found = type(generator).__name__
        raise ValueError(f"{run} holds a {found}, which writes no texts; name a Generator, Masked or CausalLM")
    return generator


def put(generator: Any, rows: Any, n: int, settings: dict[str, Any], batch_size: int, out: Path | None) -> None:
    """Write the texts that a file lacks, batch after batch, or all of them to the terminal.

    Args:
        generator: that writes.
        rows: prompts; none if they are empty.
        n: number of texts.
        settings: that the texts depend on.
        batch_size: texts at a time.
        out: a .jsonl file; None: the terminal.
    """
    from .prompts import marked, texts

    with alone(out) if out else nullcontext(sys.stdout) as file:
        done = written(out, settings) if out else 0
        if done:
            print(f"{out} holds {done} of {n} texts; going on", file=sys.stderr)
        for first in range(done, n, batch_size):
            count = min(batch_size, n - first)
            for i, one in enumerate(texts(generator, rows, count, first, settings), first):
                line = json.dumps({"index": i, **one, **settings}, ensure_ascii=False)
                file.write(line + "\n" if out else f"[{i}] {marked(one)}\n")
            file.flush()
            if out:
                print(f"{first + count}/{n}", file=sys.stderr)


@contextmanager
def alone(out: Path) -> Iterator[IO[str]]:
    """Opens a file to add texts at its end, and holds it: two commands do not write into one.

    Args:
        out: the file; it and its folder are made where they are missing.
    """
    from textflow.runtime.atomic import lock

    out.parent.mkdir(parents=True, exist_ok=True)
    with out.open("a", encoding="utf-8") as file:
        try:
            if out.is_file():  # not a terminal or /dev/null
                lock(file)
        except BlockingIOError as error:
            way = "wait for it, or name another file with --out"
            raise ValueError(f"another `textflow sample` is writing into {out}; {way}") from error
        except OSError:
            print(f"{out} lies on a file system without locks: let no other command write into it", file=sys.stderr)
        yield file


def written(out: Path, settings: dict[str, Any]) -> int:
    """How many texts of these settings a file holds; the beginning of another at its end is cut off.

    Args:
        out: .jsonl file.
        settings: must agree with those in the file.
    """
    if not out.is_file():
        return 0
    *lines, torn = out.read_bytes().split(b"\n")  # U+2028 in a text ends no line; a torn one may end within a character
    for number, line in enumerate(lines):
        follows(out, number, line, settings)
    begun = f'{{"index": {len(lines)}, "text": "'.encode()
    if not torn.startswith(begun[: len(torn)]):
        raise ValueError(f"{out} is not a file of textflow samples; name another file with --out")
    if torn:
        os.truncate(out, sum(len(line) + 1 for line in lines))
    return len(lines)


def follows(out: Path, number: int, line: bytes, settings: dict[str, Any]) -> None:
    """Refuses a line of a file that is not its next text of these settings.

    Args:
        out: .jsonl file.
        number: of the lines before.
        line: without its end.
        settings: must agree with those in it.
    """
    way = "name another file with --out"
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("text"), str) or "index" not in record:
        raise ValueError(f"{out} is not a file of textflow samples; {way} (line {number + 1} is none)")
    changed = [f"{key} {record.get(key)} -> {value}" for key, value in settings.items() if record.get(key) != value]
    if changed:
        raise ValueError(f"{out}:{number + 1} was sampled otherwise ({', '.join(changed)}); {way}")
    if record["index"] != number:
        found = f"{out}:{number + 1} holds text {record['index']} where text {number} is needed"
        raise ValueError(f"{found}: two commands wrote into it, or lines were taken out; {way}")
