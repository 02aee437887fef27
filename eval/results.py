"""The results page and README's results table, rendered from the committed records."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

PUBLISHED = Path(__file__).resolve().parent / "published"
README = Path(__file__).resolve().parents[1] / "README.md"  # missing in an installed package
LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)  # reads every scalar as text; libyaml if available
MARKERS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)", re.DOTALL)
RECORD_KEYS = ("title", "protocol", "tables", "numbers")
PROTOCOL_KEYS = (
    *("command", "protocol", "scorer", "scorer_hash", "dtype", "tokenizer", "aggregation", "n", "seed", "seeds"),
    *("evaluations", "parameters", "recipe", "teacher", "elf_target", "training_step", "training_steps"),
    *("k_columns", "fifteen_tasks_columns", "hardware", "duration", "source"),
)
Cell = str | list[str]  # digits exactly as written in the record


@dataclass(frozen=True)
class Table:
    """One table of a record.

    Args:
        columns: heading and cell format of each column, such as ("K = 8", "{} / {}").
        rows: cells of each row by column; a missing cell is left empty.
    """

    columns: dict[str, tuple[str, str]]
    rows: dict[str, dict[str, Cell]]

    def markdown(self, rows: Sequence[str] | None = None) -> str:
        """The table in Markdown.

        Args:
            rows: keys of the rows to show, in this order; default: all.
        """
        lines = [[heading for heading, _ in self.columns.values()], ["---"] * len(self.columns)]
        for key in self.rows if rows is None else rows:
            if key not in self.rows:
                raise ValueError(f"unknown row {key!r}; known are {', '.join(self.rows)}")
            lines.append([self.cell(key, column) for column in self.columns])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def cell(self, row: str, column: str) -> str:
        """One cell as text."""
        value, form = self.rows[row].get(column, ""), self.columns[column][1]
        if value == "":
            return ""
        parts = value if isinstance(value, list) else [value]
        if form.count("{}") != len(parts):
            raise ValueError(f"row {row!r}, column {column!r}: {len(parts)} values for the format {form!r}")
        return form.format(*parts)


@dataclass(frozen=True)
class Record:
    """One file of measured numbers under one protocol."""

    title: str
    protocol: dict[str, str]
    tables: dict[str, Table] = field(default_factory=dict)
    numbers: dict[str, Cell] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Template values: the rows of each table by name, protocol and single numbers."""
        rows: dict[str, Any] = {name: table.rows for name, table in self.tables.items()}
        return rows | {"protocol": self.protocol, "numbers": self.numbers}

    def protocol_line(self) -> str:
        """The protocol in one line."""
        quoted = {key: f"`{value}`" if key == "command" else value for key, value in self.protocol.items()}
        parts = [f"{key.replace('_', ' ')}: {value}" for key, value in quoted.items()]
        return f"*Protocol.* {'; '.join(parts)}."


def load_record(path: Path) -> Record:
    """Read a record; an unknown key is an error."""
    data = LOADER(path.read_text(encoding="utf-8")).get_single_data()
    require_known(data, RECORD_KEYS, path.name)
    if missing := {"title", "protocol"} - set(data):
        raise ValueError(f"{path.name}: missing {' and '.join(sorted(missing))}")
    require_known(data["protocol"], PROTOCOL_KEYS, f"{path.name}: protocol")
    tables = {name: parse_table(table, f"{path.name}: {name}") for name, table in data.get("tables", {}).items()}
    return Record(data["title"], data["protocol"], tables, data.get("numbers", {}))


def parse_table(table: Mapping[str, Any], where: str) -> Table:
    """A table of a record; a cell of an unknown column is an error."""
    require_known(table, ("columns", "rows"), where)
    columns = {}
    for key, column in table["columns"].items():
        parts = {"heading": column} if isinstance(column, str) else column
        require_known(parts, ("heading", "format"), f"{where}: column {key}")
        columns[key] = (parts["heading"], parts.get("format", "{}"))
    for key, row in table["rows"].items():
        require_known(row, columns, f"{where}: row {key}")
    return Table(columns, table["rows"])


def require_known(keys: Collection[str], known: Collection[str], where: str) -> None:
    """Raise ValueError for the first key that is not among the known ones."""
    if unknown := [key for key in keys if key not in known]:
        raise ValueError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")


def render(template: str, folder: Path = PUBLISHED) -> str:
    """A template filled in from the records.

    Args:
        template: file name of the template in `folder`/results.
        folder: folder of the published records.
    """
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    text = (folder / "results" / template).read_text(encoding="utf-8")
    try:
        return environment.from_string(text).render(template_values(folder))
    except (jinja2.UndefinedError, KeyError) as error:
        raise ValueError(f"{template}: a value is missing from the records: {error}") from error


def template_values(folder: Path) -> dict[str, Any]:
    """Everything that a template can print, by name."""
    records = {path.stem: load_record(path) for path in sorted((folder / "results").glob("*.yaml"))}
    return {name: record.values() for name, record in records.items()} | {
        "table": lambda record, name, rows=None: records[record].tables[name].markdown(rows),
        "protocol": lambda record: f"{records[record].protocol_line()} Record: [{record}.yaml](results/{record}.yaml).",
        "bench": {
            path.stem.removeprefix("bench_"): json.loads(path.read_text(encoding="utf-8"))
            for path in folder.glob("bench_*.json")
        },
        "few_step": yaml.safe_load((folder / "few_step.yaml").read_text(encoding="utf-8")),
        "engine_table": (folder / "engines.md").read_text(encoding="utf-8"),
    }


def pages(folder: Path = PUBLISHED, readme: Path = README) -> dict[Path, str]:
    """The files to write with their text: the results page, and README if it has the markers.

    Args:
        folder: folder of the published records.
        readme: README whose text between `<!-- results -->` and `<!-- /results -->` is replaced.
    """
    files = {folder / "RESULTS.md": render("RESULTS.template.md", folder)}
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    if MARKERS.search(text):
        table = render("README.template.md", folder)
        files[readme] = MARKERS.sub(lambda _: table, text)
    return files
