"""Tables: a row that cannot be read is named and makes no documents."""

import re
from pathlib import Path

import pytest

from tests.data.conftest import read_all
from tests.helpers.user_errors import refused
from textflow.data import TextFiles


def test_a_row_of_a_table_holds_as_many_values_as_columns(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    for row, message in (
        ("1,a, b", r"a\.csv:2: 3 values for 2 columns; quote"),
        ("1", "1 values for 2 columns"),
        ('1,"a" b', "not a row of a table"),
        ('1,"a', "not a row of a table"),
    ):
        file.write_text(f"id,text\n{row}\n")
        refused(message, read_all, TextFiles(str(file)))
    file.write_bytes("id,text\n1,na\u00efve\n".encode("latin-1"))
    refused(r"a\.csv:2: not UTF-8; if it is Latin-1: iconv", read_all, TextFiles(str(file)))
    file.write_text('id,text\n1,"two\nlines"\n2,x\n')
    assert [document.origin for document in read_all(TextFiles(str(file)))] == [f"{file}:2", f"{file}:4"]


@pytest.mark.parametrize("cell", ['"' + 'line, ""quoted""\n' * 40 + '"', "x" * 600, '"' + "y" * 600 + '"'])
def test_a_cell_over_the_limit_is_one_bad_row_and_makes_no_documents(tmp_path: Path, cell: str) -> None:
    (tmp_path / "a.csv").write_text(f"id,text\n1,one\n2,{cell}\n3,three\n")
    documents = list(TextFiles(str(tmp_path / "a.csv"), max_document_bytes=100).documents())
    assert [document.text for document in documents] == ["one", "", "three"]
    assert re.search(
        r"a\.csv:3: (not a row of a table \(field larger|the line is longer than 100)", documents[1].origin
    )
    assert "raise --data.source.max_document_bytes" in documents[1].origin
    assert documents[2].origin == f"{tmp_path}/a.csv:{4 + cell.count(chr(10))}"
