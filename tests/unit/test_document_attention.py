"""What a document was told from: the weights shown are the model's, at their words, and what is drawn says them."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from task_models import learner
from tiny_models import TEXTS
from vocablo import checkpoint
from vocablo.base.errors import ConfigError
from vocablo.base.results import as_json
from vocablo.contract import Fences, Tokens
from vocablo.data.examples import TextExample
from vocablo.inference.finetuned import TaskModel, task_in
from vocablo.models import han
from vocablo.tasks import classify
from vocablo.tasks._readers import reader_for
from vocablo.tasks._reading import ReadSettings
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.document import Passage, document_html, document_text, shades

TEXT = "El hotel está buenísimo. La comida, en cambio, era regular.\n\n¿Volvería? ¡Sí!"


def asked(folder, pooling="han", kind="word", **read):
    """A model from its folder, with random weights far from even."""
    tokenizer = Tokenizer.train(
        kind, [TEXT.replace("buenísimo", "bueno"), "El <end>"], vocab=300 if kind == "bpe" else None
    )
    config = han.config_for("han", "tiny", tokenizer.size, 64, {"stack": {"pooling": pooling}})
    model = han.build(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.6)
    task = classify.Task(reader_for(model, tokenizer, ReadSettings(**read)), classify.Config(), ("malo", "bueno"))
    checkpoint.save(folder / "model", model, tokenizer, task.heads(), task.told())
    loaded = checkpoint.load(folder / "model")
    return TaskModel(loaded, *task_in(loaded, "here"))


def test_weights_are_the_models_and_stand_at_their_words(tmp_path):
    model = asked(tmp_path)
    found = model.attend(TEXT)
    assert [" ".join(one.words) for one in found.passages] == [
        "El hotel está buenísimo .", "La comida , en cambio , era regular .", "¿ Volvería ?", "¡ Sí !"
    ]  # fmt: skip
    ids = [model.tokenizer.encode(" ".join(one.words)).ids for one in found.passages]
    with torch.no_grad():
        words, sentences = model.model(Tokens.of(ids), groups=Fences.of([4])).weights
    np.testing.assert_allclose([one.weight for one in found.passages], sentences.numpy(), atol=1e-6)
    np.testing.assert_allclose([each for one in found.passages for each in one.weights], words.numpy(), atol=1e-6)
    assert sum(one.weight for one in found.passages) == pytest.approx(1, abs=1e-5)
    assert found.passages[0].known == (True, True, True, False, True), "buenísimo isn't in the vocabulary"
    assert found.prediction == model.classify(TEXT)[0]
    assert as_json(found)["passages"][0]["words"][1] == "hotel"


@pytest.mark.parametrize("family", ["bilstm", "lstm", "bert"])
def test_attention_as_pooling_of_any_model_says_what_each_token_weighed(family, tmp_path):
    examples = [TextExample(str(i), text, None, "ab"[i % 2]) for i, text in enumerate(TEXTS)]
    model, task, heads = learner(classify, family, examples, pooling="attention")
    checkpoint.save(tmp_path / "model", model, task.reader.tokenizer, heads, task.told())
    loaded = checkpoint.load(tmp_path / "model")
    asked = TaskModel(loaded, *task_in(loaded, "here"))
    assert "attend" in asked.verbs
    (one,) = asked.attend("el gato  come vidrio").passages
    assert one.weight is None
    assert "".join(one.words) == "elgatocomevidrio"
    reader = asked.task.reader
    framed, _ = reader.single(reader.tokenizer.encode("el gato  come vidrio").ids, "here")
    with torch.no_grad():
        states = asked.model(Tokens.of([framed[0]])).states
        alpha = torch.tanh(asked.heads["pooling"].score(states)).squeeze(1).softmax(0)
    before, behind = map(len, reader.template.alone.specials)
    np.testing.assert_allclose(one.weights, alpha[before : len(alpha) - behind], atol=1e-6)


def test_pieces_of_words_spell_the_text_again(tmp_path):
    found = asked(tmp_path, kind="bpe").attend(TEXT)
    spelled = ["".join(" " * (space and place > 0) + word for place, (word, space) in enumerate(zip(one.words, one.spaced, strict=True))) for one in found.passages]  # fmt: skip
    assert " ".join(spelled).split() == TEXT.split()


def test_what_is_cut_is_not_shown(tmp_path):
    found = asked(tmp_path, context=7).attend(TEXT)
    assert [len(one.words) for one in found.passages] == [5, 2]


def test_pooling_without_weights_has_nothing_to_show(tmp_path):
    model = asked(tmp_path, pooling="mean")
    assert "attend" not in model.verbs
    with pytest.raises(ConfigError, match=r"attend needs attention as pooling .*classify"):
        model.attend(TEXT)
    assert "attend" in asked(tmp_path / "other").verbs
    with pytest.raises(ConfigError, match="empty"):
        asked(tmp_path / "other").attend("  ")


PASSAGES = (
    Passage(0.81, ("a", "<b>", "."), (0.25, 0.5, 0.25), (False, True, False), (True, False, True)),
    Passage(0.19, ("c",), (1.0,), (False,), (True,)),
)


def test_shades_are_word_weights_times_the_root_of_the_sentences():
    sentences, words = shades(PASSAGES)
    assert sentences == pytest.approx([1, 0.19 / 0.81])
    most = max(0.9 * 0.5, 0.19**0.5)
    assert words[0] == pytest.approx([0.225 / most, 0.45 / most, 0.225 / most])
    assert words[1] == pytest.approx([0.19**0.5 / most])
    assert shades([]) == ([], [])
    alone = Passage(None, ("a", "b"), (0.2, 0.8), (False, True), (True, True))
    assert shades([alone])[1] == [pytest.approx([0.25, 1])]


def test_html_is_well_formed_and_says_every_weight():
    drawn = document_html(PASSAGES, "sí & no")
    root = ET.fromstring(
        drawn.replace("class=un", "class='un'").replace("class=say", "class='say'").replace("&nbsp;", " ")
    )
    spans = list(root.iter("span"))
    assert [span.text for span in spans] == ["a", "<b>", ".", "c"]
    assert [span.get("class") for span in spans] == [None, "un", None, None]
    assert spans[1].get("title").startswith("0.5000")
    assert [box.text for box in root.iter("b")] == ["81 %", "19 %"]
    assert "src=" not in drawn
    alone = document_html([Passage(None, ("a",), (1.0,), (False,), (True,))])
    assert "<b " not in alone
    assert "sentences" not in alone


def test_a_terminal_gets_colours_or_numbers():
    plain = document_text(PASSAGES, colour=False)
    assert plain.splitlines() == ["81 %  a <b>[50].", "19 %  c"], "an even weight isn't told"
    coloured = document_text(PASSAGES, colour=True)
    assert "\x1b[" in coloured
    assert "[50]" not in coloured
    long = Passage(1.0, ("palabra",) * 60, (1 / 60,) * 60, (True,) * 60, (True,) * 60)
    assert max(map(len, document_text([long], colour=False, columns=50).splitlines())) <= 50
