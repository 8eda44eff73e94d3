"""The lecture's claims: what must hold exactly, and that every experiment runs to its table and curves."""

import pytest
import torch

from command_line import refused, vocablo
from vocablo.evaluation import claims
from vocablo.evaluation.claims import _small, distance, parallel, parts, transfer


def test_without_positions_a_sentence_is_a_set_of_words():
    claim = claims.run("order", steps=150, quiet=True)
    rows = {row[0]: row for row in claim.rows}
    # Swapping the names permutes the tokens, and nothing in the model depends on their order: only rounding differs.
    assert float(rows["none"][3]) < 1e-5 < 1e-3 < float(rows["learned"][3])
    assert rows["learned"][1] == "100%"
    assert float(rows["none"][2]) > 0.6  # two candidates are left: log 2 = 0.693


@pytest.mark.parametrize("name", ["parts", "heads", "length", "transfer", "distance", "parallel"])
def test_every_experiment_ends_with_a_table_and_curves(name, monkeypatch):
    monkeypatch.setattr(_small, "SENTENCES", 300)
    monkeypatch.setattr(_small, "HELD_OUT", 50)
    monkeypatch.setattr(transfer, "EXAMPLES", 100)
    monkeypatch.setattr(transfer, "ASKED", 20)
    monkeypatch.setattr(distance, "ITEMS", 40)
    monkeypatch.setattr(parallel, "TOKENS", 1024)
    _small.text.cache_clear()
    claim = claims.run(name, steps=12, quiet=True)
    _small.text.cache_clear()
    assert len(claim.rows) >= 2
    assert all(len(row) == len(claim.header) for row in claim.rows)
    assert all("<polyline" in svg for svg in claim.drawings.values())
    assert claim._repr_html_() in claim.html()


def test_without_residuals_the_layer_is_another_one():
    model = _small.small("gpt", 50, 0, {}, context=8)
    x = torch.randn(5, 64)
    identity = lambda attend, inner: inner  # noqa: E731
    before = model.layers[0](x, identity)
    parts.VARIANTS["no residuals"](model)
    after = model.layers[0](x, identity)
    layer = model.layers[0]
    torch.testing.assert_close(after, layer.feed_forward_norm(layer.feed_forward(layer.attention_norm(x))))
    assert not torch.allclose(before, after)


def test_an_unknown_claim_is_refused():
    refused(vocablo("claim", "orders"), "orders", "order")
