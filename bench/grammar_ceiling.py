"""How far a Kneser-Ney n-gram stays above the best possible perplexity on the embedded grammar.

    python bench/grammar_ceiling.py [--words 300000 1000000] [--orders 3 5] [--samples 10]

The n-gram here is a small one of its own (interpolated modified Kneser-Ney, Chen & Goodman 1999, in numpy), so that the
figure doesn't depend on the product's; contexts don't cross sentences, and every sentence's ``<end>`` is counted.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence

import numpy as np

from vocablo.data.grammar import END, Grammar, render, split

BITS = 12  # a word id fits, so five of them fit an int64


class KneserNey:
    """Interpolated modified Kneser-Ney over documents of word ids; id 0 is ``<end>``."""

    def __init__(self, documents: Sequence[Sequence[int]], order: int, vocab: int) -> None:
        if order * BITS > 63 or vocab >= 1 << BITS:
            raise ValueError("order or vocabulary too large for 64-bit keys")
        self.order, self.vocab = order, vocab
        self.levels = []
        keys, counts = np.unique(windows(documents, order), return_counts=True)
        for length in range(order, 0, -1):
            self.levels.append(self._level(keys, counts))
            if length == 1:
                break
            shorter, raw = np.unique(windows(documents, length - 1), return_counts=True)
            inner, distinct = np.unique(keys & ((1 << BITS * (length - 1)) - 1), return_counts=True)
            at = np.searchsorted(shorter, inner)
            counts = raw.copy()  # n-grams that start a document have no left neighbour: they keep their counts
            starts = (shorter >> BITS * (length - 2)) == 0 if length > 2 else np.zeros(len(shorter), bool)
            counts[at] = np.where(starts[at], raw[at], distinct)
            keys = shorter
        self.levels.reverse()

    def _level(self, keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, ...]:
        n1, n2, n3, n4 = (max(int((counts == i).sum()), 1) for i in (1, 2, 3, 4))
        y = n1 / (n1 + 2 * n2)
        discounts = np.array([0, 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3])
        taken = np.clip(discounts, 0.05, None)[np.minimum(counts, 3)]
        taken = np.minimum(taken, counts)
        contexts, at = np.unique(keys >> BITS, return_inverse=True)
        total = np.bincount(at, counts)
        return keys, counts - taken, contexts, total, np.bincount(at, taken) / total

    def log_probs(self, documents: Sequence[Sequence[int]]) -> np.ndarray:
        """log p of every word and ``<end>`` of the documents, in nats."""
        prob = None
        for length, (keys, kept, contexts, total, share) in enumerate(self.levels, 1):
            asked = windows(documents, length, short=True)
            if prob is None:
                prob = np.full(len(asked), 1 / self.vocab)
            valid = asked >= 0
            context = asked >> BITS
            at = np.minimum(np.searchsorted(contexts, context), len(contexts) - 1)
            known = valid & (contexts[at] == context)
            place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
            own = np.where(keys[place] == asked, kept[place], 0.0)
            prob = np.where(known, own / total[at] + share[at] * prob, prob)
        return np.log(prob)


def windows(documents: Sequence[Sequence[int]], length: int, short: bool = False) -> np.ndarray:
    """Keys of all n-grams that end in a predicted word (``<end>`` first in the history); short ones -1 or left out."""
    flat = np.array([i for document in documents for i in (0, *document, 0)], dtype=np.int64)
    place = np.concatenate([np.arange(len(document) + 2) for document in documents])
    keys = np.zeros(len(flat), dtype=np.int64)
    for back in range(length):
        keys[back:] |= flat[: len(flat) - back] << (BITS * back)
    keys = np.where(place >= length - 1, keys, -1)[place > 0]
    return keys if short else keys[keys >= 0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", type=int, nargs="+", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--orders", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--held-out", type=int, default=50_000)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    started = time.perf_counter()
    grammar = Grammar()
    ids = {word: i for i, word in enumerate((END, *grammar.words))}
    held_out = [split(line) for line in grammar.generate(options.seed + 1, options.held_out)]
    optimum = grammar.perplexity(held_out)
    lengths = [len(words) for words in held_out]
    print(
        f"word forms {grammar.size}, optimum perplexity {optimum:.3f} on {sum(lengths) + len(lengths)} held-out words"
    )
    print(f"mean sentence {np.mean(lengths):.1f} words, longest {max(lengths)}; {time.perf_counter() - started:.0f} s")
    for line in held_out[: options.samples]:
        print("   ", render(line))

    encoded = [[ids[word] for word in words] for words in held_out]
    corpus = [[ids[word] for word in split(line)] for line in grammar.generate(options.seed, max(options.words))]
    sums = np.cumsum([len(document) for document in corpus])
    rows = []
    for size in options.words:
        part = corpus[: int(np.searchsorted(sums, size)) + 1]
        for order in options.orders:
            logs = KneserNey(part, order, len(ids)).log_probs(encoded)
            perplexity = math.exp(-logs.mean())
            rows.append({"words": size, "order": order, "perplexity": perplexity, "ratio": perplexity / optimum})
            print(f"{size:>9} words  {order}-gram  perplexity {perplexity:7.3f}  {perplexity / optimum:.3f} x optimum")
    print(json.dumps({"optimum": optimum, "word_forms": grammar.size, "ngrams": rows}))


if __name__ == "__main__":
    main()
