"""Qualitative claims of the paper against a trained run's numbers, each with its verdict at this scale."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from .style import Record


class Claim(NamedTuple):
    """Claim of arXiv 2606.30705 with its measurement.

    Args:
        statement: text of the claim.
        measured: measured numbers, with numerators and denominators.
        holds: True if the claim holds at this scale; None if the numbers resolve it neither way.
    """

    statement: str
    measured: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """Verdict in words."""
        return {True: "holds", False: "does NOT hold", None: "is not resolved"}[self.holds]

    @property
    def sentence(self) -> str:
        """Verdict, claim and measurement."""
        return f"{self.verdict}: {self.statement}: {self.measured}"


def check_claims(results: dict[str, Record], run: str) -> list[Claim]:
    """Claims on a run that the available figures cover.

    Args:
        results: numbers by figure.
        run: name of the run among the figure inputs.
    """
    checks = {"fig2": dabi_claim, "fig3": flip_claims, "samplers": scored_claims}
    return [claim for name, check in checks.items() if name in results for claim in check(results[name], run)]


def dabi_claim(results: Record, run: str) -> Iterator[Claim]:
    """Claim on structured against isotropic perturbations (fig2)."""
    row = next(row for row in results["depth"][run] if row["K"] == 8)
    ce, flip = row["ce"], row["flip"]
    measured = (
        f"K = 8: {ce['along']:.3f} against {ce['random']:.3f} nats, DABI {format_ratio(ce)};"
        f" {flip['along']:.1%} against {flip['random']:.1%} flips, DABI {format_ratio(flip)}"
    )
    yield Claim("the residual hurts more than random noise of its length", measured, ce["low"] > 1 and flip["low"] > 1)


def format_ratio(ratio: Record) -> str:
    """Ratio with its interval, or its lower bound."""
    high = "-" if ratio["high"] is None else f"{ratio['high']:.1f}"
    low = f"{ratio['low']:.1f}"
    return f"at least {low}" if ratio["value"] is None else f"{ratio['value']:.1f} [{low}, {high}]"


def flip_claims(results: Record, run: str) -> Iterator[Claim]:
    """Claims on flips against the blur and the number of steps (fig3)."""
    rows = results["times"][run]  # blur falls as t rises
    measured = ", ".join(f"{row['flip']:.0%} at t = {row['t']:.2f}" for row in rows[:: max(len(rows) // 4, 1)])
    falls = all(b["flip"] <= a["flip"] + difference_error(a, b) for a, b in pairwise(rows))
    yield Claim("flips rise with the blur s(t)", measured, falls and rows[-1]["flip"] < rows[0]["flip"])
    ends = [row for row in results["depths"][run] if "terminal" in row]
    measured = ", ".join(f"{row['terminal']:.1%} at K = {row['K']}" for row in ends)
    falls = all(b["terminal"] <= a["terminal"] for a, b in pairwise(ends))
    collapse = falls and ends[-1]["terminal"] < 0.5 * ends[0]["terminal"]
    yield Claim("terminal flips collapse as K grows", measured, collapse)


def difference_error(a: Record, b: Record) -> float:
    """Two standard errors of the difference of two shares of positions."""
    return 2 * sum(row["flip"] * (1 - row["flip"]) / row["positions"] for row in (a, b)) ** 0.5


def scored_claims(results: Record, run: str) -> Iterator[Claim]:
    """Claims on re-injection against the ODE and on sampling without commitments (samplers)."""
    rows = {(row["method"], row["K"]): row for row in results["rows"] if row["source"] == run}
    for steps in (4, 8):
        ode, reinject = rows["ODE", steps], rows["re-injection 1.5", steps]
        gap = 1 - reinject["perplexity"] / ode["perplexity"]
        statement = f"re-injection lowers the ODE's perplexity at K = {steps} (published: by 15 to 38 %)"
        yield Claim(statement, f"{format_row(ode)} -> {format_row(reinject)}: by {gap:.0%}", gap > 0)
    commit, soft = rows["mode commit", 8], rows["mode commit, means fed", 8]
    measured = f"{format_row(commit)} -> {format_row(soft)} with the mean fed"
    collapse = soft["perplexity"] > 2 * commit["perplexity"]
    yield Claim("generation collapses without its commitments (K = 8)", measured, collapse)


def format_row(row: Record) -> str:
    """Perplexity with entropy and repetition."""
    return f"{row['perplexity']:.1f} (H {row['entropy']:.2f}, seq-rep-4 {row['seq_rep_4']:.1%})"
