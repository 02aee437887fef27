"""textflow diagnose RUN | --oracle chain"""

from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from .external import diagnose_external, is_external, refuse_overlays
from .measures import parse_measures, print_measures
from .options import require_positive, resolve_device

DESCRIPTIONS = {
    "dabi": "DABI [ours]: the denoiser's residual against random directions of equal length, all positions at once",
    "controls": "controls [ours]: DABI at K = 8 against isotropic directions, the latents' covariance, other residuals",
    "tube": "tube law: flips predicted from the density at the boundary and observed; blur in standard deviations",
    "rollin": "roll-in: flips of one step from noised real text; cumulative: from the sampler's own states",
    "cci": "CCI [ours]: token pairs where one was chosen given the other; changed: with the mean as input instead",
    "margins": "margins [ours]: margin of the readout in nats at each call; settled: tokens that no longer change",
    "stiffness": "stiffness [ours]: |dz'/dz| of each step, its peak, and of the full map; lower bounds",
    "decoder_temperature": "decoder temperature [ours]: temperature and uniform mixing change the loss but no flip",
    "rowspace": "row space [ours]: energy fraction of the residual in the row space of the codec's readout",
    "gates": "gates [ours]: margins fitted on half of the rows; disagreement: tokens got wrong in the other half",
    "likelihood": "likelihood: nats per token of real text: bound, and flow (8 rows; Hutchinson's estimator)",
}


def diagnose(
    run: Path | None = None,
    overlays: list[str] = [],  # noqa: B006  jsonargparse appends to a copy
    oracle: Literal["chain", "text", "topic"] | None = None,
    measures: str | None = None,
    n: int | None = None,
    batch_size: int = 64,
    seed: int = 0,
    out: Path | None = None,
    device: str = "auto",
    data_files: str | list[str] | None = None,
) -> None:
    """Measure where and why sampling fails, for a run on held-out text or for an oracle task with a known distribution.

    Prints a table per measure; writes diagnose.json and figures (PNG and SVG).

    Args:
        run: folder of a trained generator, hf:OWNER/NAME for one on the Hub, or the name of one that ships, such
            as demo; or a model that textflow did not train: hf:NAME_OR_FOLDER, a causal or masked language model of
            transformers, with --data FILE, or image:NAME_OR_FOLDER, an autoencoder of diffusers, with --data FOLDER of
            images.
        overlays: recipes that change sampling settings, such as recipes/escape/commit.yaml; usually written after RUN.
        oracle: oracle task to measure instead of a run.
        measures: measures to compute, separated by commas: dabi, controls, tube, rollin, cci, margins, stiffness,
            decoder_temperature, rowspace, gates, likelihood; of hf:NAME likelihood, cci, sharpness, dependence; of
            image:NAME dabi; default: all that apply. likelihood (LangFlow's path and schedule) costs 34 network
            evaluations for each row of the first batch, then 128 evaluations and 64 backward passes for each of 8 rows.
        n: number of rows of text; default: 256, or 32 texts or images of hf:NAME and image:NAME.
        batch_size: number of rows processed at a time.
        seed: random seed for sampling noise and for building the oracle task.
        out: folder for diagnose.json and figures; default: RUN/diagnostics, or checkpoints/oracle/TASK.
        device: device to run on: cpu, cuda, mps or auto.
        data_files: text files in place of those of the run, which may have been moved; also written --data.files, or
            --data for the texts of hf:NAME or the images of image:NAME.
    """
    require_positive(seed, n=n, batch_size=batch_size)
    check_source(run, oracle, data_files)
    if run is not None and is_external(run, data_files):
        refuse_overlays(run, overlays)
        return diagnose_external(str(run), data_files, measures, n or 32, seed, out, device)
    names, n = parse_measures(measures, DESCRIPTIONS), n or 256
    from textflow.config.paths import replace_files
    from textflow.config.shipped import find_run
    from textflow.eval.diagnose import MEASURES, applicable
    from textflow.eval.diagnostic_case import DiagnosticCase
    from textflow.eval.figures.curves import draw_curves
    from textflow.eval.figures.diagnose import FIGURES

    run = find_run(run) if run else None
    folder = out or (run / "diagnostics" if run else Path("checkpoints/oracle") / str(oracle))
    with replace_files(data_files, run or folder):
        loaded = load_run(run, overlays, n, batch_size, device, True) if run else load_oracle(str(oracle), n, seed)
    model, batches, facts = loaded
    names = applicable(names, model, chosen := measures is not None)
    case, facts = DiagnosticCase(model, batches, seed), facts | {"n": n, "seed": seed}
    results = print_measures(names, DESCRIPTIONS, lambda name: MEASURES[name](case), facts, folder, chosen)
    figures = [name for name, draw in FIGURES.items() if name in results and draw(results[name], folder / name)]
    if run and (run / "metrics.csv").is_file() and draw_curves(run / "metrics.csv", folder / "curves"):
        figures.append("curves")
    print(f"Written: {folder}/diagnose.json" + (f" and {', '.join(figures)} (.png, .svg)" if figures else ""))


