"""Decoders of packages and of trained runs, measured one by one for fig7 and fig8."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

DECODER_FIGURES = ("fig7", "fig8")
MAX_SAMPLES = 64  # texts or images of each decoder, at most
FETCHED = Path("checkpoints")  # parent folder of what textflow fetch gets


def measure_decoders(
    runs: Sequence[Path], n: int, seed: int, out: Path, device: str, console: "Console"
) -> list[dict[str, Any]]:
    """Records of every decoder that is there; a line names each that is left out, and why.

    A record is kept in OUT/decoders, and measured again only with other weights, n or seed.

    Args:
        runs: folders of trained runs; the run that ships with textflow is added.
        n: number of texts or images of each decoder, of which at most 64 are used.
        seed: random seed.
        out: folder of the figures.
        device: device of the runs: cpu, cuda, mps or auto.
        console: where progress is printed.
    """
    from textflow.config.shipped import find_run
    from textflow.eval.systems import require_trained

    shipped, found = find_run("demo"), []
    runs = [shipped, *(run for run in runs if run.resolve() != shipped.resolve())]
    require_trained(runs)
    for name, weights, measure in tasks(runs, min(n, MAX_SAMPLES), seed, device):
        settings = {"n": min(n, MAX_SAMPLES), "seed": seed, "weights": weights, "textflow": version("textflow")}
        try:
            with console.status(f"measuring {name}"):
                record = cached_record(out / "decoders" / f"{name}.json", settings, measure)
        except ValueError as error:
            console.print(f"left out: {name}: {error}", soft_wrap=True)
            continue
        console.print(f"measured {name}: {record['seconds']:.0f} s")
        found.append(record)
    return found


def tasks(
    runs: Sequence[Path], n: int, seed: int, device: str
) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """Name, weights and measurement of each decoder."""
    from functools import partial

    from textflow.eval.decoders import DECODERS
    from textflow.eval.run_decoders import run_record, weights_id

    from .options import resolve_device

    for name, decoder in DECODERS.items():
        yield name, decoder.origin, partial(lambda d, k: d.record(k, d.folders(FETCHED), n, seed), decoder, name)
    for run in runs:
        yield f"run {run.name}", weights_id(run), partial(run_record, run, n, seed, resolve_device(device))


def cached_record(path: Path, settings: dict[str, Any], measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record of an earlier call with the same settings, or a new one, which is written."""
    from textflow.eval.record import replace_nonfinite
    from textflow.runtime.atomic import atomic_write_json

    if path.is_file():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.get("settings") == settings:
            return known["decoder"]
    start = time.perf_counter()
    record = replace_nonfinite(measure())
    record["seconds"] = time.perf_counter() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, {"settings": settings, "decoder": record})
    return record


def claim_decoders(
    results: dict[str, Any],
    decoders: Sequence[dict[str, Any]],
    n: int,
    seed: int,
    out: Path,
    device: str,
    console: "Console",
) -> None:
    """Print the paper's claims on its map of decoders, and write OUT/decoders.yaml, a record for RESULTS.md."""
    from textflow.eval.decoder_table import make_record
    from textflow.eval.figures.decoder_claims import cci_claims, dabi_claims
    from textflow.eval.systems_table import write_record

    from .options import resolve_device
    from .systems import describe_hardware

    claims = [*(dabi_claims(results["fig7"]) if "fig7" in results else ())]
    claims += cci_claims(results["fig8"]) if "fig8" in results else ()
    console.print("Claims of arXiv 2606.30705 on these decoders:")
    for claim in claims:
        console.print(f"  {claim.sentence}", soft_wrap=True)
    hardware = describe_hardware(str(resolve_device(device)))
    record = make_record(decoders, claims, n, seed, hardware)
    write_record(record, out / "decoders.yaml", "reproduce fig7 fig8")
    console.print(f"Written: {out / 'decoders.yaml'}", soft_wrap=True)
