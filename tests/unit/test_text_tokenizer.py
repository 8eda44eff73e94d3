"""Tokenizers: round trips, offsets, specials, files, errors, and the same vocabulary every time."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vocablo.base.errors import CheckpointError, ConfigError, DataError
from vocablo.text.bulk import BulkEncoder
from vocablo.text.kinds import KINDS
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import count_words

CORPUS = [
    "¿Cómo estás, Sancho? —preguntó don Quijote. ¡Vamos al baño del año 1605!",
    "El ingenioso hidalgo no quería volver a su aldea.\nLa niña comía pan,\tqueso y   vino: 3,14 euros.",
    "The old man and the sea... he isn't here. “Adiós”, dijo ella; «nunca más».",
    "El gato duerme en la mesa. La gata duerme en la silla. Los gatos duermen en las mesas y las sillas.",
] * 3
TRICKY = [
    "",
    " ",
    "\n\n",
    "  dos  espacios ",
    "línea\r\notra\u2028más\x1cfin",
    "日本 🙂 e\u0301",
    "Ünïcode\xa0x",
    "a<end>b [SEP] <unk>",
]
EXACT = ("char", "byte", "bpe")


@pytest.fixture(scope="module")
def trained():
    return {kind: Tokenizer.train(kind, CORPUS, vocab=_size(kind)) for kind in KINDS}


def _size(kind):
    return {"bpe": 300, "wordpiece": 150, "unigram": 80}.get(kind)


@pytest.fixture(params=KINDS)
def tokenizer(request, trained):
    return trained[request.param]


def test_kind_and_size(trained):
    for kind, tokenizer in trained.items():
        assert tokenizer.kind == kind
        assert tokenizer.size == (_size(kind) or tokenizer.size) == len(tokenizer.vocabulary)
        assert len(set(tokenizer.vocabulary)) == tokenizer.size
        assert tokenizer.words.begins.shape == (tokenizer.size,)


@pytest.mark.parametrize("kind", EXACT)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_decoding_gives_the_text_back(trained, kind, text):
    tokenizer = trained[kind]
    ids = tokenizer.encode(text).ids
    if kind == "char" and tokenizer.unk_id in ids:
        assert len(ids) == len(text)  # one token for each character, known or not
    else:
        assert tokenizer.decode(ids) == text


def test_known_text_comes_back_from_char_bpe_unigram(trained):
    for kind in ("char", "byte", "bpe", "unigram"):
        for text in CORPUS:
            assert trained[kind].decode(trained[kind].encode(text).ids) == text, kind


def test_words_and_wordpieces_normalise_white_space(trained):
    text = "¿Cómo   estás,\n Sancho?"
    assert trained["word"].decode(trained["word"].encode(text).ids) == "¿Cómo estás, Sancho?"
    pieces = trained["wordpiece"]
    once = pieces.decode(pieces.encode(text).ids)
    assert pieces.decode(pieces.encode(once).ids) == once


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="añÁ¿! .\n3é🙂", max_size=40))
def test_offsets_point_at_the_surface(trained, text):
    for kind, tokenizer in trained.items():
        encoding = tokenizer.encode(text)
        assert encoding.offsets.shape == (len(encoding.ids), 2)
        for index, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True):
            assert 0 <= start <= stop <= len(text)
            surface = tokenizer.surface(index)
            if index not in tokenizer.special_ids and "\\x" not in surface:
                assert text[start:stop] == surface, kind


def test_word_table(tokenizer):
    begins, joins, space = tokenizer.words.begins, tokenizer.words.joins, tokenizer.words.space
    assert not (begins & joins).any()
    assert not (begins & space).any()
    assert not (joins & space).any()
    assert begins[tokenizer.end_id]
    if tokenizer.kind in ("word", "wordpiece"):
        assert not space.any()
    by_name = {name: index for index, name in enumerate(tokenizer.vocabulary)}
    if tokenizer.kind == "word":
        assert begins.all()
    if tokenizer.kind == "wordpiece":
        assert joins[by_name["##a"]]
        assert begins[by_name["a"]]
    if tokenizer.kind == "char":
        assert joins[by_name["ñ"]]
        assert begins[by_name["¿"]]
        assert space[by_name["\n"]]
    if tokenizer.kind == "bpe":
        assert begins[by_name["Ġla"]]
        assert joins[by_name["la"]]
        assert space[by_name["Ġ"]]


@settings(max_examples=60, deadline=None)
@given(text=st.text(alphabet="ab¿? .\nñ5'", max_size=40))
def test_word_starts_count_the_words(trained, text):
    for kind in ("char", "byte", "bpe", "unigram"):
        tokenizer = trained[kind]
        assert tokenizer.word_starts(tokenizer.encode(text).ids).sum() == count_words(text), kind


def test_word_starts_by_hand(trained):
    bpe = trained["bpe"]
    ids = bpe.encode("la mesa, ya").ids
    started = [bpe.surface(index) for index, flag in zip(ids, bpe.word_starts(ids), strict=True) if flag]
    assert [surface[:2].strip()[0] for surface in started] == ["l", "m", "y"]
    joined = bpe.word_starts(ids + ids, begins=[0, len(ids)])
    assert joined.sum() == 6
    assert bpe.word_starts(ids + ids).sum() == 5  # "ya" and "la" have become one word


@settings(max_examples=80, deadline=None)
@given(texts=st.lists(st.text(alphabet="aeñ¿?. \n\x1c\x0b\x85\xa0\u2003AE1<end>unk'🙂", max_size=50), max_size=4))
@example(texts=["\n\n1"])
def test_bulk_is_the_library(trained, texts):
    for kind, tokenizer in trained.items():
        bulk = BulkEncoder(tokenizer)([*CORPUS[:2], *texts])
        expected = [tokenizer.encode(text).ids for text in [*CORPUS[:2], *texts]]
        assert bulk.ids.tolist() == [index for row in expected for index in row], kind
        assert bulk.lengths.tolist() == list(map(len, expected))


def test_bulk_on_tricky_text_of_every_kind(tokenizer):
    bulk = BulkEncoder(tokenizer)
    for text in TRICKY:
        assert bulk([text]).ids.tolist() == tokenizer.encode(text).ids, text


def test_bulk_takes_the_shortcut(trained):
    ways = {kind: BulkEncoder(tokenizer).way for kind, tokenizer in trained.items()}
    assert ways == {
        "char": "characters", "byte": "bytes", "word": "words", "bpe": "pieces", "wordpiece": "bert", "unigram": "pieces",
    }  # fmt: skip


def test_shortcut_marks_what_the_library_way_marks(trained):
    text = "  «Hola», dijo. ¿Y tú?\n\nNada.  Fin de 3,5 años.\nY más"
    for kind, tokenizer in trained.items():
        quick, slow = BulkEncoder(tokenizer), BulkEncoder(tokenizer)
        slow.way = "library"
        a, b = quick([text]), slow([text])
        assert a.words.sum() == count_words(text), kind
        if kind != "byte":  # the library gives all bytes of a character the same place
            assert a.words.tolist() == b.words.tolist(), kind
        assert a.sentences.tolist() == b.sentences.tolist(), kind
        assert a.sentences.sum() == 5


def test_sections_join_to_the_whole(trained, monkeypatch):
    monkeypatch.setattr("vocablo.text.bulk._SECTION", 300)
    text = "\n\n".join(CORPUS * 4) + " Y 1. Fin.\n1. Uno. Dos " * 20
    for kind, tokenizer in trained.items():
        encoder = BulkEncoder(tokenizer)
        sections = list(encoder.sections(text))
        assert "".join(sections) == text
        assert len(sections) > 5
        parts, whole = encoder(sections), encoder([text])
        assert parts.ids.tolist() == whole.ids.tolist(), kind
        assert parts.words.tolist() == whole.words.tolist(), kind
        assert parts.sentences.tolist() == whole.sentences.tolist(), kind


def test_cache_that_overflows_changes_nothing(trained, monkeypatch):
    monkeypatch.setattr("vocablo.text.bulk._CACHED", 3)
    encoder = BulkEncoder(trained["bpe"])
    for text in CORPUS:
        assert encoder([text]).ids.tolist() == trained["bpe"].encode(text).ids


@pytest.mark.parametrize("kind", KINDS)
def test_training_twice_gives_the_same(kind, trained):
    assert Tokenizer.train(kind, iter(CORPUS), vocab=_size(kind)).hash == trained[kind].hash


def test_saving_and_loading(tokenizer, tmp_path):
    tokenizer.save(tmp_path, model_max_length=128)
    for where in (tmp_path, str(tmp_path), tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(where)
        assert (loaded.kind, loaded.size, loaded.hash) == (tokenizer.kind, tokenizer.size, tokenizer.hash)
        assert loaded.specials == tokenizer.specials
        assert (loaded.end_id, loaded.unk_id) == (tokenizer.end_id, tokenizer.unk_id)
    assert json.loads((tmp_path / "tokenizer_config.json").read_text())["model_max_length"] == 128
    loaded.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer_config.json").read_text())["model_max_length"] == 128


def test_closed_vocabulary_is_exact():
    lines = [" mr. <unk> is N years old ", " he 's chairman of n.v. "]
    tokenizer = Tokenizer.train("word", lines, split="whitespace")
    assert tokenizer.size == 2 + len({word for line in lines for word in line.split()} - {"<unk>"})
    ids = tokenizer.encode(lines[0]).ids
    assert [tokenizer.surface(index) for index in ids] == lines[0].split()
    assert ids[1] == tokenizer.unk_id == tokenizer.encode("zzz").ids[0]
    assert tokenizer.decode(ids) == "mr. <unk> is N years old"


def test_minimum_count_and_largest_vocabulary():
    tokenizer = Tokenizer.train("word", ["a a a b b c"], min_count=2)
    assert sorted(tokenizer.vocabulary) == ["<end>", "<unk>", "a", "b"]
    assert Tokenizer.train("word", ["a a a b b c"], vocab=3).vocabulary == ["<end>", "<unk>", "a"]


def test_lower_casing_keeps_accents():
    for kind in ("word", "wordpiece", "bpe", "unigram", "char"):
        tokenizer = Tokenizer.train(kind, ["El AÑO de la Acción"] * 5, lowercase=True)
        assert tokenizer.decode(tokenizer.encode("AÑO Acción").ids) == "año acción", kind
    cased = Tokenizer.train("wordpiece", ["El AÑO de la Acción"])
    assert cased.decode(cased.encode("AÑO").ids) == "AÑO"


def test_roles():
    bert = Tokenizer.train("wordpiece", CORPUS)
    assert bert.specials == {
        "pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "end": "[SEP]",
    }  # fmt: skip
    assert [bert.pad_id, bert.unk_id, bert.cls_id, bert.sep_id, bert.mask_id] == [0, 1, 2, 3, 4]
    assert bert.end_id == bert.sep_id
    left = Tokenizer.train("wordpiece", CORPUS, specials={"end": "<end>", "cls": None})
    assert left.surface(left.end_id) == "<end>"
    assert left.cls_id is None
    assert Tokenizer.train("bpe", CORPUS, vocab=280, specials={"end": "</s>", "pad": "<pad>"}).specials == {
        "end": "</s>",
        "pad": "<pad>",
    }


def test_nothing_is_learnt_from_special_names():
    assert "<" not in Tokenizer.train("char", ["a <end> b <unk>"]).vocabulary


def test_foreign_specials(tmp_path):
    Tokenizer.train("bpe", CORPUS, vocab=280, specials={"end": "<|endoftext|>"}).save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert Tokenizer.load(tmp_path).specials == {"end": "<|endoftext|>"}  # guessed
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "a"}, "unk_token": "absent"}')
    assert Tokenizer.load(tmp_path).specials == {"end": "a"}  # said
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match="JSON object"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("bep", {}, "did you mean 'bpe'"),
        ("word", {"split": "white"}, "did you mean 'whitespace'"),
        ("word", {"vocab": 500}, "The text gives 5 tokens"),
        ("char", {"vocab": 500}, "The text gives 5 tokens"),
        ("bpe", {"vocab": 5000}, "The text gives at most"),
        ("bpe", {"vocab": 100}, "at least 257 tokens"),
        ("wordpiece", {"vocab": 5000}, "The text gives at most"),
        ("wordpiece", {"vocab": 6}, "at least"),
        ("unigram", {"vocab": 5000}, "The text gives at most"),
        ("unigram", {"vocab": 4}, "at least 7 tokens"),
        ("unigram", {"min_count": 2}, "no minimum count"),
        ("byte", {"lowercase": True}, "can't be lower-cased"),
        ("byte", {"vocab": 300}, "257 tokens"),
        ("word", {"min_count": 0}, "must be positive"),
        ("word", {"specials": {"bos": "<s>"}}, "no special token role 'bos'"),
        ("word", {"specials": {"unk": None}}, "needs a token for unknown words"),
    ],
)
def test_impossible_settings(kind, options, message):
    with pytest.raises(ConfigError, match=message):
        Tokenizer.train(kind, ["aba bab b"], **options)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"byte"}))
def test_no_text(kind):
    for texts in ([], ["", " \n "]):
        with pytest.raises(DataError, match="no text to train"):
            Tokenizer.train(kind, texts)
    with pytest.raises(DataError, match=r"write \[text\]"):
        Tokenizer.train(kind, "text")


def test_an_error_in_the_texts_comes_through():
    def texts():
        yield "a b"
        raise DataError("the file is broken")

    for kind in sorted(set(KINDS) - {"byte"}):
        with pytest.raises(DataError, match="the file is broken"):
            Tokenizer.train(kind, texts())


def test_unreadable_tokenizers(tmp_path):
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(CheckpointError, match="can be read"):
        Tokenizer.load(tmp_path)


def test_truncation_and_padding_are_dropped(trained, tmp_path):
    trained["bpe"].save(tmp_path)
    values = json.loads((tmp_path / "tokenizer.json").read_text())
    values["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps(values))
    assert len(Tokenizer.load(tmp_path).encode(CORPUS[0]).ids) > 3


def test_surface_of_parts_of_characters(trained):
    byte = trained["byte"]
    assert [byte.surface(index) for index in byte.encode("ñ a").ids] == ["\\xc3", "\\xb1", " ", "a"]
    with pytest.raises(DataError, match="no token 257"):
        byte.surface(257)


def test_report(trained):
    report = trained["byte"].report(["año 1", "sí"])
    assert report["bytes_per_token"] == 1
    assert report["tokens_per_word"] == 9 / 3
    assert report["unknown_rate"] == 0
    words = Tokenizer.train("word", ["la casa grande"]).report(["la casa verde"])
    assert words["unknown_rate"] == pytest.approx(1 / 3)
    assert words["longest"][0] == "grande"
    assert words["sample"] == "la|casa|<unk>"
    assert trained["bpe"].report()["bytes_per_token"] is None


def test_encode_batch_and_dtype(trained):
    bpe = trained["bpe"]
    assert bpe.encode_batch(CORPUS) == [bpe.encode(text).ids for text in CORPUS]
    assert BulkEncoder(bpe).dtype == np.uint16


def test_tokens_of_no_role_are_added_behind_the_others_and_kept(tmp_path):
    tokenizer = Tokenizer.train("bpe", ["el gato come pan"] * 3)
    more = tokenizer.with_tokens(["<extra_id_0>", "<extra_id_1>"])
    assert (more.size, more.specials) == (tokenizer.size + 2, tokenizer.specials)
    assert more.encode("el <extra_id_1>").ids[-1] == more.id("<extra_id_1>") == tokenizer.size + 1
    more.save(tmp_path)
    assert Tokenizer.load(tmp_path).hash == more.hash
    assert more.special_ids == tokenizer.special_ids | {tokenizer.size, tokenizer.size + 1}
    with pytest.raises(ConfigError, match="<extra_id_1>' already"):
        more.with_tokens(["<extra_id_2>", "<extra_id_1>"])


def test_a_saved_end_is_no_part_of_how_a_text_is_read(tmp_path):
    made = Tokenizer.train("word", ["el gato come pan"])
    made.save(tmp_path, ends=True)
    found = Tokenizer.load(tmp_path)
    assert found.pipeline["post_processor"] is not None
    assert found.encode("el pan").ids == made.encode("el pan").ids
    assert found.hash == made.hash
    assert Template.of_source(found) == Template.of_source(made)
    assert found.inner.encode("el pan").ids == Template.of_source(made).single(made.encode("el pan").ids)
    pair = found.inner.encode("el pan", "gato").ids
    assert pair == Template.of_source(made).pair(*(made.encode(text).ids for text in ("el pan", "gato")))[0]
