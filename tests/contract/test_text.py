"""Files of other systems: their encodings, and their separators in CSV."""

import codecs
from pathlib import Path

import pytest

from starter.contract.competition import load_competition
from starter.contract.text import Table, decoded
from starter.organizer.entries import find

KOREAN = "이름 = '대회'\n"


@pytest.mark.parametrize(
    "data",
    [
        KOREAN.encode(),
        codecs.BOM_UTF8 + KOREAN.encode(),
        codecs.BOM_UTF16_LE + KOREAN.encode("utf-16-le"),
        codecs.BOM_UTF16_BE + KOREAN.encode("utf-16-be"),
        codecs.BOM_UTF32_LE + KOREAN.encode("utf-32-le"),
        codecs.BOM_UTF32_BE + KOREAN.encode("utf-32-be"),
        KOREAN.encode("cp949"),
    ],
    ids=["UTF-8", "UTF-8 mark", "UTF-16 LE", "UTF-16 BE", "UTF-32 LE", "UTF-32 BE", "code page 949"],
)
def test_a_text_is_decoded_as_it_was_written(data: bytes) -> None:
    assert decoded(data) == KOREAN


@pytest.mark.parametrize("data", [b"\xff\xff\xff", codecs.BOM_UTF16_LE + b"\0", "Glas für".encode("latin-1")])
def test_what_is_in_no_known_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        decoded(data)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("image_id,label\na.jpg,can\n", 2),
        ("image_id;label\r\na.jpg;can\r\n", 2),
        ("image_id\tlabel\na.jpg\tcan\n", 2),
        ("sep=;\r\nimage_id;label\r\na.jpg;can\r\n", 3),
        ('"sep=;"\nimage_id;label\na.jpg;can\n', 3),
        ("sep=\t\nimage_id\tlabel\na.jpg\tcan\n", 3),
        ("SEP=,\nimage_id,label\na.jpg,can\n", 3),
    ],
)
def test_a_table_is_read_by_its_own_separator(text: str, line: int) -> None:
    table = Table(text)
    assert list(table.rows) == [{"image_id": "a.jpg", "label": "can"}]
    assert table.line == line


def test_a_table_of_one_column_keeps_what_would_separate() -> None:
    assert list(Table('image_id\na;b.jpg\n"c,d.jpg"\n').rows) == [
        {"image_id": "a;b.jpg"},
        {"image_id": "c,d.jpg"},
    ]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
def test_the_rules_of_a_competition_may_be_in_any_of_them(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "competition.toml").write_bytes('name = "대회"\r\ndataset = "자료"\r\n'.encode(encoding))
    rules = load_competition(tmp_path / "competition.toml")
    assert (rules.name, rules.dataset) == ("대회", "자료")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp949"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_an_index_of_entries_may_come_from_excel(tmp_path: Path, encoding: str, separator: str) -> None:
    (tmp_path / "red.py").touch()
    rows = [
        f"sep={separator}",
        *(separator.join(row) for row in (("path", "team", "selected"), ("red.py", "빨강", "yes"))),
    ]
    text = "".join(f"{row}\r\n" for row in rows)
    (tmp_path / "index.csv").write_bytes(text.encode(encoding))
    (entry,) = find([tmp_path / "red.py"], tmp_path / "index.csv")
    assert (entry.team, entry.selected) == ("빨강", True)
