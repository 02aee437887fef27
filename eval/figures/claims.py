"""The paper's qualitative claims beside a trained run's numbers, each with its verdict at this scale."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

Found = dict[str, Any]


class Claim(NamedTuple):
    """A claim of arXiv 2606.30705, and what was measured.

    Args:
        words: the claim.
        measured: with numerators and denominators.
        holds: at this scale.
    """

    words: str
    measured: str
    holds: bool


def claims(found: dict[str, Found], run: str) -> list[Claim]:
    """The claims that the figures at hand speak to.

    Args:
        found: numbers by figure.
        run: name of the run among their sources.
    """
    parts = {"fig2": louder, "fig3": flips, "judged": judged}
    return [claim for name, part in parts.items() if name in found for claim in part(found[name], run)]


def louder(found: Found, run: str) -> Iterator[Claim]:
    """Structured against isotropic, of fig2."""
    at = next(row for row in found["depth"][run] if row["K"] == 8)
    ce, flip = at["ce"], at["flip"]
    measured = (
        f"K = 8: {ce['along']:.3f} against {ce['random']:.3f} nats, DABI {ratio(ce)};"
        f" {flip['along']:.1%} against {flip['random']:.1%} flips, DABI {ratio(flip)}"
    )
    yield Claim("the residual hurts more than random noise of its length", measured, ce["low"] > 1 and flip["low"] > 1)


def ratio(of: Found) -> str:
    """A ratio with its interval, or its bound."""
    ends = f"[{of['low']:.1f}, {'-' if of['high'] is None else format(of['high'], '.1f')}]"
    return f"at least {of['low']:.1f}" if of["value"] is None else f"{of['value']:.1f} {ends}"


def flips(found: Found, run: str) -> Iterator[Claim]:
    """Flips against the blur, and over the number of steps, of fig3."""
    rows = found["times"][run]  # blur falls as t rises
    some = rows[:: max(len(rows) // 4, 1)]
    measured = ", ".join(f"{row['flip']:.0%} at t = {row['t']:.2f}" for row in some)
    falls = all(b["flip"] <= a["flip"] + doubt(a, b) for a, b in pairwise(rows))
    yield Claim("flips rise with the blur s(t)", measured, falls and rows[-1]["flip"] < rows[0]["flip"])
    ends = [row for row in found["depths"][run] if "terminal" in row]
    measured = ", ".join(f"{row['terminal']:.1%} at K = {row['K']}" for row in ends)
    falls = all(b["terminal"] <= a["terminal"] for a, b in pairwise(ends))
    yield Claim(
        "terminal flips collapse as K grows", measured, falls and ends[-1]["terminal"] < 0.5 * ends[0]["terminal"]
    )


def doubt(a: Found, b: Found) -> float:
    """Two standard errors of the difference of two shares of positions."""
    return 2 * sum(row["flip"] * (1 - row["flip"]) / row["positions"] for row in (a, b)) ** 0.5


def judged(found: Found, run: str) -> Iterator[Claim]:
    """Re-injection against the ODE, and what is lost without commitments."""
    rows = {(row["method"], row["K"]): row for row in found["rows"] if row["source"] == run}
    for steps in (4, 8):
        ode, again = rows["ODE", steps], rows["re-injection 1.5", steps]
        gap = 1 - again["perplexity"] / ode["perplexity"]
        words = f"re-injection lowers the ODE's perplexity at K = {steps} (published: by 15 to 38 %)"
        yield Claim(words, f"{told(ode)} -> {told(again)}: by {gap:.0%}", gap > 0)
    made, soft = rows["mode commit", 8], rows["mode commit, means fed", 8]
    yield Claim(
        "generation collapses without its commitments (K = 8)",
        f"{told(made)} -> {told(soft)} with the mean fed",
        soft["perplexity"] > 2 * made["perplexity"],
    )


def told(row: Found) -> str:
    """Perplexity with entropy and repetition."""
    return f"{row['perplexity']:.1f} (H {row['entropy']:.2f}, seq-rep-4 {row['seq_rep_4']:.1%})"
