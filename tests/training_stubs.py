"""Small stand-ins for a store and for families, so that the loop is tested apart from the models."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from vocablo.contract import Hidden
from vocablo.pretexts import causal

END = 0


@dataclass
class StubStore:
    tokens: np.ndarray
    documents: np.ndarray
    end_id: int = END

    @classmethod
    def of(cls, documents):
        flat = [token for document in documents for token in [*document, END]]
        starts = np.cumsum([0, *[len(document) + 1 for document in documents]])
        return cls(np.array(flat, dtype=np.uint16), starts.astype(np.int64))

    @classmethod
    def random(cls, documents=40, vocab=11, seed=0, longest=12):
        rng = np.random.default_rng(seed)
        return cls.of([rng.integers(1, vocab, rng.integers(1, longest)).tolist() for _ in range(documents)])


class Bag(nn.Module):
    """Predicts the next token from the present one only."""

    reads, context, carries = "left", None, False

    def __init__(self, vocab=11, width=8, dropout=0.0, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.vocab = vocab
        self.embed = nn.Embedding(vocab, width)
        self.norm = nn.LayerNorm(width)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens, source=None, state=None, keep=()):
        return Hidden(self.drop(self.norm(self.embed(tokens.ids))))

    def logits(self, states):
        return self.head(states)

    def target_log_probs(self, states, at, ids):
        return self.logits(states[at]).log_softmax(-1).gather(1, ids[:, None])[:, 0]


@dataclass
class Memory:
    """A carried state in a shape of its own."""

    parts: tuple[torch.Tensor, ...]


class Recurrent(Bag):
    """An Elman network, one sequence at a time; its state goes on from batch to batch."""

    carries = True

    def __init__(self, vocab=11, width=8, dropout=0.0, seed=0):
        super().__init__(vocab, width, dropout, seed)
        self.cell = nn.RNNCell(width, width)

    def forward(self, tokens, source=None, state=None, keep=()):
        width = self.norm.normalized_shape[0]
        starts = tokens.fences.starts()
        states, last = [], []
        for row, (begin, end) in enumerate(pairwise(starts)):
            hidden = (
                torch.zeros(1, width, dtype=self.embed.weight.dtype) if state is None else state.parts[0][row : row + 1]
            )
            for position in range(begin, end):
                hidden = self.cell(self.embed(tokens.ids[position : position + 1]), hidden)
                states.append(hidden)
            last.append(hidden)
        return Hidden(self.drop(self.norm(torch.cat(states))), state=Memory((torch.cat(last),)))


def pretext(store, order="shuffled", *, seed=0, batch=8, micro=None, context=8):
    return causal.Pretext(store, causal.Config(order=order), seed=seed, batch=batch, micro=micro, context=context)
