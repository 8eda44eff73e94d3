"""The loop learns: it memorises a few sequences, and beats what needs no learning."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training_stubs import StubStore, pretext
from vocablo.contract import Hidden
from vocablo.training.run import RunFolder
from vocablo.training.settings import TrainSettings
from vocablo.training.train import train
from vocablo.training.watchers import Evaluate


class Lstm(nn.Module):
    """The smallest recurrent model that the loop can carry: an embedding, an LSTM, a linear layer."""

    reads, context, carries = "left", None, True

    def __init__(self, vocab, width):
        super().__init__()
        torch.manual_seed(0)
        self.vocab = vocab
        self.embed = nn.Embedding(vocab, width)
        self.cell = nn.LSTM(width, width, batch_first=True)
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens, source=None, state=None, keep=()):
        sizes = tokens.fences.lengths
        embedded = self.embed(tokens.ids)
        if tokens.fences.equal:
            states, after = self.cell(embedded.view(len(sizes), sizes[0], -1), state)
            return Hidden(states.reshape(len(tokens.ids), -1), state=after)
        packed = nn.utils.rnn.pack_sequence(embedded.split(sizes), enforce_sorted=False)
        states, after = self.cell(packed, state)
        return Hidden(torch.cat(nn.utils.rnn.unpack_sequence(states)), state=after)

    def target_log_probs(self, states, at, ids):
        return -F.cross_entropy(self.head(states[at]), ids, reduction="none")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_it_memorises_32_sequences(tmp_path):
    """Sequences that begin with a token of their own can be known by heart but for that token."""
    rng = np.random.default_rng(0)
    store = StubStore.of([[first, *rng.integers(1, 40, 7)] for first in range(1, 33)])
    settings = TrainSettings(steps=150, batch=32, lr=0.02, weight_decay=0.0, save_every=150)
    cut = pretext(store, "documents", batch=32, context=9)
    result = train(Lstm(40, 48), cut, settings, RunFolder.create(tmp_path, {}), [])
    best_possible = np.log(32) / 9  # nats a token: only the first of nine can't be known
    assert result.loss < best_possible + 0.05


@pytest.mark.parametrize("order", ["shuffled", "carried", "documents"])
def test_it_beats_the_unigram_model_on_held_out_text(tmp_path, order):
    """Text of a Markov chain, whose unigram and true entropies are known."""
    rng = np.random.default_rng(1)
    moves = rng.dirichlet(np.full(12, 0.2), 12)

    def document():
        token, found = 0, []
        while len(found) < 30 and (token := int(rng.choice(12, p=moves[token]))):
            found.append(token)
        return found

    store, held_out = StubStore.of([document() for _ in range(400)]), StubStore.of([document() for _ in range(80)])
    counts = np.bincount(store.tokens, minlength=12) + 1.0
    unigram = -np.log(counts / counts.sum())[held_out.tokens].mean()
    before = np.concatenate([[0], held_out.tokens[:-1]]).astype(int)
    pairs = np.full((12, 12), 1e-3)
    np.add.at(pairs, (before, held_out.tokens.astype(int)), 1)
    floor = -np.log(pairs / pairs.sum(1, keepdims=True))[before, held_out.tokens.astype(int)].mean()
    settings = TrainSettings(steps=150, batch=16, lr=0.02, evaluate_every=50)
    cut = pretext(store, order, batch=16, context=16)
    result = train(Lstm(12, 24), cut, settings, RunFolder.create(tmp_path, {}), [Evaluate(held_out, 50)])
    assert floor - 0.01 < result.best.loss < floor + 0.5 * (unigram - floor)
