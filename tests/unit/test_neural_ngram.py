"""The neural n-gram: against Bengio's equations written out, and what its contexts see."""

import numpy as np
import pytest
import torch

import vocablo
from tiny_models import TEXTS
from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.models.neural_ngram import Config, build, config_for

VOCAB, BOUNDARY = 11, 0


def made(direct: bool, order: int = 4, boundary: int | None = BOUNDARY):
    """A model far from uniform, in float64."""
    torch.manual_seed(0)
    embed = {"vocab": VOCAB, "width": 3}
    model = build(Config(embed=embed, order=order, hidden=5, direct=direct, boundary=boundary))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
    return model.double().eval()


def equations(model, context: list[int]) -> np.ndarray:
    """p(. | context) by the paper: y = b + W x + U tanh(d + H x); a context is as long as the model's, None is nothing."""
    weights = {name: parameter.detach().numpy() for name, parameter in model.named_parameters()}
    x = np.concatenate([weights["vectors.weight"][0 if token is None else token + 1] for token in context])
    h = np.tanh(weights["hidden.bias"] + weights["hidden.weight"] @ x)
    u, w = np.split(weights["head.weight"], [len(h)], axis=1)
    y = weights["head.bias"] + u @ h + (w @ x if model.config.direct else 0)
    return np.exp(y) / np.exp(y).sum()


@pytest.mark.parametrize("direct", [False, True])
@torch.no_grad()
def test_it_is_the_papers_equations(direct):
    model = made(direct)
    assert model.head.in_features == 5 + (9 if direct else 0)
    found = model.logits(model.forward(Tokens.of([[BOUNDARY, 4, 7, 7, 2], [3]])).states).softmax(1).numpy()
    contexts = [[None, None, 0], [None, 0, 4], [0, 4, 7], [4, 7, 7], [7, 7, 2], [None, None, 3]]
    np.testing.assert_allclose(found, [equations(model, context) for context in contexts], atol=1e-12)


@torch.no_grad()
def test_nothing_before_the_boundary_is_seen():
    model = made(True)
    stream = model.forward(Tokens.of([[5, 6, BOUNDARY, 4, 7]])).states[2:]
    alone = model.forward(Tokens.of([[BOUNDARY, 4, 7]])).states
    assert torch.equal(stream, alone)
    blind = made(True, boundary=None)
    assert not torch.equal(blind.forward(Tokens.of([[5, 6, BOUNDARY, 4, 7]])).states[2:], alone)


@torch.no_grad()
def test_words_further_back_than_the_order_change_nothing():
    model = made(False, order=3)
    one, other = (model.forward(Tokens.of([[a, 2, 3, 4]])).states for a in (5, 6))
    assert not torch.equal(one[1], other[1])
    assert torch.equal(one[2:], other[2:])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("neural")
    (folder / "text.txt").write_text("\n".join(TEXTS * 5), encoding="utf-8")
    changes = ["train.batch=4", "model.direct=true"]
    result = vocablo.pretrain(
        "neural-ngram", text=folder / "text.txt", out=folder / "model", size="tiny", data={"documents": "line"},
        steps=40, overrides=changes, quiet=True,
    )  # fmt: skip
    return result, vocablo.load(folder / "model")


def test_it_is_trained_by_the_one_loop_and_knows_its_boundary(trained):
    result, asked = trained
    assert result.pretext == "causal"
    assert result.perplexity < asked.tokenizer.size / 2
    assert asked.model.config.boundary == asked.tokenizer.end_id
    assert asked.model.config.direct
    (one,) = asked.score(["el gato come pan ."], end=True)
    expected = 0.0
    before = [None, None, asked.tokenizer.end_id]
    for token in one.ids:
        expected += np.log(equations(asked.model, before)[token])
        before = [*before[1:], token]
    assert one.log_prob == pytest.approx(expected, abs=1e-4)
    assert asked.next("el gato", k=3).words
    assert asked.generate("el", max_tokens=5, greedy=True)[0].ids


def test_what_it_cannot_be_is_refused():
    with pytest.raises(ConfigError, match=r"order.*greater than or equal to 2"):
        config_for("neural-ngram", "tiny", VOCAB, 16, {"order": 1})
    with pytest.raises(ConfigError, match="no size 'huge'"):
        config_for("neural-ngram", "huge", VOCAB, 16, {})
    with pytest.raises(ConfigError, match=r"unknown key 'ordre'.*order"):
        config_for("neural-ngram", "tiny", VOCAB, 16, {"ordre": 3})
