"""Senses of ambiguous words: the measure by hand, our set, and what each kind of model can tell."""

import numpy as np
import pytest
import torch

from tiny_models import bert
from vocablo.base.errors import ConfigError, DataError
from vocablo.data.senses import read_senses
from vocablo.evaluation.senses import evaluate, separation
from vocablo.inference.encoder import EncoderModel
from vocablo.inference.two_way import TwoWayLanguageModel
from vocablo.inference.words import WordModel
from vocablo.models import elmo, word_vectors
from vocablo.text.tokenizer import Tokenizer


def test_our_set_is_what_it_says() -> None:
    sets = read_senses()
    assert len(sets) == 10
    for uses in sets.values():
        assert [sum(use.sense == sense for use in uses) for sense in dict.fromkeys(use.sense for use in uses)] == [5, 5]
    assert len({use.sentence for uses in sets.values() for use in uses}) == 100


def test_the_measure_by_hand() -> None:
    senses = ["a", "a", "b", "b"]
    apart = np.array([[1, 0.1], [1, 0], [0, 1], [0.1, 1]], dtype=np.float32)
    assert separation(apart, senses) == (1.0, 1.0)
    mixed = apart[[0, 2, 1, 3]]
    assert separation(mixed, senses) == (0.0, _by_pairs(mixed, senses))
    same = np.ones((4, 3), dtype=np.float32)
    nearest, pairs = separation(same, senses)
    assert nearest == pytest.approx(1 / 3)  # one of three others
    assert pairs == 0.5
    flat = np.array([[1, 0], [0.6, 0.8], [1, 0], [0.8, -0.6]], dtype=np.float32)
    assert separation(flat, senses)[1] == pytest.approx(_by_pairs(flat, senses))


def _by_pairs(vectors, senses) -> float:
    """The same in plain loops."""
    alike, apart = [], []
    for i in range(len(senses)):
        for j in range(i):
            cosine = float(vectors[i] @ vectors[j] / np.linalg.norm(vectors[i]) / np.linalg.norm(vectors[j]))
            (alike if senses[i] == senses[j] else apart).append(cosine)
    wins = [1.0 if a > b + 1e-6 else 0.5 if abs(a - b) <= 1e-6 else 0.0 for a in alike for b in apart]
    return sum(wins) / len(wins)


def test_vectors_without_context_cannot_tell_and_an_elmos_can_differ() -> None:
    sentences = [use.sentence for uses in read_senses().values() for use in uses]
    tokenizer = Tokenizer.train("word", sentences)
    torch.manual_seed(0)
    plain = word_vectors.build(word_vectors.config_for("word-vectors", "tiny", tokenizer.size, 16, {}))
    report = evaluate(WordModel(plain, tokenizer))
    assert [one.pairs for one in report.layers] == [0.5]
    assert report.layers[0].nearest == pytest.approx(report.chance) == pytest.approx(4 / 9)
    changes = {"stack": {"width": 8}, "unknown": tokenizer.unk_id}
    model = elmo.build(elmo.config_for("elmo", "tiny", tokenizer.size, 16, changes)).eval()
    model.spell(tokenizer)
    layers = evaluate(TwoWayLanguageModel(model, tokenizer)).layers
    assert [one.layer for one in layers] == [0, 1, 2]
    assert layers[0].pairs == pytest.approx(0.5)  # letters alone
    assert layers[1].pairs != 0.5


def test_an_encoder_is_measured_on_every_layer(tmp_path) -> None:
    table = tmp_path / "own.tsv"
    table.write_text(
        "word\tsense\tsentence\npan\ta\tel pan .\npan\ta\tmi pan .\npan\tb\tpan y luna\npan\tb\tun pan y luna\n",
        encoding="utf-8",
    )
    tokenizer = Tokenizer.train("wordpiece", [table.read_text(encoding="utf-8")], vocab=40)
    report = evaluate(EncoderModel(bert(tokenizer.size), tokenizer), table)
    assert len(report.layers) == 3
    assert (report.uses, len(report.words), report.words[0].word) == (4, 1, "pan")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("word\tsense\nsol\ta\n", "no sentence"),
        ("word\tsense\tsentence\nsol\ta\tla luna\n", "0 times"),
        ("word\tsense\tsentence\nsol\ta\tsol y sol\n", "2 times"),
        ("word\tsense\tsentence\nsol\ta\tel sol\nsol\ta\tun sol\n", "one sense"),
        ("word\tsense\tsentence\nsol\ta\tel sol\nsol\ta\tun sol\nsol\tb\tmi sol\n", "one sentence alone"),
    ],
)
def test_tables_that_say_nothing_are_refused(tmp_path, text, said) -> None:
    (tmp_path / "t.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_senses(tmp_path / "t.tsv")


def test_a_model_without_such_vectors_is_refused() -> None:
    with pytest.raises(ConfigError, match="encoder, an ELMo, or word vectors"):
        evaluate(object())
