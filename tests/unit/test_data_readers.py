"""Readers: what is a document, how files are found and unpacked, and what is said about files that can't be read."""

import gzip
import json
import lzma

import pytest

from vocablo.base.errors import ConfigError, DataError
from vocablo.data.readers import Document, find_files, read_documents

SPANISH = "El niño comió piña mañana; ¿qué más?\nÁrbol, camión, pingüino.\n"


def texts(*arguments, **options):
    return [document.text for document in read_documents(*arguments, **options)]


def write(path, text, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_units_of_documents(tmp_path):
    path = write(tmp_path / "a.txt", "uno\ndos \n\n\n tres\n")
    assert texts(path) == ["uno\ndos \n\n\n tres\n"]
    assert list(read_documents(path, documents="line")) == [
        Document("uno", f"{path}:1"),
        Document("dos ", f"{path}:2"),
        Document(" tres", f"{path}:5"),
    ]
    assert list(read_documents(path, documents="paragraph")) == [
        Document("uno\ndos ", f"{path}:1"),
        Document(" tres", f"{path}:5"),
    ]


def test_lines_over_block_borders(tmp_path, monkeypatch):
    monkeypatch.setattr("vocablo.data.readers._BLOCK", 3)
    monkeypatch.setattr("vocablo.data.readers._FIRST", 5)
    path = write(tmp_path / "a.txt", "ñandú\r\náéíóú\rfin\u2028aquí")
    assert texts(path, documents="line") == ["ñandú", "áéíóú", "fin\u2028aquí"]
    assert texts(path) == ["ñandú\náéíóú\nfin\u2028aquí"]


def test_line_files_are_streamed(tmp_path):
    path = tmp_path / "large.txt"
    path.write_text("una línea\n" * 400_000)
    read = []
    documents = read_documents(path, documents="line", advance=read.append)
    next(documents)
    assert sum(read) < path.stat().st_size / 10
    assert sum(1 for _ in documents) == 399_999
    assert sum(read) == path.stat().st_size


def test_finding_files(tmp_path):
    for name in ("b/2.txt", "b/1.txt", "a.txt", ".git/x.txt", "b/.DS_Store", "c.md"):
        write(tmp_path / name, name)
    names = lambda sources: [str(path.relative_to(tmp_path)) for path in find_files(sources)]  # noqa: E731
    assert names(tmp_path) == ["a.txt", "b/1.txt", "b/2.txt", "c.md"]
    assert names(str(tmp_path / "**/*.txt")) == ["a.txt", "b/1.txt", "b/2.txt"]
    assert names([tmp_path / "c.md", tmp_path, tmp_path / "a.txt"]) == ["c.md", "a.txt", "b/1.txt", "b/2.txt"]
    write(tmp_path / "v[1].txt", "x")
    assert names(tmp_path / "v[1].txt") == ["v[1].txt"]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files(tmp_path, suffix, pack):
    path = tmp_path / f"a.txt{suffix}"
    path.write_bytes(pack(SPANISH.encode()))
    read = []
    assert texts(path, advance=read.append) == [SPANISH]
    assert sum(read) == path.stat().st_size
    rows = tmp_path / f"a.jsonl{suffix}"
    rows.write_bytes(pack(b'{"text": "uno"}\n'))
    assert texts(rows, column="text") == ["uno"]
    path.write_bytes(pack(SPANISH.encode() * 1000)[:-20])
    with pytest.raises(DataError, match="packed, and damaged"):
        texts(path)


def test_tables(tmp_path):
    rows = [{"id": 1, "texto": "uno, dos"}, {"id": 2, "texto": ""}, {"id": 3, "texto": 'dijo "tres"\ny más'}]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    expected = [rows[0]["texto"], rows[2]["texto"]]
    assert texts(path, column="texto") == expected
    assert [document.source for document in read_documents(path, column="texto")] == [f"{path}:1", f"{path}:3"]
    comma = write(tmp_path / "a.csv", 'id,texto\r\n1,"uno, dos"\r\n2,\r\n3,"dijo ""tres""\r\ny más"\r\n')
    assert texts(comma, column="texto") == expected
    tab = write(tmp_path / "a.tsv", "id\ttexto\n1\tuno, dos\n")
    assert texts(tab, column="texto", documents="line") == ["uno, dos"]
    long = write(tmp_path / "b.csv", "texto\n" + "x" * 500_000)
    assert len(texts(long, column="texto")[0]) == 500_000


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.jsonl", '{"text": "a", "lang": "es"}', "txt", "no column 'txt'; did you mean 'text'"),
        ("a.jsonl", '{"text": "a", "lang": "es"}', None, "columns text, lang"),
        ("a.csv", "text,lang\na,es", "idioma", "no column 'idioma'.*lang, text"),
        ("a.csv", "text,lang\na,es", None, "columns text, lang"),
        ("a.jsonl", '{"text": 3}', "text", "isn't text: 3"),
        ("a.jsonl", '{"text"', "text", "line 1: not valid JSON"),
        ("a.jsonl", "[1]", "text", "should be an object"),
        ("a.jsonl", '{"text": "\\ud83d"}', "text", "half a surrogate pair"),
        ("a.csv", 'text\n"a', "text", "not valid csv"),
        ("a.txt", "hola", "text", "plain text and has no columns"),
    ],
)
def test_unreadable_tables(tmp_path, name, content, column, message):
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read_documents(path, column=column)


