"""Claims of the paper about its map of decoders, against the numbers of fig7 and fig8."""

import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from .claims import Claim, format_ratio
from .fig7 import PUBLISHED, in_order, main_row
from .style import Record

FACTOR = 2.0  # a DABI is about 1 if its interval lies between 1 / FACTOR and FACTOR [ours]
ONE_READOUT = ("image", "continuous text")
COLLAPSE = 2.0  # factor of the nats per token
FAMILY_ORDER = ("image", "continuous text", "token diffusion", "autoregressive")
NamedRatio: TypeAlias = tuple[str, Record]  # a decoder's name, and its ratio to one control


def dabi_claims(results: Record) -> Iterator[Claim]:
    """Claims on the DABI of images and of continuous text (fig7)."""
    for control in ("isotropic", "covariance"):
        images, texts = (select(results, family, control) for family in ONE_READOUT)
        if images:
            near = decide([is_near_one(ratio) for _, ratio in images], [is_far_from_one(ratio) for _, ratio in images])
            yield Claim(f"DABI of image decoders is about 1 ({control} control)", listed(images), near)
        if texts:
            above = decide([ratio["low"] > 1 for _, ratio in texts], [upper(ratio) <= 1 for _, ratio in texts])
            yield Claim(f"DABI of continuous text is above 1 ({control} control)", listed(texts), above)
        if images and texts:
            yield order_claim(images, texts, control)
    if texts := select(results, "continuous text", "isotropic"):
        least, most = PUBLISHED["continuous text"]
        inside = decide([ratio["low"] >= least for _, ratio in texts], [upper(ratio) < least for _, ratio in texts])
        yield Claim(f"DABI of continuous text is {least:g} to over {most:g} (isotropic control)", listed(texts), inside)


def order_claim(images: Sequence[NamedRatio], texts: Sequence[NamedRatio], control: str) -> Claim:
    """Claim that the DABI of every text lies above that of every image."""
    lowest, highest = min(ratio["low"] for _, ratio in texts), max(upper(ratio) for _, ratio in images)
    below = min(upper(ratio) for _, ratio in texts) <= max(ratio["low"] for _, ratio in images)
    measured = f"the lowest text is at least {lowest:.2f}, the highest image at most {highest:.2f}"
    statement = f"every continuous text lies above every image ({control} control)"
    return Claim(statement, measured, decide([lowest > highest], [below]))


def cci_claims(results: Record) -> Iterator[Claim]:
    """Claims on what is decided in sight of other choices (fig8)."""
    groups = {family: [d["cci"] for d in results["decoders"] if d["family"] == family] for family in FAMILY_ORDER}
    summary = ", ".join(f"{family} {spread(values)}" for family, values in groups.items() if values)
    ends = all(v == 0 for v in groups["image"]) and all(math.isclose(v, 1) for v in groups["autoregressive"])
    between = all(0 < value < 1 for value in groups["token diffusion"])
    complete = all(values for family, values in groups.items() if family != "continuous text")
    if summary:
        ordered = decide([ends, between, complete], [not ends, not between])
        yield Claim("CCI: images 0, diffusion over tokens between, autoregressive 1", summary, ordered)
    row = next(row for row in results["rows"] if row["method"] == "autoregressive")
    measured = f"{row['nll']:.2f} -> {row['ablated_nll']:.2f} nats per token with expectations fed (oracle task chain)"
    collapse = row["ablated_nll"] > COLLAPSE * row["nll"]
    yield Claim("autoregressive generation collapses without its choices", measured, collapse)


def select(results: Record, family: str, control: str) -> list[NamedRatio]:
    """Names and ratios to a control of the decoders of a family, without those whose own error changes nothing."""
    found = [decoder for decoder in in_order(results["decoders"]) if decoder["family"] == family]
    rows = [(decoder, main_row(decoder)) for decoder in found]
    return [(decoder["name"], ratio_of(row, control)) for decoder, row in rows if row[decoder["unit"]]]


def ratio_of(row: Record, control: str) -> Record:
    """Ratio to a control, with its interval."""
    return {end: row[f"DABI_{control}{key}"] for end, key in (("value", ""), ("low", "_low"), ("high", "_high"))}


def is_near_one(ratio: Record) -> bool:
    """True if the interval lies within a factor of 2 of 1."""
    return bool(ratio["low"] >= 1 / FACTOR and upper(ratio) <= FACTOR)


def is_far_from_one(ratio: Record) -> bool:
    """True if the value is more than a factor of 2 from 1, and the interval excludes 1."""
    value = ratio["low"] if ratio["value"] is None else ratio["value"]
    return bool((value > FACTOR and ratio["low"] > 1) or (value < 1 / FACTOR and upper(ratio) < 1))


def upper(ratio: Record) -> float:
    """Upper end of a ratio; infinite where there is only a bound."""
    return math.inf if ratio["high"] is None else float(ratio["high"])


def decide(holds: Sequence[bool], fails: Sequence[bool]) -> bool | None:
    """True if all hold, False if any fails, None where the numbers resolve neither."""
    return True if all(holds) else False if any(fails) else None


def listed(ratios: Sequence[NamedRatio]) -> str:
    """Names with their ratios."""
    return ", ".join(f"{name} {format_ratio(ratio)}" for name, ratio in ratios)


def spread(values: Sequence[float]) -> str:
    """One value, or the least and the largest."""
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
