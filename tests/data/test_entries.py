"""One reader for training, evaluation and prompts: the content of a file decides how it is read."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from tests.data.conftest import read_all
from tests.helpers.user_errors import refused
from textflow.cli.prompts import read_prompts
from textflow.data import JsonlPairs, SavedDataset, TextFiles
from textflow.data.entries import read_entries
from textflow.eval.text_file import read_texts

READERS: dict[str, Callable[[Path], list[str]]] = {
    "training": lambda path: [document.text for document in read_all(TextFiles(str(path), separator="line"))],
    "evaluation": lambda path: read_texts(path).texts,
    "prompts": read_prompts,
}
TEXTS = ["one, \u00e9", "two"]
LINES = "".join(f"{text}\n" for text in TEXTS).encode()
JSONL = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in TEXTS).encode()
TABLE = 'id,text\n1,"one, \u00e9"\n2,two\n'.encode()
FILES = {
    "capital.JSONL": JSONL,
    "lines.json": JSONL,
    "made by sample --out.txt": JSONL,
    "without a suffix": JSONL,
    "array.json": json.dumps([{"text": text} for text in TEXTS], indent=1).encode(),
    "array in.txt": json.dumps([{"text": text} for text in TEXTS]).encode(),
    "strings.json": json.dumps(TEXTS).encode(),
    "strings.jsonl": "".join(json.dumps(text) + "\n" for text in TEXTS).encode(),
    "mark.txt": b"\xef\xbb\xbf" + LINES,
    "mark.jsonl": b"\xef\xbb\xbf" + JSONL,
    "old mac.txt": LINES.replace(b"\n", b"\r"),
    "windows.txt": LINES.replace(b"\n", b"\r\n"),
    "table.csv": TABLE,
    "mark.csv": b"\xef\xbb\xbf" + TABLE,
    "semicolons.csv": TABLE.replace(b",text", b";text").replace(b"1,", b"1;").replace(b"2,", b"2;"),
    "table.tsv": "id\ttext\n1\tone, \u00e9\n2\ttwo\n".encode(),
    "packed.txt.gz": gzip.compress(LINES),
    "packed.jsonl.bz2": bz2.compress(JSONL),
    "packed.csv.xz": lzma.compress(TABLE),
    "packed.jsonl.zst": pa.compress(JSONL, "zstd", asbytes=True),
    "packed twice.txt.zst": b"".join(pa.compress(text.encode() + b"\n", "zstd", asbytes=True) for text in TEXTS),
    "packed, but named.txt": gzip.compress(JSONL),
}


@pytest.mark.parametrize("reader", READERS)
def test_the_content_of_a_file_decides_how_it_is_read(tmp_path: Path, reader: str) -> None:
    wrong = {}
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
        if (texts := READERS[reader](tmp_path / name)) != TEXTS:
            wrong[name] = texts
    pq.write_table(pa.table({"id": [1, 2], "text": TEXTS}), tmp_path / "rows.parquet")
    (tmp_path / "rows.txt").write_bytes((tmp_path / "rows.parquet").read_bytes())
    wrong |= {name: READERS[reader](tmp_path / name) for name in ("rows.parquet", "rows.txt")}
    assert wrong == {"rows.parquet": TEXTS, "rows.txt": TEXTS}


REFUSED = {
    "utf16.txt": ("hi\n".encode("utf-16"), "is UTF-16 text; convert it: iconv -f UTF-16 -t UTF-8 '.*utf16.txt' >"),
    "utf16be.jsonl": (b"\xfe\xff" + '{"text": "x"}'.encode("utf-16-be"), "is UTF-16 text"),
    "utf32.txt": ("hi\n".encode("utf-32"), "is UTF-32 text; convert it: iconv -f UTF-32"),
    "latin1.json": ('[{"text": "na\u00efve"}]'.encode("latin-1"), "is not UTF-8; if it is Latin-1: iconv"),
    "a.docx": (b"PK\x03\x04", "a ZIP archive"),
    "a.pdf": (b"%PDF-1.7\n", "a PDF; extract its text"),
    "a.txt.tar": (b"a.txt".ljust(257, b"\0") + b"ustar\x0000", "a tar archive; unpack it"),
    "cut.gz": (gzip.compress(LINES * 99)[:-9], "is damaged or cut .*; copy it again"),
    "printed.txt": (b"[0] In the\nbeginning\n[1] God\n", "`textflow sample` prints, .*--out FILE.jsonl"),
    "printed.md.gz": (gzip.compress(b"[0] \xc2\xabAnd\xc2\xbb he\n"), "`textflow sample` prints"),
    "data.txt.lz4": (b"\x04\x22\x4d\x18\0\0", "is compressed by LZ4; convert it"),
    "data.feather": (b"ARROW1\0\0", "is an Arrow or Feather file; .*convert it"),
    "old.feather": (b"FEA1\0\0", "is a Feather file; convert it"),
    "data.pkl": (b"\x80\x04\0x", "is not a text format; convert it"),
    "utf16.txt.gz": (gzip.compress("hi\n".encode("utf-16")), r"gzip -dc '.*16.txt.gz' \| iconv .* > utf8_utf16.txt$"),
    "latin1.json.xz": (
        lzma.compress(b'[{"text": "na\xefve"}]'),
        r"xz -dc .* \| iconv -f LATIN1 -t UTF-8 > utf8_latin1",
    ),
    "cut.zst": (pa.compress(LINES * 99, "zstd", asbytes=True)[:-9], "is damaged or cut"),
}


@pytest.mark.parametrize("reader", READERS)
def test_other_encodings_and_kinds_are_refused_with_the_way_out(tmp_path: Path, reader: str) -> None:
    folder = tmp_path / "with a space"
    folder.mkdir()
    for name, (content, message) in REFUSED.items():
        (folder / name).write_bytes(content)
        refused(message, READERS[reader], folder / name)
    refused("cannot read .*missing.txt: No such file", read_texts, tmp_path / "missing.txt")


def test_a_text_that_begins_with_a_bracket_or_quotes_is_plain_text(tmp_path: Path) -> None:
    for line in ("[Intro]", '"Yes", he said.', "{x} in R", '"Yes"', "[0, 1]"):
        (tmp_path / "a.txt").write_text(f"{line}\nmore\n")
        assert [entry.value for entry in read_entries(tmp_path / "a.txt")] == [line, "more"]


def test_json_lines_whose_first_record_is_torn_are_json_lines(tmp_path: Path) -> None:
    for torn in (b'{"text": "on\n', b'xt": "one"}\n', b'\n{"text": one}\n'):
        (tmp_path / "a.txt").write_bytes(torn + JSONL)
        first, *rest = read_entries(tmp_path / "a.txt")
        assert "not JSON" in str(first.error) and [entry.value["text"] for entry in rest] == TEXTS
    (tmp_path / "a.txt").write_bytes(b"A record:\n" + JSONL)  # a text about JSON
    assert all(entry.is_line for entry in read_entries(tmp_path / "a.txt"))


def test_an_array_is_read_item_by_item_and_its_end_is_checked(tmp_path: Path) -> None:
    long = [{"text": "\u00e9" * 70_000}, {"text": "b"}, {"text": "c" * 140_000}]
    (tmp_path / "a.json").write_text(json.dumps(long, ensure_ascii=False))
    assert [entry.value for entry in read_entries(tmp_path / "a.json")] == long
    for content, message in (
        ('[{"text": "a"}, {"te', "item 2: not JSON .*the rest of the file is not read"),
        ('[{"text": "a"}]\n[{"text": "b"}]', "item 2: text follows the array"),
        ('[{"text": "a"}, 3]', "item 2: a int, an object"),
    ):
        (tmp_path / "a.json").write_text(content)
        refused(message, read_all, TextFiles(str(tmp_path / "a.json")))
        assert read_texts(tmp_path / "a.json").texts == ["a"]
    (tmp_path / "a.json").write_text(json.dumps(long[2:]))
    refused("item 1: longer than 1,000 bytes", read_all, TextFiles(str(tmp_path / "a.json"), max_document_bytes=1000))


def test_pairs_are_read_from_every_kind_of_record(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("source\ttarget\nein\tone\n")
    (tmp_path / "b.json").write_text('[{"source": "zwei", "target": "two"}]')
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"source": "drei", "target": "three"}'))
    pairs = read_all(JsonlPairs([str(tmp_path / name) for name in ("a.tsv", "b.json", "c.jsonl.gz")]))
    assert [(pair.source, pair.text) for pair in pairs] == [("ein", "one"), ("zwei", "two"), ("drei", "three")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.parquet"])
def test_text_in_a_nested_field_is_read(tmp_path: Path, name: str) -> None:
    records, file = [{"id": 1, "meta": {"text": text, "n": 1}} for text in TEXTS], tmp_path / name
    if name == "a.parquet":
        pq.write_table(pa.Table.from_pylist(records), file)
    else:
        lines = name == "a.jsonl"
        file.write_text("\n".join(map(json.dumps, records)) if lines else json.dumps(records))
    assert [document.text for document in read_all(TextFiles(str(file), column="meta.text"))] == TEXTS
    refused(r"no column 'meta.txt'; there are: meta.text, .*id", read_all, TextFiles(str(file), column="meta.txt"))


def test_text_in_a_nested_field_of_a_saved_data_set_is_read_and_a_bad_row_named(tmp_path: Path) -> None:
    rows = [{"id": 1, "meta": {"text": text}} for text in (*TEXTS, "nul \0")]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    source = SavedDataset(str(tmp_path / "set"), column="meta.text")
    *texts, bad = source.documents()
    assert (
        [document.text for document in texts] == TEXTS
        and bad.skip == "bad"
        and "row 3: column 'meta.text'" in bad.origin
    )
    refused(
        "no column 'body.text'; there are: .*meta", read_all, SavedDataset(str(tmp_path / "set"), column="body.text")
    )


def test_a_field_whose_name_holds_a_dot_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,meta.text\n1,one\n")
    assert read_all(TextFiles(str(tmp_path / "a.csv"), column="meta.text"))[0].text == "one"


def test_advice_for_a_long_line_can_be_followed(tmp_path: Path) -> None:
    (tmp_path / "one line.txt").write_text("word " * 60)
    source = TextFiles(str(tmp_path / "one line.txt"), max_document_bytes=200)
    refused("fold -s -w 10000 '.*/one line.txt' > 'folded_one line.txt', .*separator line", read_all, source)
    (tmp_path / "a.txt.bz2").write_bytes(bz2.compress(b"word " * 60))
    refused(r"bzip2 -dc .*/a.txt.bz2 \| fold -s -w 10000 > folded_a.txt, .*paths folded_a.txt", read_all,
            TextFiles(str(tmp_path / "a.txt.bz2"), max_document_bytes=200))  # fmt: skip
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "word " * 60}))
    refused("a.jsonl:1: the line is longer .*; raise --data.source.max_document_bytes", read_all,
            TextFiles(str(tmp_path / "a.jsonl"), max_document_bytes=200))  # fmt: skip
