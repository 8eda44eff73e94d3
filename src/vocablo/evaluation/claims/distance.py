"""Dependence at a distance: how often each family prefers the form that agrees with a word further back.

"Los token no tienen interacción directa, a medida que se alejan la relación se desvanece": an n-gram sees n - 1 words, a
recurrent network passes what it knows through every word between, attention looks straight at the word.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocablo.base.random import seed_for
from vocablo.contract import Hidden, Tokens
from vocablo.data.grammar import Grammar
from vocablo.evaluation.agreement import agreement
from vocablo.evaluation.claims._small import WIDTH, Outcome, causal_pretext, held_out, learn, small, text
from vocablo.models import ngram, rnn
from vocablo.nn.attention import Look, attention
from vocablo.views.svg import Series, curves

ABOUT = "agreement with a word further back: 5-gram, RNN, LSTM, LSTM with attention, Transformer"
STEPS = 1500

ITEMS, CONTEXT = 2_000, 32
RATES = (5e-3, 2e-3)  # of recurrent networks, of the Transformer


class AttentiveLSTM(nn.Module):
    """An LSTM whose every prediction also looks at all of its own earlier states (dot products, as in Luong et al. 2015)."""

    reads, carries, context = "left", False, None

    def __init__(self, lstm: Any) -> None:
        super().__init__()
        self.lstm, self.vocab = lstm, lstm.vocab
        self.mix = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, tokens: Tokens, source: Any = None, state: Any = None, keep: tuple[int, ...] = ()) -> Hidden:
        h = self.lstm(tokens).states
        one = h.unsqueeze(1)
        seen = attention(one, one, one, tokens.fences, tokens.fences, Look(causal=True), scale=WIDTH**-0.5)
        return Hidden(torch.tanh(self.mix(torch.cat([h, seen.flatten(1)], 1))))

    def target_log_probs(self, states: Tensor, at: Int[Tensor, "M"], ids: Int[Tensor, "M"]) -> Float[Tensor, "M"]:
        return self.lstm.target_log_probs(states, at, ids)


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """Every family on the same text, then minimal pairs of the grammar by distance."""
    tokenizer, store, unseen = text(seed)
    items, end = Grammar().agreement(seed + 2, ITEMS), tokenizer.end_id
    assert end is not None
    pretext = causal_pretext(store, seed, CONTEXT)
    rows, lines, labels = [], [], ()
    for name, make in FAMILIES.items():
        torch.manual_seed(seed_for(seed, "init"))
        model = make(tokenizer.size, seed)
        if isinstance(model, ngram.NGram):
            model.fit(store)
        else:
            learn(model, pretext, steps, seed, f"distance: {name}", quiet, lr=RATES[name == "Transformer"])
        found = agreement(model, end, tokenizer.id, items)
        labels = tuple(row.label for row in found)
        rows.append((name, f"{held_out(model, pretext, unseen):.3f}", *(f"{row.accuracy:.0%}" for row in found)))
        points = tuple((float(place), 100 * row.accuracy) for place, row in enumerate(found))
        lines.append(Series(name, points))
    marks = {float(place): label for place, label in enumerate(labels)}
    return (
        "Dependencias a largo plazo: what stands between a word and the one that agrees with it fades in a recurrent network; "
        "attention looks at it directly.",
        f"Minimal pairs of the grammar, {ITEMS:,}, by words from one to the other; a tie is wrong. Networks of 2 layers, {WIDTH} "
        f"wide, {steps:,} steps of 32 x {CONTEXT} words at {RATES[0]:g} (the Transformer {RATES[1]:g}); the loss is of unseen sentences, nats a word.",
        ("family", "held-out loss", *(f"{label} words" for label in labels)),
        rows,
        {"Agreement by distance": curves(lines, x="words from one to the other", y="% right", marks=marks)},
    )


def _recurrent(family: str, vocab: int) -> Any:
    changes = {"embed": {"width": WIDTH}, "stack": {"layers": 2, "width": WIDTH}}
    return rnn.build(rnn.config_for(family, "tiny", vocab, CONTEXT, changes))


FAMILIES: dict[str, Any] = {
    "5-gram": lambda vocab, seed: ngram.build(ngram.config_for("ngram", "base", vocab, CONTEXT, {"order": 5})),
    "RNN": lambda vocab, seed: _recurrent("rnn", vocab),
    "LSTM": lambda vocab, seed: _recurrent("lstm", vocab),
    "LSTM with attention": lambda vocab, seed: AttentiveLSTM(_recurrent("lstm", vocab)),
    "Transformer": lambda vocab, seed: small("gpt", vocab, seed, {}, context=64),
}
