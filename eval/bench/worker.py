"""One job of the script for a card, in a process of its own: what fails there, or takes too long, costs no other."""

import json
import sys
from typing import Any

import torch

from .contests import named
from .flops import peak
from .scaling import scaling
from .sizes import Setting, from_words
from .subprocess import short
from .timing import alternate, facts, measure, times


def done(bench: str, form: str | None, setting: Setting, repeats: int) -> dict[str, Any]:
    """What is found, or why nothing was: whatever a compiler or a driver raises is a finding of the card.

    Args:
        bench: name of a contest, or scaling.
        form: that is measured alone; None measures all forms of the contest.
        setting: size, device, precision.
        repeats: of each form.
    """
    try:
        if form is not None:
            return measured(bench, form, setting, repeats)
        if bench == "scaling":
            return scaling("step", setting.device, repeats)
        return measure(bench, setting, repeats, memory=False)
    except ValueError as error:  # a refusal, such as no GPU, or no package
        return {"left_out": short(str(error))}
    except Exception as error:
        return {"left_out": short(f"{type(error).__name__}: {error}")}


def measured(bench: str, form: str, setting: Setting, repeats: int) -> dict[str, Any]:
    """Seconds, tokens a second, memory and useful MFU of one form, after two runs that are not counted."""
    contest = named(bench, setting)
    for _ in range(2):
        contest.run(form)
    contest.forms = (form,)
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    found = times(alternate(contest, repeats, setting.device), form)
    seconds = found["seconds"][form]
    record = {"seconds": seconds, "spread": found["spread"][form], "tokens_a_second": setting.size.tokens / seconds}
    if setting.device == "cuda":
        record["peak_mb"] = torch.cuda.max_memory_allocated() / 1e6
    useful = contest.flops("lean")
    assert useful is not None
    record["flops_a_second"] = useful / seconds
    return record | share(record, setting)


def share(record: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Useful MFU, where the card's peak is known."""
    top = peak(facts(setting)["hardware"])
    return {} if top is None else {"mfu": record["flops_a_second"] / top}


def main(told: str) -> None:
    """Print what was found, as JSON in the last line, for a parent to read."""
    given = json.loads(told)
    setting = from_words(given["setting"])
    torch.set_num_threads(given["threads"])
    torch.set_float32_matmul_precision("high" if setting.tf32 else "highest")
    found = done(given["bench"], given["form"], setting, given["repeats"])
    sys.stdout.write("\n" + json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
