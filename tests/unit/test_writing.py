"""What a model that writes from a source is asked: its texts, their scores, and what they were written from."""

import json
import math

import numpy as np
import pytest
import torch

from command_line import refused, vocablo
from vocablo import checkpoint
from vocablo.api import WritingModel, load
from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.inference.verbs import MissingVerb
from vocablo.models import transformer
from vocablo.nn import taps
from vocablo.text.tokenizer import Tokenizer

WORDS = ["el", "gato", "come", "pan", "the", "cat", "eats", "bread"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with random weights, far from uniform, and words as tokens; of no task, as a published one."""
    path = tmp_path_factory.mktemp("writing") / "m"
    tokenizer = Tokenizer.of_words(WORDS)
    torch.manual_seed(0)
    changes = {"stack": {"layers": 2, "width": 16}, "attention": {"heads": 2}}
    config = transformer.config_for("transformer", "tiny", tokenizer.size, 12, changes).paired((tokenizer.end_id,))
    model = transformer.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.3)
    checkpoint.save(path, model, tokenizer)
    return path


@pytest.fixture
def asked(folder):
    return load(folder)


def test_its_verbs(asked):
    assert isinstance(asked, WritingModel)
    assert asked.verbs == ("generate", "translate", "summarize", "score", "attend", "predict")
    with pytest.raises(MissingVerb, match="perplexity asked of a model that writes a text from a source"):
        asked.perplexity("x")


def test_the_score_is_the_chain_rule_and_that_of_the_search(asked):
    (found,) = asked.score("el gato come pan", "the cat eats bread")
    assert found.kind == "conditional"
    assert [token.strip() for token in found.tokens] == ["the", "cat", "eats", "bread", "<end>"]
    tokenizer, model = asked.tokenizer, asked.model
    source = [*tokenizer.encode("el gato come pan").ids, tokenizer.end_id]
    target = tokenizer.encode("the cat eats bread").ids
    with torch.no_grad():
        states = model(Tokens.of([[tokenizer.end_id, *target]]), Tokens.of([source])).states
        logs = model.logits(states).log_softmax(1)
    expected = [float(logs[place, token]) for place, token in enumerate([*target, tokenizer.end_id])]
    assert found.log_probs == pytest.approx(expected, abs=1e-5)
    assert found.log_prob == pytest.approx(sum(expected), abs=1e-4)

    (best,) = asked.translate("el gato come pan", beam=4, n_best=4, max_tokens=6)
    assert [one.score for one in best.best] == sorted((one.score for one in best.best), reverse=True)
    ended = [one for one in best.best if one.text and one.tokens <= 6]
    scores = asked.score(["el gato come pan"] * len(ended), [one.text for one in ended])
    for one, again in zip(ended, scores, strict=True):
        if one.tokens == len(again.tokens):  # it ended by itself
            assert one.log_prob == pytest.approx(again.log_prob, abs=1e-4)


def test_a_batch_is_written_as_each_alone(asked):
    texts = ["el gato", "el gato come pan", "pan", "come pan come pan come"]
    together = asked.translate(texts, beam=3, n_best=3)
    for text, one in zip(texts, together, strict=True):
        (alone,) = asked.translate(text, beam=3, n_best=3)
        assert [each.text for each in one.best] == [each.text for each in alone.best]
        assert [each.log_prob for each in one.best] == pytest.approx([each.log_prob for each in alone.best], abs=1e-4)


def test_greedy_is_a_beam_of_one_and_samples_depend_on_the_seed_alone(asked):
    greedy = asked.generate("el gato come", greedy=True, max_tokens=6)[0].output
    assert greedy == asked.translate("el gato come", max_tokens=6)[0].output
    assert "".join(asked.stream("el gato come", greedy=True, max_tokens=6)).strip() == greedy
    three = asked.generate("el gato come", samples=3, seed=1, max_tokens=6)
    assert [one.output for one in asked.generate("el gato come", samples=2, seed=1, max_tokens=6)] == [
        one.output for one in three[:2]
    ]
    assert len({one.output for one in asked.generate("el gato come", samples=20, max_tokens=6)}) > 3
    assert all(math.isfinite(one.log_prob) for one in three)
    with pytest.raises(ConfigError, match="use n_best"):
        asked.generate("el gato", greedy=True, samples=2)


def test_constraints_are_kept(asked):
    (found,) = asked.translate(
        "el gato come pan", beam=4, prefix="the", include=["bread"], exclude=["cat"], max_tokens=8
    )
    words = found.output.split()
    assert words[0] == "the"
    assert "bread" in words
    assert "cat" not in words


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"include": ["bread"], "exclude": ["cat", "bread"], "beam": 3},
            "'bread' is asked for .*--must.* and ruled out",
        ),
        ({"include": ["bread"]}, "needs a beam"),
        ({"prefix": "ñandú"}, "lacks a part of 'ñandú'"),
    ],
)
def test_constraints_that_cant_be_kept(asked, given, says):
    with pytest.raises(ConfigError, match=says):
        asked.translate("el gato", **given)


def test_a_source_is_read_once_and_said_to_be_cut_once(asked, capsys):
    (found,) = asked.translate("gato " * 40, max_tokens=2)
    assert found.cut
    assert capsys.readouterr().err.count("cut off") == 1
    assert asked.translate([]) == []


def test_a_drawn_text_counts_its_end_and_says_why_it_stopped(asked):
    unknown = (asked.tokenizer.unk_id,)
    drawn = asked.generate("el gato", samples=30, max_tokens=50, exclude=[unknown])
    for one in drawn:
        ended = one.finished_by == "end"
        assert one.best[0].tokens == len(one.output.split()) + ended
        assert ended or (one.finished_by == "context" and one.best[0].tokens == 12)
    (longest,) = asked.generate("el gato", samples=1, min_tokens=12, exclude=[unknown], max_tokens=50)
    assert longest.finished_by == "context"
    (cut,) = asked.generate("el gato", samples=1, min_tokens=3, exclude=[unknown], max_tokens=3)
    assert cut.finished_by == "max_tokens"
    with pytest.raises(ConfigError, match="Only one sample can be streamed; samples is 2"):
        next(asked.stream("el gato", samples=2))


def test_attention_is_what_the_taps_recorded_of_the_decoders_layers(asked):
    found = asked.attend("el gato come", "the cat")
    assert found.looked is not None
    assert found.weights.shape == (2, 2, 3, 4)
    np.testing.assert_allclose(found.weights.sum(3), 1, atol=1e-5)
    tokenizer = asked.tokenizer
    source = Tokens.of([[*tokenizer.encode("el gato come").ids, tokenizer.end_id]])
    target = Tokens.of([[tokenizer.end_id, *tokenizer.encode("the cat").ids]])
    with torch.no_grad(), taps.watching() as seen:
        asked.model(target, source)
    assert len(seen.recorded) == 2 + 2 * 2  # the encoder's layers, then each decoder layer's two
    for layer, place in enumerate((3, 5)):
        np.testing.assert_allclose(found.weights[layer], seen.weights(place)[0].numpy(), atol=1e-6)
    drawn = found.svg()
    assert drawn.count("<rect") == 3 * 4 + 1
    assert all(name in drawn for name in ("gato", "cat"))
    assert "gato" in found._repr_html_()
    assert asked.attend("el gato come").looked == found.looked


def test_the_command_line(folder, tmp_path):
    texts = tmp_path / "texts"
    texts.write_text("el gato\nel gato come pan\n", encoding="utf-8")
    model = ("--model", str(folder))
    done = vocablo("translate", str(texts), *model, "--beam", "2", "--json")
    assert done.code == 0, done.err
    assert [one["text"] for one in json.loads(done.out)["results"]] == ["el gato", "el gato come pan"]
    done = vocablo("translate", "-", *model, "--n-best", "2", stdin="el gato\n")
    assert "score" in done.out
    assert "conditional: given 'el gato'" in vocablo("score", "el gato", "the cat", *model).out
    done = vocablo("attend", "el gato", "the cat", *model, "--svg", str(tmp_path / "a.svg"))
    assert "written from" in done.out
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    refused(vocablo("score", "el gato", *model), "score SOURCE TARGET")
    refused(vocablo("translate", "pan", *model, "--beam", "99"), "wider than the vocabulary")
    texts.write_text("el gato\n\npan\n", encoding="utf-8")
    refused(vocablo("translate", str(texts), *model), "Line 2 is empty")
    texts.write_text("", encoding="utf-8")
    refused(vocablo("translate", str(texts), *model), "texts is empty: there is nothing to read")
    refused(vocablo("translate", "-", *model, stdin=""), "Standard input is empty")
    streamed = vocablo("generate", "el gato", *model, "--greedy", "--max-tokens", "3").out
    assert not streamed.startswith("el gato")


def test_a_model_that_says_no_start_isnt_opened(tmp_path):
    tokenizer = Tokenizer.of_words(WORDS)
    checkpoint.save(
        tmp_path / "m",
        transformer.build(transformer.config_for("transformer", "tiny", tokenizer.size, 12, {})),
        tokenizer,
    )
    with pytest.raises(ConfigError, match="decoder_start_token_id"):
        load(tmp_path / "m")
