"""The tables of a league as a record for RESULTS.md."""

from collections.abc import Sequence
from datetime import date

import torch

from ..record import Record
from .plan import CODEC_SHARE, SEARCH
from .tables import make_tables

TITLE = "League of systems"


def make_record(records: Sequence[Record], steps: Sequence[int], command: str, hardware: str) -> Record:
    """All tables of a league, with its protocol.

    Args:
        records: records of the systems.
        steps: numbers of sampling steps of the columns.
        command: command that trained and scored them.
        hardware: where they were trained.
    """
    first = records[0]
    settings, minutes = first["protocol"], first["fit"]["minutes"]
    protocol = {
        "command": command,
        "protocol": f"exact law of the grammar {settings['grammar']}, as protocol stories",
        "n": str(settings["n"]),
        "seed": f"{settings['seed']}, of one fit a system and of sampling",
        "recipe": f"that of each system, after {SEARCH}",
        "hardware": hardware,
        "duration": f"{minutes:g} processor minutes of one thread a system, {CODEC_SHARE:.0%} of them for a codec",
        "source": f"scored on {date.today()}, torch {torch.__version__}",
    }
    tables = {
        name: {"columns": {key: heading for key, (heading, _) in table.columns.items()}, "rows": table.rows}
        for name, table in make_tables(records, steps).items()
    }
    return {"title": TITLE, "protocol": protocol, "tables": tables}