def check_source(run: Path | None, oracle: str | None, data_files: str | list[str] | None) -> None:
    """Raise a ValueError unless either a run or an oracle task is given."""
    if run is not None and oracle is not None:
        advice = f"leave {run} or --oracle {oracle} out"
        raise ValueError(f"diagnose takes either a run or an oracle task, not both: {advice}")
    if run is None and data_files is not None:
        raise ValueError(f"--data.files {data_files} is the text of a run; give the run, or leave it out")
    if run is None and oracle is None:
        advice = "textflow diagnose RUN, or textflow diagnose --oracle chain"
        raise ValueError(f"diagnose needs a run or an oracle task: {advice}")


def load_run(
    run: Path, overlays: Sequence[str], n: int, batch_size: int, device: str, over_tokens: bool = False
) -> tuple[Any, list[Any], Any]:
    """Load a trained model, held-out text in batches, and the facts of the run for its record.

    Args:
        run: run folder.
        overlays: recipes that change sampling settings.
        n: number of rows of text.
        batch_size: number of rows in a batch.
        device: cpu, cuda, mps or auto.
        over_tokens: whether a diffusion over tokens, which has no latents, is taken too.
    """
    from textflow import run_folder
    from textflow.eval.protocol import run_facts, run_recipe, validation_batch
    from textflow.models.discrete_diffusion import DiscreteDiffusion
    from textflow.models.generator import Generator

    facts, model = run_facts(run, overlays), run_folder.load(run, resolve_device(device), overlays)
    if not isinstance(model, (Generator, DiscreteDiffusion) if over_tokens else Generator):
        raise ValueError(
            f"{run} holds a {type(model).__name__}, which has no latents to measure or draw; it needs the run of a "
            "Generator, and textflow eval scores any run"
        )
    rows = validation_batch(run_recipe(run)["data"], n)
    starts = range(0, len(rows.ids), batch_size)
    batches = [rows.map(itemgetter(slice(i, i + batch_size))).map(lambda part: part.to(model.device)) for i in starts]
    return model, batches, facts


def load_oracle(name: str, n: int, seed: int) -> tuple[Any, list[Any], Any]:
    """Load an oracle task as a generator, and sample texts from it."""
    from textflow.noise import Noise, sample_seeds
    from textflow.oracle import ORACLE_TASKS
    from textflow.schedules import LogitNormal
    from textflow.types import Batch

    task = ORACLE_TASKS[name](seed)
    ids = task.sample(Noise(sample_seeds(seed, 0, n)))
    grid = LogitNormal(-0.2, 0.4)  # concentrated on the times at which tokens are decided
    facts = {"oracle": name, "grid": "LogitNormal(-0.2, 0.4)"}
    return task.make_generator(sampling_schedule=grid), [Batch(ids, ids >= 0)], facts
