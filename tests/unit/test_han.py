"""The hierarchical attention network: against a loop over documents, in any company, with what it refuses."""

import math

import pytest
import torch

from vocablo import checkpoint
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import DocumentModel, Fences, Tokens
from vocablo.models import han
from vocablo.text.tokenizer import Tokenizer

DOCUMENTS = [[[3, 1, 4], [1], [5, 9, 2, 6]], [[5]], [[3, 5], [8, 9]], [[7, 9, 3, 2, 3, 8, 4]]]


def made(pooling="han", seed=0, **stack):
    """A small model, far from uniform, or mistakes hide in rounding."""
    settings = {"embed": {"width": 6}, "stack": {"width": 4, "context": 5, "pooling": pooling, **stack}}
    model = han.build(han.config_for("han", "tiny", 12, 64, settings))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.8, generator=draw)
    return model.eval()


def read(model, documents):
    tokens = Tokens.of([sentence for document in documents for sentence in document])
    with torch.no_grad():
        return model(tokens, groups=Fences.of([len(document) for document in documents]))


def gru(module, x, suffix):
    """One direction, step by step, as Cho et al. (2014) write it."""
    w, u, b, c = (
        getattr(module.layers[0], f"{name}_l0{suffix}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = torch.zeros(u.shape[1])
    states = []
    for x_t in x if not suffix else x.flip(0):
        (r, z, n), (r2, z2, n2) = (w @ x_t + b).chunk(3), (u @ h + c).chunk(3)
        r, z = torch.sigmoid(r + r2), torch.sigmoid(z + z2)
        h = (1 - z) * torch.tanh(n + r * n2) + z * h
        states.append(h)
    return torch.stack(states if not suffix else states[::-1])


def level(module, x):
    """The paper's equations 1 to 7 for one sequence."""
    h = torch.cat([gru(module.gru, x, ""), gru(module.gru, x, "_reverse")], dim=1)
    if module.kind == "mean":
        return h.mean(0), None
    if module.kind == "max":
        return h.amax(0), None
    u = torch.tanh(h @ module.attention.map.weight.T + module.attention.map.bias)
    scores = [math.exp(float(one @ module.attention.context)) for one in u]
    alpha = torch.tensor([score / sum(scores) for score in scores])
    return alpha @ h, alpha


@pytest.mark.parametrize("pooling", ["han", "mean", "max"])
def test_it_is_a_loop_over_documents(pooling):
    model = made(pooling)
    found = read(model, DOCUMENTS)
    words, sentences, vectors = [], [], []
    with torch.no_grad():
        for document in DOCUMENTS:
            pairs = [level(model.words, model.tokens.weight[torch.tensor(sentence)]) for sentence in document]
            vector, weights = level(model.sentences, torch.stack([s for s, _ in pairs]))
            vectors.append(vector)
            words += [alpha for _, alpha in pairs]
            sentences.append(weights)
    torch.testing.assert_close(found.pooled, torch.stack(vectors), atol=1e-5, rtol=1e-5)
    assert found.pooled.shape == (4, model.width)
    if pooling == "han":
        torch.testing.assert_close(found.weights[0], torch.cat(words), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.weights[1], torch.cat(sentences), atol=1e-5, rtol=1e-5)
    else:
        assert found.weights == ()


@pytest.mark.parametrize("pooling", ["han", "attention", "mean", "max"])
def test_a_document_is_the_same_in_any_company(pooling):
    model = made(pooling)
    together = read(model, DOCUMENTS).pooled
    for number, document in enumerate(DOCUMENTS):
        torch.testing.assert_close(together[number : number + 1], read(model, [document]).pooled, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(read(model, DOCUMENTS[::-1]).pooled, together.flip(0), atol=1e-6, rtol=1e-5)


def test_it_keeps_the_contract_and_every_parameter_learns():
    model = made().train()
    assert isinstance(model, DocumentModel)
    found = model(Tokens.of([[1, 2, 3], [4]]))  # without groups every sentence is a document
    assert found.pooled.shape == (2, model.width)
    assert found.states.shape == (4, model.width)
    model(Tokens.of([[1, 2, 3], [4, 5], [6]]), groups=Fences.of([2, 1])).pooled.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_sentences_without_words_are_refused():
    with pytest.raises(DataError, match="no tokens"):
        read(made(), [[[1, 2], []]])
    with pytest.raises(DataError, match="no tokens"):
        made()(Tokens.of([[1], [2]]), groups=Fences.of([2, 0]))


def test_the_base_size_is_the_papers():
    config = han.config_for("han", "base", 1000, 512, {})
    assert (config.embed.width, config.stack.width, config.stack.context) == (200, 50, 100)
    assert han.config_for("han", "tiny", 10, 512, {"dropout": 0.3}).stack.dropout == 0.3
    with pytest.raises(ConfigError, match="size"):
        han.config_for("han", "huge", 10, 512, {})


def test_saved_and_loaded_it_is_the_same(tmp_path):
    tokenizer = Tokenizer.of_words(list("abcdefghij"))
    model = made()
    checkpoint.save(tmp_path / "model", model, tokenizer)
    again = checkpoint.load(tmp_path / "model")
    assert again.model.config == model.config
    assert torch.equal(read(again.model, DOCUMENTS).pooled, read(model, DOCUMENTS).pooled)
    assert checkpoint.describe(tmp_path / "model").family == "han"