def test_other_encodings_are_named(tmp_path):
    path = write(tmp_path / "a.txt", SPANISH, "latin-1")
    at = SPANISH.index("ñ")
    with pytest.raises(DataError, match=rf"isn't valid utf-8 at byte {at} \(0xf1\); it reads well as latin-1") as error:
        read_documents(path)
    assert "--encoding latin-1" in str(error.value)
    assert texts(path, encoding="latin-1") == [SPANISH]


def test_the_place_of_a_late_error(tmp_path):
    data = ("á" * 600_001).encode() + b"\n\xff" + b"x" * 10
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match=f"at byte {data.index(0xFF)} "):
        texts(tmp_path / "a.txt", documents="line")
    (tmp_path / "b.txt").write_bytes("fin á".encode()[:-1])
    with pytest.raises(DataError, match="at byte 4 "):
        texts(tmp_path / "b.txt")


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "cp850", "mac-roman", "utf-8", "utf-16", "utf-8-sig", "utf-32"]
)
def test_automatic_encoding(tmp_path, encoding):
    text = SPANISH * 3 + ("«“Sí” —dijo—»" if encoding in ("cp1252", "mac-roman") else "")
    path = write(tmp_path / "a.txt", text, encoding)
    notes = []
    assert texts(path, encoding="auto", notes=notes.append) == [text]
    assert notes == ([] if encoding.startswith("utf-8") else [notes[0]])
    if notes:
        assert encoding in notes[0]
        assert str(path) in notes[0]


def test_marked_encodings_need_no_option(tmp_path):
    for encoding in ("utf-16", "utf-8-sig", "utf-32"):
        assert texts(write(tmp_path / "a.txt", SPANISH, encoding)) == [SPANISH]
    mixed = [write(tmp_path / "b.txt", SPANISH, "latin-1"), write(tmp_path / "c.txt", SPANISH)]
    assert texts(mixed, encoding="auto") == [SPANISH, SPANISH]


def test_what_no_encoding_explains(tmp_path):
    (tmp_path / "a.txt").write_bytes(bytes(range(128, 256)) * 3)
    with pytest.raises(DataError, match="name its encoding with --encoding"):
        read_documents(tmp_path / "a.txt")
    with pytest.raises(DataError, match="no encoding that can be told"):
        texts(tmp_path / "a.txt", encoding="auto")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"%PDF-1.7 ...", "a PDF"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"\x1f\x8b\x08....", "gzip-packed"),
        (b"some text\0and more of it", "NUL byte at byte 9"),
        ("hola".encode("utf-16-le"), "--encoding utf-16-le"),
    ],
)
def test_binary_files(tmp_path, data, message):
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_documents(tmp_path)


def test_missing_paths_name_the_nearest(tmp_path):
    write(tmp_path / "quijote.txt", "x")
    with pytest.raises(DataError, match=r"no file or folder .*quijtoe\.txt; did you mean 'quijote\.txt'"):
        read_documents(tmp_path / "quijtoe.txt")
    with pytest.raises(DataError, match="no file or folder"):
        read_documents(tmp_path / "absent" / "deeper" / "a.txt")
    with pytest.raises(DataError, match="No file matches"):
        read_documents(tmp_path / "*.md")
    with pytest.raises(DataError, match="No text was given"):
        read_documents([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no files"):
        read_documents(tmp_path / "empty")


@pytest.mark.parametrize("unit", ["file", "line", "paragraph"])
def test_empty_files(tmp_path, unit):
    paths = [write(tmp_path / "a.txt", ""), write(tmp_path / "b.txt", " \n\n")]
    with pytest.raises(DataError, match=r"no text in .*a\.txt"):
        texts(paths, documents=unit)
    notes = []
    paths.append(write(tmp_path / "c.txt", "hola"))
    assert texts(paths, documents=unit, notes=notes.append) == ["hola"]
    assert [note.split(":")[0] for note in notes] == [str(paths[0]), str(paths[1])]


def test_wrong_options(tmp_path):
    path = write(tmp_path / "a.txt", "x")
    with pytest.raises(ConfigError, match="did you mean 'line'"):
        read_documents(path, documents="lines")
    with pytest.raises(ConfigError, match="no encoding 'latino'"):
        read_documents(path, encoding="latino")
