"""textflow sample RUN"""

import json
import sys
from pathlib import Path
from typing import Any

from textflow.cli.options import SamplerName, best_device, take


def sample(
    run: Path,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    n: int = 16,
    steps: int = 32,
    sampler: SamplerName = "recipe",
    gamma: float = 1.5,
    guidance: float | None = None,
    length: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    out: Path | None = None,
    device: str = "auto",
) -> None:
    """Write texts with a trained run. Text i depends on the weights, the sampler, the seed and i alone.

    Args:
        run: folder of the run.
        overlays: recipes that change how it samples, such as recipes/escape/commit.yaml; they may follow RUN.
        n: number of texts.
        steps: of the grid; network passes a text are steps + 1 (heun: 2 steps).
        sampler: ode, heun, multistep, reinject, commit (mode commit), tube, or what the recipe names.
        gamma: strength of reinject.
        guidance: scale w; default: the recipe's.
        length: tokens a text; default: the length of training.
        seed: of the noise.
        batch_size: texts at a time.
        out: a .jsonl file for the texts, a line each, continued if it holds some already; default: the terminal.
        device: cpu, cuda, mps or auto.
    """
    from textflow.checkpoint import load
    from textflow.eval.run import fields

    generator: Any = load(run, best_device(device), overlays)
    if not hasattr(generator, "generate"):
        found = type(generator).__name__
        raise ValueError(f"{run} holds a {found}, which writes no texts; name a Generator, Masked or CausalLM")
    take(generator, sampler, gamma)
    settings = {
        "seed": seed,
        "steps": steps,
        "sampler": repr(generator.sampler),
        "escape": fields(getattr(generator, "escape", None)),
        "overlays": overlays,
        "guidance": guidance,
        "length": length,
    }
    done = written(out, settings) if out else 0
    if done:
        print(f"{out} holds {done} of {n} texts; going on", file=sys.stderr)
    with out.open("a", encoding="utf-8") if out else sys.stdout as file:
        for first in range(done, n, batch_size):
            count = min(batch_size, n - first)
            texts = generator.generate(count, steps, seed, None, guidance, length, batch_size, first)
            for i, text in enumerate(texts, first):
                record = json.dumps({"index": i, "text": text, **settings}, ensure_ascii=False)
                file.write(record + "\n" if out else f"[{i}] {text}\n")
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
