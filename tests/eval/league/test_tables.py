"""Tables and page of a league from its records."""

from typing import Any

from textflow.eval.league.claims import claims_table, few_and_many
from textflow.eval.league.markdown import render_markdown
from textflow.eval.league.page import render_page, valid_points
from textflow.eval.league.tables import make_tables

OTHER_INTERVALS = {"valid": [0.1, 0.3], "bigrams": [0.7, 0.8], "excess_nll": [-1.0, 0.0]}
METHODS = ("ODE", "re-injection", "mode commit")


def cell(sampler: str, steps: int, valid: float, **numbers: Any) -> dict[str, Any]:
    own = {"sampler": sampler, "steps": steps, "n": 100, "valid": valid, "in_grammar": 0.5, "bound": None, "nfe": 3.0}
    own |= {
        "bigrams": 0.75,
        "excess_nll": None,
        "entropy": 3.2,
        "seq_rep_4": 0.01,
        "distinct": 1.0,
        "seconds": 0.5,
        "in_training": 0.15,
    }
    own |= {"first_text": f"a {sampler} | text of {steps}"}
    intervals = {"valid": [0.1, 0.3], "bigrams": [0.7, 0.8], "excess_nll": [None, None]}
    return own | {"intervals": intervals} | numbers


def record(name: str, model: str, *cells: dict[str, Any], **diagnostics: Any) -> dict[str, Any]:
    fit = {"recipe": f"{name}.yaml", "learning_rate": 0.02, "criterion": "val/loss", "score": 1.5, "steps": 1000}
    fit |= {"search": [{"learning_rate": 0.01, "score": None}, {"learning_rate": 0.02, "score": 1.25}], "minutes": 10.0}
    own = {"name": name, "fit": fit | {"cpu_seconds": 90.0, "codec": None}, "cells": list(cells)}
    own |= {"protocol": {"grammar": "stories", "n": 100, "seed": 0}, "truth": {"entropy": 14.0, "words": 38.0}}
    own |= {"model": {"class": model, "parameters": 1_400_000}, "diagnostics": diagnostics}
    return own | {"real": cell("", 0, 1.0, bound=1.0, excess_nll=0.01), "refusals": {"DABI": "it has no | latents"}}


FLOW = record(
    "flow",
    "LangFlow",
    cell("ODE", 1, 0.0),
    cell("ODE", 8, 0.2, bound=0.9, excess_nll=-0.5, intervals=OTHER_INTERVALS, readout_calls=19),
    cell("mode commit", 8, 0.4),
    cci={"ODE": 0.0, "mode commit": 0.75},
    stiffness={"ODE": {"peak": 12.0, "total": 140.0}, "mode commit": None},
    dabi={"flips": 5, "flip": 30.0, "flip_low": 20.0, "flip_high": 40.0},
)
LANGUAGE = record("ar", "CausalLM", cell("own sampler", 48, 0.3), cci={"own sampler": 1.0}, stiffness={})


def test_each_sampler_is_a_row_and_each_number_of_steps_a_column() -> None:
    tables = make_tables([FLOW, LANGUAGE], [1, 8])
    assert tables["valid"].markdown().splitlines()[2:] == [
        "| real text |  |  |  | 100 [10, 30] |",
        "| flow | ODE | 0 [10, 30] | 20 [10, 30] |  |",
        "| flow | mode commit |  | 40 [10, 30] |  |",
        "| ar | own sampler |  |  | 30 [10, 30] |",
    ]
    assert tables["bigrams"].cell("flow, ODE", "k8") == "75.0 [70.0, 80.0]"
    assert tables["bound"].cell("flow, ODE", "k8") == "90 / 50" and tables["bound"].cell("flow, ODE", "k1") == "– / 50"
    assert tables["excess"].cell("flow, ODE", "k8") == "-0.50 [-1.00, 0.00]"
    assert tables["variety"].cell("real", "single") == "3.20 / 1.0 / 100 / 15"
    assert tables["map"].markdown().splitlines()[2:] == [
        "| flow | ODE | 30.00 [20.00, 40.00] | 0.00 | 12 / 140 | 0.5 |",
        "| flow | mode commit | 30.00 [20.00, 40.00] | 0.75 | – | 0.5 |",
        "| ar | own sampler | – | 1.00 | – | 0.5 |",
    ]
    assert [tables["evaluations"].cell("flow, ODE", column) for column in ("k1", "k8")] == ["3", "3 + 19"]
    assert tables["samples"].cell("flow, ODE", "text") == "a ODE / text of 8"
    assert "- ar: no DABI: it has no | latents." in render_markdown([FLOW, LANGUAGE], [1, 8])
    assert tables["fits"].cell("flow", "search") == "0.01: –, 0.02: 1.250; 0.02"
    assert tables["fits"].cell("flow", "minutes") == "1.50"


