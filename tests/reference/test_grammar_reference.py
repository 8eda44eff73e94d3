"""The grammar's exact probabilities against other ways to find them: derivation by derivation, by counting, by entropy."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from vocablo.data.grammar import END, START, Grammar, split
from vocablo.data.grammar_rules import MARKS
from vocablo.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def grammar():
    return Grammar()


def by_derivations(grammar, prefix):
    """p(prefix, w) for every w, by writing out every leftmost derivation that agrees with the prefix."""
    totals: Counter[str] = Counter()

    def expand(stack, read, weight):
        while stack and stack[0] in MARKS:
            stack = stack[1:]
        if not stack:
            if read == len(prefix):
                totals[END] += weight
            return
        top, *below = stack
        if not isinstance(top, str):
            for share, body in grammar.productions[top]:
                expand([*body, *below], read, weight * share)
        elif read == len(prefix):
            totals[top] += weight
        elif top == prefix[read]:
            expand(below, read + 1, weight)

    expand([START], 0, 1.0)
    return totals


@pytest.mark.parametrize("text", ["", "El", "¿", "Las cantantes", "Me senté en el banco", "La cura", "A los", "Tanto"])
def test_next_word_equals_the_sum_over_derivations(grammar, text):
    totals = by_derivations(grammar, split(text))
    mass = sum(totals.values())
    after = grammar.next_word(split(text))
    assert set(after) == set(totals)
    for word, total in totals.items():
        assert after[word] == pytest.approx(total / mass, rel=1e-9)


@pytest.fixture(scope="module")
def drawn(grammar):
    rng = np.random.default_rng(5)
    return [(*grammar.sample(rng), END) for _ in range(20_000)]


@pytest.mark.parametrize("prefix", [(), ("El",), ("¿",), ("Saqué", "dinero", "del", "banco")])
def test_next_word_equals_frequencies(grammar, drawn, prefix):
    seen = Counter(words[len(prefix)] for words in drawn if words[: len(prefix)] == prefix)
    n = sum(seen.values())
    assert n >= 50
    for word, prob in grammar.next_word(prefix).items():
        deviation = math.sqrt(prob * (1 - prob) / n)
        assert abs(seen[word] / n - prob) <= 5 * deviation + 1 / n, word


def test_every_rule_and_table_is_a_distribution(grammar):
    assert len(grammar.words) > 1000  # finding the words visits every symbol
    for symbol, options in grammar.productions.ground.items():
        assert not options or sum(weight for weight, _ in options) == pytest.approx(1, abs=1e-12), symbol


def test_every_state_is_a_distribution(grammar):
    """A state is a stack; what may follow is mixed from its symbols' beginnings, so these must each sum to one."""
    assert len(grammar.words) > 1000
    for symbol in [symbol for symbol, options in grammar.productions.ground.items() if options]:
        begin = grammar._begin(symbol)
        assert sum(begin.probs.values()) + begin.nothing == pytest.approx(1, abs=1e-12), symbol


def test_log_probs_average_to_the_entropy(grammar):
    """E[-log p(w)] = E[H(next word)]: their difference is a sum of terms of mean zero, so the tolerance is computed."""
    gaps = []
    for index in range(120):
        words = grammar.sentence(13, index)
        matrix = grammar.next_matrix(words)
        logs = np.log(matrix, out=np.zeros_like(matrix), where=matrix > 0)
        gaps.append(-grammar.log_prob(words) + float((matrix * logs).sum()))
    assert abs(np.mean(gaps)) < 4.5 * np.std(gaps) / math.sqrt(len(gaps))


def test_drawing_by_rules_and_by_states_is_the_same(grammar):
    rng = np.random.default_rng(2)
    exact = [-grammar.log_prob(grammar.sample(rng)) for _ in range(1500)]
    derived = [-grammar.log_prob([word for word in grammar._derive(rng) if word not in MARKS]) for _ in range(1500)]
    error = math.sqrt(np.var(exact) / len(exact) + np.var(derived) / len(derived))
    assert abs(np.mean(exact) - np.mean(derived)) < 5 * error


def test_a_word_tokenizer_sees_the_terminals(grammar):
    lines = list(grammar.text(seed=1, sentences=3000))
    tokenizer = Tokenizer.train("word", [*lines, " ".join(grammar.words)])
    assert set(grammar.words) <= {tokenizer.surface(i).strip() for i in range(tokenizer.size)}
    for line in lines[:300]:
        assert [line[a:b] for a, b in tokenizer.encode(line).offsets] == split(line)


def test_a_five_gram_stays_far_above_the_optimum(grammar):
    """Its figure for a million words is bench/grammar_ceiling.py's to print; this holds the bench together."""
    path = Path(__file__).parents[2] / "bench" / "grammar_ceiling.py"
    spec = importlib.util.spec_from_file_location("grammar_ceiling", path)
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    ids = {word: i for i, word in enumerate((END, *grammar.words))}
    corpus, held_out = (
        [[ids[word] for word in grammar.sentence(seed, i)] for i in range(count)]
        for seed, count in ((0, 6000), (1, 400))
    )
    model = bench.KneserNey(corpus, 5, len(ids))
    perplexity = math.exp(-model.log_probs(held_out).mean())
    optimum = grammar.perplexity(grammar.sentence(1, i) for i in range(400))
    assert optimum * 1.15 < perplexity < len(ids) / 10
    history = held_out[0][:3]
    total = sum(math.exp(model.log_probs([[*history, word] if word else history])[3]) for word in range(len(ids)))
    assert total == pytest.approx(1, abs=1e-9)
