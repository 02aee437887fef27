"""What of arXiv 2606.30705 holds for each system of a league, by a rule that takes each verdict from the numbers."""

from collections.abc import Sequence

from ..record import Record
from ..results import Cell, Table
from .scoring import OWN

COLUMNS = {
    "system": "system",
    "few": "few steps fail: by the ODE at most half of the valid texts, or twice the wrong pairs, of the best "
    "sampler at K = {many}",
    "reinjection": "re-injection above the ODE",
    "commit": "mode commit above the ODE",
    "dabi": "DABI of flips above 1",
    "cci": "CCI of mode commit, for that of the ODE",
}
FEW_VALID = 0.05  # share of valid texts that some cell is surely above, so that valid texts tell samplers apart
UNITS = {"valid": "", "bigrams": "% of pairs"}


def few_and_many(steps: Sequence[int]) -> tuple[int, int]:
    """Numbers of steps of the claims: the largest up to 4, or else the smallest; and the largest."""
    return max((count for count in steps if count <= 4), default=min(steps)), max(steps)


def claims_table(records: Sequence[Record], steps: Sequence[int]) -> Table:
    """A row for each system, a column for each claim.

    Args:
        records: records of the systems.
        steps: numbers of sampling steps.
    """
    few, many = few_and_many(steps)
    columns = {name: (heading.format(many=many), "{}") for name, heading in COLUMNS.items()}
    return Table(columns, {record["name"]: system_claims(record, few, many) for record in records})


def system_claims(record: Record, few: int, many: int) -> dict[str, Cell]:
    """Cells of one system; a claim that it has no numbers for is a dash."""
    cells = {(cell["sampler"], cell["steps"]): cell for cell in record["cells"]}
    measure = "valid" if any(cell["intervals"]["valid"][0] > FEW_VALID for cell in record["cells"]) else "bigrams"
    plain = cells.get(("ODE", few)) or cells.get((OWN, few))
    last = [cell for (_, count), cell in cells.items() if count == many]
    best = max(last, key=lambda cell: cell[measure], default=None)
    row: dict[str, Cell] = {"system": record["name"], "few": few_cell(plain, best, measure)}
    for column, method in (("reinjection", "re-injection"), ("commit", "mode commit")):
        row[column] = above_cell(cells.get((method, few)), cells.get(("ODE", few)), measure)
    row["dabi"] = dabi_cell(record["diagnostics"].get("dabi"))
    row["cci"] = cci_cell(record["diagnostics"]["cci"])
    return row


def few_cell(plain: Record | None, best: Record | None, measure: str) -> str:
    """Few steps without an escape against the best in many: at most half of its valid texts, or at least twice its
    pairs of words that the language does not have."""
    if plain is None or best is None:
        return "–"
    (low, high), (best_low, best_high) = plain["intervals"][measure], best["intervals"][measure]
    if measure == "valid":
        holds, fails = high <= best_low / 2, low > best_high / 2
    else:
        holds, fails = 1 - high >= 2 * (1 - best_low), 1 - low < 2 * (1 - best_high)
    return verdict(holds, fails, f"{100 * plain[measure]:.0f} of {100 * best[measure]:.0f}{UNITS[measure]}")


def above_cell(escape: Record | None, plain: Record | None, measure: str) -> str:
    """A share with an escape against that of the ODE; open if their intervals overlap."""
    if escape is None or plain is None:
        return "–"
    (low, high), (plain_low, plain_high) = escape["intervals"][measure], plain["intervals"][measure]
    return verdict(
        low > plain_high,
        high < plain_low,
        f"{100 * escape[measure]:.0f} for {100 * plain[measure]:.0f}{UNITS[measure]}",
    )


def dabi_cell(row: Record | None) -> str:
    """DABI of flips against 1; a lower bound where random noise flips too few tokens."""
    if row is None or row["flip_low"] is None or (row["flip"] is None and not row["flips"]):
        return "–"
    low, high = row["flip_low"], row["flip_high"]
    return verdict(
        low > 1, high is not None and high < 1, f"at least {low:.2f}" if row["flip"] is None else f"{row['flip']:.2f}"
    )


def cci_cell(cci: Record) -> str:
    """CCI of mode commit beside that of the ODE; no verdict, since it follows from the samplers."""
    commit, plain = cci.get("mode commit"), cci.get("ODE")
    if commit is None or plain is None:
        return "–"
    return f"{commit:.2f} for {plain:.2f}"


def verdict(holds: bool, fails: bool, measured: str) -> str:
    """Verdict in a word, open if the numbers resolve it neither way, with the numbers."""
    return f"{'holds' if holds else 'no' if fails else 'open'} ({measured})"
