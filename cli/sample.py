"""textflow sample RUN"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from textflow.cli.options import SamplerName, best_device, take


def sample(
    run: Path | None = None,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    n: int | None = None,
    steps: int = 32,
    sampler: SamplerName = "recipe",
    gamma: float = 1.5,
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
        gamma: strength of reinject.
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
        from textflow.eval.replay import replayed

        print(replayed(from_record, run, None if device == "auto" else best_device(device)))
        return
    if run is None:
        raise ValueError("sample needs a RUN, or --from-record FILE; see textflow sample --help")
    from textflow.cli.prompts import approximate, rows_of
    from textflow.eval.run import fields

    generator = writer(run, device, overlays)
    take(generator, sampler, gamma)
    rows = rows_of(generator, prompt, prompt_file, infill, length)
    n = (len(rows) if prompt_file else 16) if n is None else n
    settings: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "sampler": repr(generator.sampler),
        "escape": fields(getattr(generator, "escape", None)),
        "overlays": overlays,
        "guidance": guidance,
        "length": length,
    }
    if rows:
        given = prompt or infill or str(prompt_file)
        settings |= {"given": given, "prompt_guidance": prompt_guidance, "approximate": approximate(generator, rows)}
    put(generator, rows, n, settings, batch_size, out)


def writer(run: Path, device: str, overlays: list[str]) -> Any:
    """The model of a run that writes texts.

    Args:
        run: its folder.
        device: cpu, cuda, mps or auto.
        overlays: recipes that change how it samples.
    """
    from textflow.checkpoint import load

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
        settings: that the texts depend on, besides the run.
        batch_size: texts at a time.
        out: a .jsonl file; None: the terminal.
    """
    from textflow.cli.prompts import marked, texts

    done = written(out, settings) if out else 0
    if done:
        print(f"{out} holds {done} of {n} texts; going on", file=sys.stderr)
    with out.open("a", encoding="utf-8") if out else nullcontext(sys.stdout) as file:
        for first in range(done, n, batch_size):
            count = min(batch_size, n - first)
            for i, one in enumerate(texts(generator, rows, count, first, settings), first):
                line = json.dumps({"index": i, **one, **settings}, ensure_ascii=False)
                file.write(line + "\n" if out else f"[{i}] {marked(one)}\n")
            file.flush()
            if out:
                print(f"{first + count}/{n}", file=sys.stderr)


def written(out: Path, settings: dict[str, object]) -> int:
    """How many texts of these settings a file holds; a torn last line is cut off.

    Args:
        out: .jsonl file.
        settings: must agree with those in the file.
    """
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return 0
    held = out.read_bytes()  # a torn line may end within a character
    lines = held[: held.rfind(b"\n") + 1].decode("utf-8").split("\n")[:-1]  # U+2028 in a text ends no line
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            found = {key: record[key] for key in settings}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{out}:{number} is not a sample of textflow ({error}); name another file") from error
        if found != settings:
            changed = [f"{key} {found[key]} -> {settings[key]}" for key in settings if found[key] != settings[key]]
            raise ValueError(f"{out}:{number} was sampled otherwise ({', '.join(changed)}); name another file")
    out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return len(lines)
