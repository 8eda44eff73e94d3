"""The token store: its tokens are the tokenizer's, its counts those of the text, and it is whole, absent or made again."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from vocablo.base.errors import ConfigError, DataError, StorageError
from vocablo.data import store as store_module
from vocablo.data import workers
from vocablo.data.store import Store
from vocablo.data.workers import DOCUMENT, SENTENCE, WORD
from vocablo.text.kinds import KINDS
from vocablo.text.sentences import split_sentences
from vocablo.text.tokenizer import Tokenizer

DOCUMENTS = [
    "¿Cómo estás, Sancho?  Bien.\nY tú? «Nada», dijo.",
    "El año 1605 salió. Vale 3,5 reales.\n\nFin",
    "la gata duerme",
    " Con espacio. Y un <end> escrito. Ya ",
]


@pytest.fixture(scope="module")
def trained():
    return {kind: Tokenizer.train(kind, DOCUMENTS * 4) for kind in KINDS}


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(DOCUMENTS):
        (folder / f"{number}.txt").write_text(text, newline="")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_counts(kind, trained, corpus, tmp_path):
    tokenizer = trained[kind]
    store = Store.build(corpus, tokenizer, tmp_path / "store", quiet=True)
    assert store.tokenizer_hash == tokenizer.hash
    assert (store.vocab, store.end_id, len(store)) == (tokenizer.size, tokenizer.end_id, store.counts.tokens)
    ids = [tokenizer.encode(text).ids for text in DOCUMENTS]
    assert store.tokens.tolist() == [index for row in ids for index in (*row, tokenizer.end_id)]
    assert np.diff(store.documents).tolist() == [len(row) + 1 for row in ids]
    counts = store.counts
    assert counts.documents == len(DOCUMENTS)
    assert counts.words == sum(len(text.split()) for text in DOCUMENTS)
    assert counts.sentences == sum(len(split_sentences(text)) for text in DOCUMENTS) == 11
    assert counts.characters == sum(map(len, DOCUMENTS))
    assert counts.bytes == sum(len(text.encode()) for text in DOCUMENTS)
    assert counts.unknown == sum(row.count(tokenizer.unk_id) for row in ids)
    assert np.flatnonzero(store.marks & DOCUMENT).tolist() == store.documents[:-1].tolist()
    assert not store.marks[store.documents[1:] - 1].any()
    assert np.count_nonzero(store.marks & SENTENCE) == counts.sentences
    assert isinstance(store.tokens, np.memmap)


@pytest.mark.parametrize("kind", KINDS)
def test_marked_words_are_those_of_the_text(kind, trained):
    tokenizer = trained[kind]
    for text in DOCUMENTS[:3]:
        store = Store.from_documents([text], tokenizer)
        encoding = tokenizer.encode(text)
        starts = encoding.offsets[np.flatnonzero(store.marks & WORD), 0]
        found = [text[start:].split()[0] for start in starts]
        assert found == text.split()


def test_in_memory_is_the_same(trained, corpus, tmp_path):
    built = Store.build(corpus, trained["bpe"], tmp_path / "a", quiet=True)
    for other in (
        Store.from_documents(DOCUMENTS, trained["bpe"]),
        Store.from_documents(iter(DOCUMENTS), trained["bpe"], tmp_path / "b"),
    ):
        assert (other.tokens == built.tokens).all()
        assert (other.marks == built.marks).all()
        assert (other.documents == built.documents).all()
        assert other.counts == built.counts


def test_many_tokens_need_four_bytes(trained, monkeypatch):
    tokenizer = trained["word"]
    small = Store.from_documents(DOCUMENTS, tokenizer)
    assert small.tokens.dtype == np.uint16
    many = Tokenizer.train("word", [" ".join(f"w{number}" for number in range(70_000))])
    large = Store.from_documents(["w1 w69999"], many)
    assert large.tokens.dtype == np.uint32
    assert many.decode(large.tokens[:-1]) == "w1 w69999"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "char"])
def test_processes_and_sections_change_nothing(kind, trained, corpus, tmp_path, monkeypatch):
    long = "\n\n".join(DOCUMENTS[:3] * 30)
    (corpus / "long.txt").write_text(long, newline="")
    alone = Store.build(corpus, trained[kind], tmp_path / "1", workers=1, quiet=True)
    monkeypatch.setattr("vocablo.text.bulk._SECTION", 500)
    monkeypatch.setattr(store_module, "_BATCH", 200)
    for count in (1, 2):
        other = Store.build(corpus, trained[kind], tmp_path / f"{count}-cut", workers=count, quiet=True)
        assert (alone.tokens == other.tokens).all()
        assert (alone.marks == other.marks).all()
        assert (alone.documents == other.documents).all()
        assert alone.counts == other.counts


def test_a_worker_that_dies_is_an_error(trained, monkeypatch):
    monkeypatch.setattr(workers, "__name__", "vocablo.no_such_module")
    with pytest.raises(DataError, match="ended by itself"):
        list(workers.code([[workers.Section("hola")]], trained["bpe"], 2))


def test_used_again_only_when_nothing_changed(trained, corpus, tmp_path, monkeypatch):
    folder = tmp_path / "store"
    Store.build(corpus, trained["bpe"], folder, quiet=True)
    made = []
    write = store_module._write
    monkeypatch.setattr(store_module, "_write", lambda *arguments: (made.append(1), write(*arguments)))
    Store.build(corpus, trained["bpe"], folder, quiet=True)
    assert made == []
    (corpus / "0.txt").write_text("otro texto")
    assert Store.build(corpus, trained["bpe"], folder, quiet=True).counts.documents == 4
    assert len(made) == 1
    Store.build(corpus, trained["bpe"], folder, documents="line", quiet=True)
    assert len(made) == 2
    Store.build(corpus, trained["word"], folder, documents="line", quiet=True)
    assert len(made) == 3
    (corpus / "9.txt").write_text("más")
    assert Store.build(corpus, trained["word"], folder, documents="line", quiet=True).counts.documents == 6
    assert len(made) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "tokens.bin").write_bytes((folder / "tokens.bin").read_bytes()[:-2]),
        lambda folder: (folder / "marks.bin").write_bytes(b""),
        lambda folder: (folder / "documents.npy").write_bytes(b"\x93NUMPY"),
        lambda folder: (folder / "sizes.npy").unlink(),
        lambda folder: (folder / "meta.json").write_text('{"format": 1, '),
        lambda folder: (folder / "meta.json").unlink(),
        lambda folder: (folder / "meta.json").write_text('{"format": 99}'),
    ],
)
def test_damage_is_seen_and_made_good(damage, trained, corpus, tmp_path):
    folder = tmp_path / "store"
    whole = Store.build(corpus, trained["bpe"], folder, quiet=True).counts
    damage(folder)
    with pytest.raises(DataError, match="store"):
        Store.open(folder)
    assert Store.build(corpus, trained["bpe"], folder, quiet=True).counts == whole


def test_other_folders_are_left_alone(trained, corpus, tmp_path):
    with pytest.raises(DataError, match="isn't a token store"):
        Store.build(corpus, trained["bpe"], corpus, quiet=True)
    with pytest.raises(DataError, match="isn't a token store"):
        Store.from_documents(DOCUMENTS, trained["bpe"], corpus)
    with pytest.raises(DataError, match="There is no token store"):
        Store.open(tmp_path)
    assert len(list(corpus.iterdir())) == 4


def test_a_failed_build_leaves_the_old_store(trained, corpus, tmp_path):
    folder = tmp_path / "store"
    before = Store.build(corpus, trained["bpe"], folder, quiet=True).counts
    (corpus / "0.txt").write_bytes(b"x" * 100_000 + b"\xff")
    with pytest.raises(DataError, match="isn't valid utf-8 at byte 100000"):
        Store.build(corpus, trained["bpe"], folder, quiet=True)
    assert Store.open(folder).counts == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")] == []


def test_a_full_disk_is_said_before_work(trained, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 10))
    with pytest.raises(StorageError, match="token store needs"):
        Store.build(corpus, trained["bpe"], tmp_path / "store", quiet=True)


def test_no_boundary_no_store(trained):
    tokenizer = Tokenizer.train("bpe", DOCUMENTS, specials={"end": None})
    with pytest.raises(ConfigError, match="end of a document"):
        Store.from_documents(DOCUMENTS, tokenizer)
    with pytest.raises(DataError, match="no documents"):
        Store.from_documents([], trained["bpe"])


def test_notes_are_kept(trained, corpus, tmp_path):
    (corpus / "4.txt").write_bytes("Año más".encode("latin-1"))
    (corpus / "5.txt").write_text("")
    store = Store.build(corpus, trained["bpe"], tmp_path / "store", encoding="auto", quiet=True)
    assert [note.split("/")[-1] for note in store.notes] == ["4.txt: read as latin-1", "5.txt: no text in it, left out"]
    assert Store.open(tmp_path / "store").notes == store.notes


def test_parts_by_documents(trained):
    store = Store.from_documents(DOCUMENTS, trained["bpe"])
    for first, last in ((0, 4), (1, 3), (3, 4)):
        part, fresh = store.part(first, last), Store.from_documents(DOCUMENTS[first:last], trained["bpe"])
        assert (part.tokens == fresh.tokens).all()
        assert (part.marks == fresh.marks).all()
        assert (part.documents == fresh.documents).all()
        assert part.counts == fresh.counts
    assert store.part(1, 4).part(1, 2).counts == store.part(2, 3).counts
    for first, last in ((2, 2), (0, 5), (-1, 2)):
        with pytest.raises(DataError, match="no documents"):
            store.part(first, last)


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "unigram"])
@pytest.mark.parametrize("mapped", [True, False])
def test_spans_count_their_own_text(kind, mapped, trained, tmp_path):
    tokenizer = trained[kind]
    text = "El año 1605 salió. Vale 3,5. ¿Cómo estás? Y la gata duerme. " * 3
    store = Store.from_documents([text, text], tokenizer, tmp_path / "store" if mapped else None)
    whole = store.span(0, len(store))
    assert whole.counts == store.counts
    middle = len(store) // 2 + 20
    first, second = store.span(0, middle), store.span(middle, len(store))
    assert first.tokens[-1] == tokenizer.end_id
    assert (first.tokens[:-1] == store.tokens[: middle - 1]).all()
    assert store.tokens[middle - 1] != tokenizer.end_id  # the store itself is as it was
    assert first.counts.documents == 2
    assert (second.tokens == store.tokens[middle:]).all()
    lost = tokenizer.surface(int(store.tokens[middle - 1]))
    assert first.counts.bytes + second.counts.bytes == store.counts.bytes - len(
        lost.encode() if "\\x" not in lost else b"x"
    )
    nested = store.span(10, len(store)).span(5, 30)
    assert (nested.tokens[:-1] == store.tokens[15:39]).all()
    with pytest.raises(DataError, match="no tokens"):
        store.span(5, len(store) + 1)


def test_spans_of_words(trained):
    store = Store.from_documents(["la gata duerme", "la gata"], trained["word"])
    counts = store.span(1, 6).counts
    assert (counts.tokens, counts.words, counts.documents) == (5, 3, 2)
    assert counts.characters == len("gata duerme") + len("la") + 2  # one space for each word


def test_a_script_needs_no_guard(trained, corpus, tmp_path):
    trained["bpe"].save(tmp_path / "tokenizer")
    script = (
        "from vocablo.data.store import Store; from vocablo.text.tokenizer import Tokenizer\n"
        f"s = Store.build({str(corpus)!r}, Tokenizer.load({str(tmp_path / 'tokenizer')!r}), "
        f"{str(tmp_path / 'store')!r}, workers=2, quiet=True)\n"
        "print(s.counts.documents)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("4\n", "")


def test_meta_is_plain_json(trained, corpus, tmp_path):
    Store.build(corpus, trained["bpe"], tmp_path / "store", quiet=True)
    meta = json.loads((tmp_path / "store" / "meta.json").read_text())
    assert meta["counts"]["documents"] == 4
    assert meta["dtype"] == "uint16"
    assert [source[1] for source in meta["sources"]] == [len(text.encode()) for text in DOCUMENTS]
