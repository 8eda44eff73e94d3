"""What a model that tells words from both sides is asked: scores against one reading for each word, words by their letters, tasks."""

import numpy as np
import pytest
import torch

from vocablo import api, checkpoint
from vocablo.base.errors import ConfigError
from vocablo.cli import show
from vocablo.contract import Tokens
from vocablo.inference.score import one_kind
from vocablo.inference.two_way import TwoWayLanguageModel
from vocablo.inference.verbs import MissingVerb
from vocablo.models import elmo
from vocablo.text.characters import ELMO
from vocablo.text.tokenizer import Tokenizer

TEXTS = ["El gato come pan.", "La gata come queso.", "El perro mira la luna y la luna mira el pan."]


@pytest.fixture(scope="module")
def asked() -> TwoWayLanguageModel:
    tokenizer = Tokenizer.train("word", TEXTS)
    torch.manual_seed(0)
    changes = {"stack": {"width": 12}, "unknown": tokenizer.unk_id}
    model = elmo.build(elmo.config_for("elmo", "tiny", tokenizer.size, 16, changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    model.spell(tokenizer)
    return TwoWayLanguageModel(model, tokenizer)


def test_a_score_is_that_of_each_word_told_alone_from_either_side(asked) -> None:
    text = "El gato mira la luna."
    found = asked.score([TEXTS[0], text])[1]
    end = asked.tokenizer.end_id
    ids = [end, *found.ids, end]
    model = asked.model
    with torch.no_grad():
        for place in range(1, len(ids) - 1):
            left = model.logits(model(Tokens.of([ids[:place]])).states[-1:], "forward").log_softmax(1)
            right = model.logits(model(Tokens.of([ids[place + 1 :]])).states[:1], "backward").log_softmax(1)
            assert found.forward[place - 1] == pytest.approx(float(left[0, ids[place]]), abs=1e-5)
            assert found.backward[place - 1] == pytest.approx(float(right[0, ids[place]]), abs=1e-5)
    assert found.log_prob == pytest.approx(sum(found.forward) + sum(found.backward))
    assert found.tokens == ["El", "gato", "mira", "la", "luna", "."]


def test_kinds_are_named_and_never_ranked_together(asked) -> None:
    both, forward, backward = (asked.score(TEXTS[0], variant=name)[0] for name in ("both", "forward", "backward"))
    assert [one.kind for one in (both, forward, backward)] == ["forward + backward", "forward", "backward"]
    assert both.log_prob == pytest.approx(forward.log_prob + backward.log_prob)
    with pytest.raises(ConfigError, match="can't be ranked together"):
        one_kind([both, forward])
    with pytest.raises(ConfigError, match="no variant"):
        asked.score(TEXTS[0], variant="token")


def test_an_unknown_word_is_read_by_its_letters_and_told_as_unknown(asked) -> None:
    one, other = asked.score(["El ornitorrinco come pan.", "El murciélago come pan."])
    assert one.unknown == other.unknown == 1
    assert one.forward[:1] == pytest.approx(other.forward[:1])  # nothing of it is read yet
    assert one.forward[1] == pytest.approx(other.forward[1])  # told as the same unknown word
    assert abs(one.forward[2] - other.forward[2]) > 1e-4  # and then read
    assert abs(one.backward[0] - other.backward[0]) > 1e-4
    # The vector of an unknown word is that of its letters, wherever it comes from.
    vector = asked.embed("ornitorrinco", layers=(0,)).vectors[0]
    rows = np.stack([ELMO.end_sentence, ELMO.rows(["ornitorrinco"])[0], ELMO.end_sentence])
    plain = Tokens.of([[0, 0, 0]])
    tokens = Tokens(plain.ids, plain.fences, plain.positions, chars=torch.from_numpy(rows).long())
    with torch.no_grad():
        expected = asked.model(tokens, keep=(0,)).layers[0].mean(0)
    np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_a_word_has_another_vector_in_another_sentence(asked, tmp_path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    found = asked.neighbors("El gato mira la luna.", "gato", file, k=2)
    assert len(found.neighbors) == 2
    assert asked.similarity("El gato.", "Un gato come.", word="gato", layers=(0,)).cosine == pytest.approx(1, abs=1e-5)
    assert asked.similarity("El gato.", "Un gato come.", word="gato", layers=(2,)).cosine < 0.9999


def test_a_model_without_output_layer_says_what_it_lacks(asked, tmp_path) -> None:
    checkpoint.save(tmp_path / "elmo", asked.model.trimmed(), asked.tokenizer)
    bare = api.load(tmp_path / "elmo")
    assert bare.verbs == ("embed", "neighbors", "similarity")
    with pytest.raises(MissingVerb, match="output layer"):
        bare.score("El gato.")


TAGGED = "".join(
    f"{a} O\n{b} B-PER\ncome O\n{c} B-COM\n. O\n\n"
    for a, b, c in [("El", "gato", "pan"), ("La", "gata", "queso"), ("El", "perro", "pan"), ("La", "luna", "queso")] * 4
)


def test_its_layers_mixed_are_features_of_a_tagger(asked, tmp_path) -> None:
    """The mix has every layer, the words' own vectors too; words that the vocabulary lacks are told apart by letters."""
    checkpoint.save(tmp_path / "elmo", asked.model, asked.tokenizer)
    (tmp_path / "train.conll").write_text(TAGGED.replace("luna", "iguana").replace("queso", "yogur"), encoding="utf-8")
    result = api.finetune(
        "tag", model=tmp_path / "elmo", train=tmp_path / "train.conll", dev=tmp_path / "train.conll",
        out=tmp_path / "out", features="weighted-all", quiet=True,
        overrides=["task.crf=true", "train.epochs=12", "train.batch=4", "train.lr=0.01", "read.lstm_layers=1", "read.dropout=0"],
    )  # fmt: skip
    assert result.runs[0].measures["f1"] == 1.0
    loaded = checkpoint.load(tmp_path / "out")
    assert loaded.heads["features"].keep == (0, 1, 2)
    (tagged,) = api.load(tmp_path / "out").tag(["La iguana come yogur ."])
    assert tagged.tags == ("O", "B-PER", "O", "B-COM", "O")


def test_fresh_weights_learn_a_task_on_words(asked, tmp_path) -> None:
    (tmp_path / "train.conll").write_text(TAGGED, encoding="utf-8")
    api.finetune(
        "tag", model="elmo:tiny", train=tmp_path / "train.conll", out=tmp_path / "out", quiet=True,
        overrides=["train.steps=1", "architecture.stack.width=8"],
    )  # fmt: skip
    loaded = checkpoint.load(tmp_path / "out")
    assert (loaded.model.reads, loaded.tokenizer.kind) == ("two_way", "word")


def test_unknown_words_of_the_held_out_text_are_counted_and_explained(tmp_path) -> None:
    (tmp_path / "t.txt").write_text("\n".join(TEXTS * 4), encoding="utf-8")
    result = api.pretrain(
        "elmo", size="tiny", text=tmp_path / "t.txt", out=tmp_path / "elmo", quiet=True, data={"validation_text": [str(tmp_path / "t.txt")]},
        overrides=["tokenizer.vocab=8", "train.steps=1", "train.batch=2", "context=16", "model.stack.width=8"],
    )  # fmt: skip
    tokenizer = Tokenizer.load(tmp_path / "elmo")
    unknown = 4 * sum(tokenizer.encode(text).ids.count(tokenizer.unk_id) for text in TEXTS)
    assert result.validation_unknown == unknown > 0
    assert f"{unknown} of them unknown words, read as one here" in show.pretrain_result(result)
