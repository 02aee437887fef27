"""textflow sample RUN"""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from textflow.config.shipped import find_run

from .options import SamplerName, require_positive, resolve_device, set_sampler
from .sample_file import count_written, open_locked


def sample(
    run: Path | None = None,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    n: int | None = None,
    steps: int | None = None,
    sampler: SamplerName = "recipe",
    gamma: float | None = None,
    self_cond_guidance: float | None = None,
    length: int | None = None,
    seed: int = 0,
    batch_size: int = 64,
    out: Path | None = None,
    device: str = "auto",
    prompt: str | None = None,
    prompt_file: Path | None = None,
    infill: str | None = None,
    cfg_scale: float | None = None,
    replay: Path | None = None,
) -> None:
    """Generate texts with a trained run. Text i depends only on the weights, the sampler, the seed and i.

    Args:
        run: folder of a trained run; hf:OWNER/NAME[@REVISION] on the Hugging Face Hub; or the name of one that ships,
            such as demo. --replay needs none.
        overlays: recipes that change sampling settings, such as recipes/escape/commit.yaml; usually written after RUN.
        n: number of texts; default: 16, or one per prompt with --prompt-file.
        steps: number of sampling steps, with the order Grouped of each group; default: those that a student was trained
            for, otherwise 32. A step takes one evaluation of the network (heun: two). ELF's
            readout takes one more, and its commits about one more per step.
        sampler: sampler and escape to use; recipe means those of the run's recipe, tube-commit a mode commit only where
            the posterior is unsure.
        gamma: re-injection strength of --sampler reinject, >= 0; default: 1.5.
        self_cond_guidance: scale w of self-conditioning guidance; default: the recipe's.
        length: number of tokens in a text; default: the sequence length of training.
        seed: random seed for sampling.
        batch_size: number of texts generated at a time; does not change the texts.
        out: .jsonl file to write, one text per line; an incomplete file is resumed; default: print to the terminal.
        device: device to run on: cpu, cuda, mps or auto.
        prompt: text to continue; for a run trained on pairs, the source to answer.
        prompt_file: file with one prompt per line, or records with a field `text` (.jsonl, .csv and others); text i
            uses prompt i and restarts at the first after the last.
        infill: text with holes to fill, such as 'a [MASK:8] b' for eight tokens between a and b; an approximation for a
            flow that was not trained with prompts.
        cfg_scale: scale of classifier-free guidance by the prompt; 1 turns it off; default: the recipe's.
        replay: trajectory file written by textflow report; regenerates its text from the record and compares the two.
    """
    from .prompts import build_rows, prompt_settings

    run = find_run(run) if run else None
    if replay is not None:
        return print_replay(replay, run, device)
    if run is None:
        raise ValueError("sample needs a RUN, or --replay FILE; see textflow sample --help")
    require_positive(seed, n=n, steps=steps, length=length, batch_size=batch_size)
    if cfg_scale is not None and not any((prompt, prompt_file, infill)):
        raise ValueError(f"--cfg-scale {cfg_scale} needs a prompt: add one, such as --prompt TEXT")
    generator = load_text_model(run, device, overlays)
    set_sampler(generator, sampler, gamma)
    rows = build_rows(generator, prompt, prompt_file, infill, length)
    settings = sampling_settings(generator, run, overlays, seed, steps or generator.default_steps, bool(out))
    settings |= {"self_cond_guidance": self_cond_guidance, "length": length}
    settings |= prompt_settings(generator, rows, prompt or infill or str(prompt_file), cfg_scale)
    write_samples(generator, rows, n or (len(rows) if prompt_file else 16), settings, batch_size, out)


def print_replay(file: Path, run: Path | None, device: str) -> None:
    """Sample the text of a trajectory file again, and print how it compares with the record."""
    from textflow.eval.trajectory.replay import replay_text

    print(replay_text(file, run, None if device == "auto" else resolve_device(device)))


def sampling_settings(
    generator: Any, run: Path, overlays: list[str], seed: int, steps: int, is_written: bool
) -> dict[str, Any]:
    """Settings that determine the texts; the hash of the weights and the overlays only if the texts are written."""
    from textflow.eval.record import part_fields
    from textflow.eval.report.trajectory_files import weights_hash

    return {
        "checkpoint_hash": weights_hash(run) if is_written else None,  # reads a large file
        "seed": seed,
        "steps": steps,
        "sampler": repr(generator.sampler),
        "escape": part_fields(getattr(generator, "escape", None)),
        "time_grid": part_fields(getattr(generator, "sampling_schedule", None)),
        "overlays": overlay_differences(overlays, run) if is_written else [],
    }


def overlay_differences(overlays: list[str], run: Path) -> list[str]:
    """List the changes that overlays make to a run's recipe, since their file names do not identify them."""
    from textflow.config.overlays import differences, with_sampling_overlays

    saved = run / "recipe.yaml"
    return differences(saved.read_text(encoding="utf-8"), with_sampling_overlays(saved, overlays)) if overlays else []


def load_text_model(run: Path, device: str, overlays: list[str]) -> Any:
    """Load the model of a run that generates texts."""
    from textflow.run_folder import load

    generator: Any = load(run, resolve_device(device), overlays)
    if not hasattr(generator, "generate"):
        advice = "give the run of a Generator, DiscreteDiffusion or CausalLM"
        raise ValueError(f"{run} holds a {type(generator).__name__}, which writes no texts; {advice}")
    return generator


def write_samples(
    model: Any, prompts: Any, num_samples: int, settings: dict[str, Any], batch_size: int, out: Path | None
) -> None:
    """Write the missing texts of a .jsonl file in batches, or print all texts to the terminal."""
    from .prompts import format_sample, generate_texts

    with open_locked(out) if out else nullcontext(sys.stdout) as file:
        num_done = count_written(out, settings) if out else 0
        if num_done:
            print(f"{out} holds {num_done} of {num_samples} texts; resuming", file=sys.stderr)
        for first in range(num_done, num_samples, batch_size):
            count = min(batch_size, num_samples - first)
            for i, text in enumerate(generate_texts(model, prompts, count, first, settings), first):
                line = json.dumps({"index": i, **text, **settings}, ensure_ascii=False)
                file.write(line + "\n" if out else f"[{i}] {format_sample(text)}\n")
            file.flush()
            if out:
                print(f"{first + count}/{num_samples}", file=sys.stderr)
