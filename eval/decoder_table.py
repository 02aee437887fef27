"""The table of decoders, as a record for RESULTS.md."""

from collections.abc import Sequence
from datetime import date

import torch

from textflow.diagnostics.bootstrap import at_floor

from .decoders import BANK_TEXTS, FIT_TEXTS, TEXT_LENGTH
from .diagnostic_case import Row
from .figures.claims import Claim
from .figures.fig7 import CONTROLS, in_order, main_row
from .record import Record
from .results import Cell

TITLE = "Decoders on one map"


def make_record(decoders: Sequence[Record], claims: Sequence[Claim], n: int, seed: int, hardware: str) -> Record:
    """Record for RESULTS.md: a row a decoder and length of its error, and the claims with their verdicts.

    Args:
        decoders: records of the decoders.
        claims: claims with their measurements.
        n: largest number of texts or images of a decoder, and of texts of an oracle task.
        seed: random seed.
        hardware: device, with its number of threads.
    """
    columns: Record = {"decoder": "decoder", "family": "family", "cci": "CCI", "error": "error", "along": "response"}
    columns |= {name: f"to {name} errors" for name in CONTROLS} | {f"dabi_{name}": f"DABI, {name}" for name in CONTROLS}
    about = {"decoder": "decoder", "weights": "weights", "n": "texts or images", "positions": "latents"}
    ordered = in_order(decoders)
    runs = [f"checkpoints/{d['name']}" for d in decoders if d.get("is_run") and d["name"] != "demo"]
    rows = {f"{d['name']}_{i}": decoder_row(d, row) for d in ordered for i, row in enumerate(d["rows"])}
    facts = {d["name"]: fact_row(d) for d in ordered}
    verdicts = {
        f"claim_{i}": {"verdict": claim.verdict, "claim": claim.statement, "measured": claim.measured}
        for i, claim in enumerate(claims)
    }
    bank = f"{BANK_TEXTS} other texts ({FIT_TEXTS} for minilm), of the prior for images, at most 8,192 latents"
    protocol = {
        "command": " ".join(["textflow reproduce fig7 fig8", *runs, f"-n {n}"]),
        "aggregation": "ratios of means with 95% bootstrap intervals over texts or images; at most"
        f" {TEXT_LENGTH} tokens per text; the empirical posterior has a bank of {bank}",
        "dtype": "float32",
        "n": "texts or images as in the table of weights",
        "seed": str(seed),
        "hardware": hardware,
        "source": f"measured on {date.today()}, torch {torch.__version__}",
    }
    heads = {"verdict": "at this scale", "claim": "claim", "measured": "measured"}
    tables = {"decoders": {"columns": columns, "rows": rows}, "claims": {"columns": heads, "rows": verdicts}}
    return {"title": TITLE, "protocol": protocol, "tables": tables | {"weights": {"columns": about, "rows": facts}}}


def decoder_row(decoder: Record, row: Row) -> dict[str, Cell]:
    """Raw rates, then the ratio to each control."""
    noise = f", noise {row['sd']:g} SD" if "sd" in row else ""
    cells: dict[str, Cell] = {"decoder": decoder["label"], "family": decoder["family"], "cci": f"{decoder['cci']:.2f}"}
    cells |= {"error": row["error"] + noise, "along": rate(row[decoder["unit"]], decoder["unit"])}
    for name in CONTROLS:
        cells[name] = rate(row[name], decoder["unit"])
        cells[f"dabi_{name}"] = ratio_text(*(row[f"DABI_{name}{end}"] for end in ("", "_low", "_high")))
    return cells


def fact_row(decoder: Record) -> dict[str, Cell]:
    """Origin of the weights, and number of latents."""
    read = f"; reads {100 * decoder['readout_accuracy']:.0f}% of the tokens" if "readout_accuracy" in decoder else ""
    size = {"n": str(decoder["n"]), "positions": f"{main_row(decoder)['n']:,}"}
    return {"decoder": decoder["label"], "weights": decoder["weights"] + read} | size


def rate(value: float, unit: str) -> str:
    """A share of tokens in per cent, or an image's error over the variance."""
    return f"{100 * value:.2f}%" if unit == "flips" else f"{value:.3f}"


def ratio_text(value: float | None, low: float, high: float | None) -> str:
    """A ratio with its interval, or its lower bound at the floor."""
    if value is None:
        return at_floor(f"{low:.2g}")
    return f"{value:.2f} [{low:.2f}, {'-' if high is None else f'{high:.2f}'}]"
