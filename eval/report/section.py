"""What a page is made of: sections of words, pictures, tables, and what is missing with the command that makes it."""

from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass
class Missing:
    """What a run lacks.

    Args:
        run: its name.
        what: is not there.
        command: that makes it; empty where none does.
    """

    run: str
    what: str
    command: str = ""


@dataclass
class Picture:
    """A chart with its title and, below it, what it means."""

    title: str
    svg: Markup
    words: str = ""


@dataclass
class Table:
    """Rows of words, and what they are measured by; the first `left` columns are words, the others numbers."""

    title: str
    heads: list[str]
    rows: list[list[str]]
    words: str = ""
    left: int = 2


@dataclass
class Section:
    """A part of the page.

    Args:
        name: of its anchor.
        title: of its heading.
        words: paragraphs that say what is shown.
        pictures: charts.
        tables: below them.
        missing: what runs lack.
        notes: what else must be known, such as rows that cannot be compared.
    """

    name: str
    title: str
    words: list[str] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
