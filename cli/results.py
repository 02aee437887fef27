"""textflow reproduce results: write the results page from the committed records, or check it."""

import sys
from difflib import unified_diff
from pathlib import Path


def results(check: bool = False) -> int:
    """Write RESULTS.md and README's results table, or with `check` print how they differ; return the exit code."""
    from textflow.eval.results import README, pages
    from textflow.runtime.atomic import atomic_write_text

    rendered = pages()
    stale = {path: diff for path, text in rendered.items() if (diff := difference(path, text))}
    for path, diff in stale.items():
        if check:
            sys.stdout.write(diff)
        else:
            atomic_write_text(path, rendered[path])
    for path in rendered:
        state = "up to date" if path not in stale else "differs from the records" if check else "written"
        sys.stdout.write(f"{path}: {state}\n")
    without_markers = README.is_file() and README not in rendered
    if without_markers:
        sys.stdout.write(f"{README}: no <!-- results --> and <!-- /results --> markers, unchanged\n")
    return int(check and (bool(stale) or without_markers))


def difference(path: Path, expected: str) -> str:
    """Unified diff from a file on disk, which may be missing, to its rendered text; empty if they are equal."""
    current = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = unified_diff(current.splitlines(True), expected.splitlines(True), str(path), "rendered from the records")
    return "".join(lines)
