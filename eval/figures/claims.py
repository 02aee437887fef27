"""Qualitative claims of the paper against a trained run's numbers, each with its verdict at this scale."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

Found = dict[str, Any]


class Claim(NamedTuple):
    """Claim of arXiv 2606.30705 with its measurement.

    Args:
        statement: text of the claim.
        measured: measured numbers, with numerators and denominators.
        holds: True if the claim holds at this scale.
    """

    statement: str
    measured: str
    holds: bool


def check_claims(results: dict[str, Found], run_name: str) -> list[Claim]:
    """Claims covered by the available figures.

    Args:
        results: numbers by figure.
        run_name: name of the run among the figure inputs.
    """
    parts = {"fig2": dabi_claim, "fig3": flip_claims, "judged": scored_claims}
    return [claim for name, part in parts.items() if name in results for claim in part(results[name], run_name)]


def dabi_claim(found: Found, run: str) -> Iterator[Claim]:
    """Claim on structured against isotropic perturbations (fig2)."""
    at = next(row for row in found["depth"][run] if row["K"] == 8)
    ce, flip = at["ce"], at["flip"]
    measured = (
        f"K = 8: {ce['along']:.3f} against {ce['random']:.3f} nats, DABI {format_ratio(ce)};"
        f" {flip['along']:.1%} against {flip['random']:.1%} flips, DABI {format_ratio(flip)}"
    )
    yield Claim("the residual hurts more than random noise of its length", measured, ce["low"] > 1 and flip["low"] > 1)


def format_ratio(of: Found) -> str:
    """Ratio with its interval, or its lower bound."""
    ends = f"[{of['low']:.1f}, {'-' if of['high'] is None else format(of['high'], '.1f')}]"
    return f"at least {of['low']:.1f}" if of["value"] is None else f"{of['value']:.1f} {ends}"


def flip_claims(found: Found, run: str) -> Iterator[Claim]:
    """Claims on flips against the blur and the number of steps (fig3)."""
    rows = found["times"][run]  # blur falls as t rises
    some = rows[:: max(len(rows) // 4, 1)]
    measured = ", ".join(f"{row['flip']:.0%} at t = {row['t']:.2f}" for row in some)
    falls = all(b["flip"] <= a["flip"] + difference_error(a, b) for a, b in pairwise(rows))
    yield Claim("flips rise with the blur s(t)", measured, falls and rows[-1]["flip"] < rows[0]["flip"])
    ends = [row for row in found["depths"][run] if "terminal" in row]
    measured = ", ".join(f"{row['terminal']:.1%} at K = {row['K']}" for row in ends)
    falls = all(b["terminal"] <= a["terminal"] for a, b in pairwise(ends))
    yield Claim(
        "terminal flips collapse as K grows", measured, falls and ends[-1]["terminal"] < 0.5 * ends[0]["terminal"]
    )


def difference_error(a: Found, b: Found) -> float:
    """Two standard errors of the difference of two shares of positions."""
    return 2 * sum(row["flip"] * (1 - row["flip"]) / row["positions"] for row in (a, b)) ** 0.5


def scored_claims(found: Found, run: str) -> Iterator[Claim]:
    """Claims on re-injection against the ODE and on sampling without commitments."""
    rows = {(row["method"], row["K"]): row for row in found["rows"] if row["source"] == run}
    for steps in (4, 8):
        ode, reinject = rows["ODE", steps], rows["re-injection 1.5", steps]
        gap = 1 - reinject["perplexity"] / ode["perplexity"]
        words = f"re-injection lowers the ODE's perplexity at K = {steps} (published: by 15 to 38 %)"
        yield Claim(words, f"{format_row(ode)} -> {format_row(reinject)}: by {gap:.0%}", gap > 0)
    made, soft = rows["mode commit", 8], rows["mode commit, means fed", 8]
    yield Claim(
        "generation collapses without its commitments (K = 8)",
        f"{format_row(made)} -> {format_row(soft)} with the mean fed",
        soft["perplexity"] > 2 * made["perplexity"],
    )


def format_row(row: Found) -> str:
    """Perplexity with entropy and repetition."""
    return f"{row['perplexity']:.1f} (H {row['entropy']:.2f}, seq-rep-4 {row['seq_rep_4']:.1%})"