def test_the_page_draws_each_way_to_sample_with_the_models_without_latents_beside_it() -> None:
    page = render_page([FLOW, LANGUAGE], [1, 8])
    assert page.count('class="line dashed" d="M1') == 2 and "Valid texts by ODE" in page, "ar stands in both figures"
    assert valid_points(LANGUAGE, "own sampler", [1, 8]) == [(1, 30), (8, 30)]
    assert "n = 100 texts per cell" in render_markdown([FLOW], [1, 8])


def test_each_verdict_on_the_paper_comes_from_the_numbers() -> None:
    def share(low: float, high: float, measure: str = "valid") -> dict[str, Any]:
        return {"intervals": {"valid": [0.0, 0.04], measure: [low, high]}}

    def flow(name: str, *four: tuple[float, float, float], best: float = 0.8, **dabi: Any) -> dict[str, Any]:
        shares = zip(METHODS, four, strict=True)
        cells = [cell(method, 4, middle, **share(low, high)) for method, (low, middle, high) in shares]
        cells.append(cell("mode commit", 32, best, **share(best - 0.05, best + 0.05)))
        return record(name, "LangFlow", *cells, cci={"ODE": 0.0, "mode commit": 0.25}, stiffness={}, dabi=dabi)

    def row(system: dict[str, Any]) -> list[str]:
        return [str(value) for value in claims_table([system], [4, 32]).rows[system["name"]].values()]

    poor, fair, good = (0.1, 0.2, 0.3), (0.2, 0.3, 0.35), (0.5, 0.6, 0.7)
    paper = flow("paper", poor, good, good, flips=3, flip=None, flip_low=2.5, flip_high=None)
    raised = "0.25 for 0.00"
    assert row(paper) == ["paper", "holds (20 of 80)", *["holds (60 for 20)"] * 2, "holds (at least 2.50)", raised]
    other = flow("other", good, poor, good, flips=3, flip=0.5, flip_low=0.3, flip_high=0.9)
    assert row(other) == ["other", "no (60 of 80)", "no (20 for 60)", "open (60 for 60)", "no (0.50)", raised]
    unclear = flow("unclear", fair, poor, poor, best=0.6, flips=0, flip=None, flip_low=0.0, flip_high=None)
    assert row(unclear) == ["unclear", "open (30 of 60)", *["open (20 for 30)"] * 2, "–", raised]
    robust = flow("robust", good, good, good, flips=0, flip=0.0, flip_low=0.0, flip_high=0.2)
    assert row(robust)[4] == "no (0.00)", "random noise flips tokens and the denoiser's error none"
    pairs = zip(METHODS, [(0.5, 0.55, 0.6), (0.4, 0.45, 0.5), (0.8, 0.85, 0.9)], strict=True)
    cells = [
        cell(method, 4, 0.0, bigrams=middle, **share(low, high, "bigrams")) for method, (low, middle, high) in pairs
    ]
    cells.append(cell("ODE", 32, 0.0, bigrams=0.9, **share(0.88, 0.95, "bigrams")))
    salad = record("salad", "LangFlow", *cells, cci={"ODE": 0.0}, stiffness={})
    verdicts = ["holds (55 of 90% of pairs)", "open (45 for 55% of pairs)", "holds (85 for 55% of pairs)"]
    assert row(salad) == ["salad", *verdicts, "–", "–"]
    assert row(LANGUAGE) == ["ar", *["–"] * 5]
    assert few_and_many([1, 2, 8]) == (2, 8) and few_and_many([8, 16]) == (8, 16)
