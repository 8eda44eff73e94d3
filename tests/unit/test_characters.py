"""Words as rows of character ids: ELMo's scheme against its published description, and the plain one."""

import numpy as np
import pytest

from vocablo.base.errors import ConfigError
from vocablo.text.characters import ELMO, PLAIN, Scheme
from vocablo.text.tokenizer import Tokenizer


def test_elmos_scheme_by_hand() -> None:
    row = ELMO.rows(["año"])[0]
    expected = [259, ord("a") + 1, 0xC3 + 1, 0xB1 + 1, ord("o") + 1, 260] + [261] * 44
    assert row.tolist() == expected
    assert (ELMO.size, ELMO.most) == (262, 48)
    assert ELMO.begin_sentence[:4].tolist() == [259, 257, 260, 261]
    assert ELMO.end_sentence[:4].tolist() == [259, 258, 260, 261]


def test_the_plain_scheme_is_bytes_and_zeros() -> None:
    row = Scheme(6).rows(["sí"])[0]
    assert row.tolist() == [ord("s") + 1, 0xC3 + 1, 0xAD + 1, 0, 0, 0]
    assert PLAIN.size == 257
    assert not PLAIN.rows([""]).any()


@pytest.mark.parametrize("scheme", [Scheme(5), Scheme(7, marked=True)])
def test_long_words_fill_their_row_and_are_named(scheme: Scheme) -> None:
    words = ["gato", "gatos", "gatito", "año", "cañas"]
    rows = scheme.rows(words)
    assert rows.shape == (5, scheme.width)
    assert scheme.cut(words) == ["gatito", "cañas"]
    assert (rows[1] == scheme.rows(["gatosos"])[0]).all()
    assert rows.max() < scheme.size


def test_rows_are_equal_only_where_words_are() -> None:
    words = ["", "a", "b", "ab", "ba", "á", "a ", "ñ", "日本", "🙂"]
    for scheme in (ELMO, PLAIN):
        assert len(np.unique(scheme.rows(words), axis=0)) == len(words)
    assert ELMO.rows([]).shape == (0, 50)


@pytest.mark.parametrize(("kind", "vocab"), [("word", None), ("wordpiece", 40), ("bpe", 262), ("unigram", 20)])
def test_the_table_of_a_vocabulary_spells_its_tokens(kind: str, vocab: int | None) -> None:
    text = "el gato come pan y la gata come uvas en el mes nuevo"
    tokenizer = Tokenizer.train(kind, [text] * 20, vocab=vocab)
    table = ELMO.table(tokenizer)
    assert table.shape == (tokenizer.size, 50)
    encoding = tokenizer.encode(text)
    spelled = [text[start:end].strip() for start, end in encoding.offsets]
    assert (table[encoding.ids] == ELMO.rows(spelled)).all()
    assert (table[tokenizer.end_id] == ELMO.end_sentence).all()
    assert (PLAIN.table(tokenizer)[encoding.ids] == PLAIN.rows(spelled)).all()


def test_schemes_that_hold_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="width of 2"):
        Scheme(2, marked=True)
    with pytest.raises(ConfigError, match="without marks"):
        _ = PLAIN.begin_sentence
