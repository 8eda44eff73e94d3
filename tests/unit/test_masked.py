"""Masked batches: every token read once, the right things hidden in the right shares, the same for every split."""

import math
from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator, uniforms
from vocablo.data.store import Store
from vocablo.pretexts import masked
from vocablo.pretexts._masking import Masking, MaskSettings
from vocablo.text.tokenizer import Tokenizer

WORDS = [
    "el",
    "la",
    "gato",
    "gata",
    "come",
    "pan",
    "queso",
    "mira",
    "luna",
    "noche",
    "cantó",
    "ñandú",
    "perro",
    "camina",
    "despacio",
    "contento",
]


def corpus(documents=30, seed=0):
    rng = np.random.default_rng(seed)
    sentence = lambda: " ".join(rng.choice(WORDS, rng.integers(2, 9))).capitalize() + rng.choice([".", "?", "!"])  # noqa: E731
    return [" ".join(sentence() for _ in range(rng.integers(1, 8))) for _ in range(documents)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train("wordpiece", corpus(), vocab=60)


@pytest.fixture(scope="module")
def store(tokenizer):
    return Store.from_documents(["", *corpus()], tokenizer)


def make(store, tokenizer, *, seed=0, batch=8, micro=None, context=16, **settings):
    chosen = masked.Config(**settings)
    return masked.Pretext(store, chosen, tokenizer=tokenizer, seed=seed, batch=batch, micro=micro, context=context)


def rows_of(batches):
    """Of every sequence: what is read, and what it was before it was masked."""
    found = []
    for batch in batches:
        target, tokens = batch.targets["masked"], batch.tokens
        assert target.count == len(target.at) == len(target.value)
        whole = tokens.ids.clone()
        whole[target.at] = target.value
        positions = [place for length in tokens.fences.lengths for place in range(length)]
        assert tokens.positions.tolist() == positions
        for a, b in pairwise(tokens.fences.starts()):
            found.append((tokens.ids[a:b].tolist(), whole[a:b].tolist()))
    return found


def epoch(cut, number=0, world=1):
    per = cut.steps_per_epoch
    steps = range(number * per, (number + 1) * per)
    return rows_of([batch for step in steps for rank in range(world) for batch in cut.micro_batches(step, rank, world)])


def test_documents_and_sentences_are_read_whole_and_framed(store, tokenizer):
    texts = corpus()
    cls, sep = tokenizer.cls_id, tokenizer.sep_id
    for order, parts in (("documents", texts), ("sentences", [part for text in texts for part in sentences(text)])):
        cut = make(store, tokenizer, order=order, context=300)
        expected = sorted([cls, *tokenizer.encode(part).ids, sep] for part in parts)
        for number in (0, 1):
            rows = epoch(cut, number)
            assert sorted(whole for _, whole in rows) == expected
            assert sum(len(whole) for _, whole in rows) == cut.tokens


def sentences(text):
    marks = [place for place, letter in enumerate(text) if letter in ".?!"]
    return [text[a:b].strip() for a, b in pairwise([0, *[mark + 1 for mark in marks]])]


def test_blocks_hold_every_token_of_the_stream_once(store, tokenizer):
    cut = make(store, tokenizer)
    for number in range(2):
        rows = epoch(cut, number)
        assert {(row[0], row[-1]) for _, row in rows} == {(tokenizer.cls_id, tokenizer.sep_id)}
        assert sum(len(row) < 16 for _, row in rows) <= 1
        assert sorted(token for _, row in rows for token in row[1:-1]) == sorted(store.tokens.tolist())
        ring = "".join(map(chr, [*store.tokens, *store.tokens]))
        assert all("".join(map(chr, row[1:-1])) in ring for _, row in rows)


@pytest.mark.parametrize("order", ["documents", "sentences"])
def test_longer_texts_are_cut_and_nothing_is_lost(order, store, tokenizer):
    rows = [row for _, row in epoch(make(store, tokenizer, order=order, context=7))]
    assert max(map(len, rows)) == 7
    assert sum(len(row) - 2 for row in rows) == len(store) - 31  # all but the boundaries of 31 documents


@pytest.mark.parametrize("settings", [{}, {"whole_words": True}, {"order": "sentences"}])
def test_a_step_is_the_same_however_it_is_split(settings, store, tokenizer):
    whole = [list(epoch(make(store, tokenizer, **settings), number)) for number in range(2)]
    for micro, world in ((1, 1), (3, 1), (2, 2), (8, 3), (1, 5)):
        cut = make(store, tokenizer, micro=micro, **settings)
        assert [list(epoch(cut, number, world)) for number in range(2)] == whole


def test_masks_are_new_each_epoch_and_a_pure_function(store, tokenizer):
    cut = make(store, tokenizer, order="documents", context=300)
    first, second = ({tuple(row): tuple(shown) for shown, row in epoch(cut, number)} for number in range(2))
    assert first.keys() == second.keys()
    differ = sum(first[row] != second[row] for row in first if len(row) > 12)
    assert differ > 0.8 * sum(len(row) > 12 for row in first)
    again = make(store, tokenizer, order="documents", context=300)
    step = cut.steps_per_epoch + 1
    assert rows_of(again.micro_batches(step)) == rows_of(cut.micro_batches(step)), "steps don't depend on earlier ones"
    assert rows_of(make(store, tokenizer, seed=1).micro_batches(0)) != rows_of(make(store, tokenizer).micro_batches(0))


def test_validation_is_whole_and_the_same_for_every_seed_and_split(store, tokenizer):
    held_out = store.part(3, 20)
    reference = rows_of(make(store, tokenizer, order="documents", context=300, micro=100).validation(held_out))
    assert len(reference) == 17
    for seed, micro, world in ((5, 100, 1), (0, 3, 1), (0, 4, 3)):
        cut = make(store, tokenizer, order="documents", context=300, seed=seed, micro=micro)
        parts = [rows_of(cut.validation(held_out, rank, world)) for rank in range(world)]
        assert sorted(row for part in parts for row in part) == sorted(reference)
    assert (
        len(rows_of(make(store, tokenizer, order="documents", context=300, micro=3).validation(held_out, batches=2)))
        == 6
    )


def masking(tokenizer, **settings):
    return Masking(MaskSettings(**settings), tokenizer)


def drawn(tokenizer, size=400_000, seed=0, **settings):
    """Much masked at once: ids, what is shown, which are targets."""
    from vocablo.pretexts._rows import Flat

    ids = np.random.default_rng(9).integers(0, tokenizer.size, size)
    flat = Flat(ids, np.zeros(size, dtype=np.int64), None, np.full(size // 100, 100))
    found = masking(tokenizer, **settings)(flat, 0, seed, "test")
    chosen = np.zeros(size, dtype=bool)
    chosen[found.at] = True
    assert (ids[found.at] == found.value).all()
    assert (found.ids[~chosen] == ids[~chosen]).all()
    return ids, found.ids, chosen


@pytest.mark.parametrize(
    ("mask", "random"), [(0.8, 0.1), (1.0, 0.0), (0.8, 0.0), (0.8, 0.2), (0.0, 0.2), (0.0, 1.0)], ids=str
)
def test_the_80_10_10_rule(mask, random, tokenizer):
    """The rows of BERT's table 8, each share within five standard deviations of the binomial law.

    Of a correct program, five two-sided tests at 5 sigma (5.7e-7 each) fail for one seed in 350,000; the seed here is
    fixed, so it doesn't flake. A share that is wrong by 0.02 is noticed with near certainty: 5 sigma are 0.003 of the
    chosen (and less of all tokens).
    """
    ids, shown, chosen = drawn(tokenizer, mask=mask, random=random)
    special = np.isin(ids, list(tokenizer.special_ids))
    assert not chosen[special].any(), "special tokens are never chosen"
    n, m = int((~special).sum()), int(chosen.sum())

    def holds(count, of, share):
        assert abs(count - of * share) <= 5 * math.sqrt(of * share * (1 - share)) + 1e-9, (count / of, share)

    masked_ = shown[chosen] == tokenizer.mask_id
    other = ~masked_ & (shown[chosen] != ids[chosen])
    plain = tokenizer.size - len(tokenizer.special_ids)
    holds(m, n, 0.15)
    holds(int(masked_.sum()), m, mask)
    holds(int(other.sum()), m, random * (1 - 1 / plain))  # a random token may be the token itself
    half = len(ids) // 2
    holds(int(chosen[:half].sum()), int((~special[:half]).sum()), 0.15)
    holds(int((chosen[1:] & chosen[:-1]).sum()), int((~special[1:] & ~special[:-1]).sum()), 0.15**2)
    if random:
        counts = np.bincount(shown[chosen][other], minlength=tokenizer.size)
        assert not counts[list(tokenizer.special_ids)].any(), "no special token is drawn at random"
        expected = counts.sum() / plain
        chi = ((counts[counts > 0] - expected) ** 2 / expected).sum()
        assert (counts > 0).sum() == plain
        assert chi < plain + 6 * math.sqrt(2 * plain), "every plain token is drawn equally often"


def test_whole_words_are_hidden_together(tokenizer):
    ids, shown, chosen = drawn(tokenizer, whole_words=True, mask=1, random=0)
    special = np.isin(ids, list(tokenizer.special_ids))
    goes_on = np.array([name.startswith("##") for name in tokenizer.vocabulary])[ids]
    inside = np.flatnonzero(goes_on[1:] & ~special[:-1]) + 1
    inside = inside[inside % 100 != 0]  # a sequence begins a word
    assert len(inside) > 10_000
    assert (chosen[inside] == chosen[inside - 1]).all()
    assert (shown[chosen] == tokenizer.mask_id).all()
    assert abs(chosen.sum() / (~special).sum() - 0.15) < 0.01
    edges = np.arange(100, len(ids), 100)
    edges = edges[goes_on[edges] & ~special[edges - 1]]
    assert (chosen[edges] != chosen[edges - 1]).any(), "words don't reach from one sequence into another"


def test_any_piece_of_a_stream_of_numbers_is_had_alone():
    whole = generator(7, "a", 3).random(1000)
    for start, count in ((0, 1000), (1, 5), (3, 9), (400, 600), (997, 3)):
        assert (uniforms(start, count, 7, "a", 3) == whole[start : start + count]).all()


@pytest.mark.parametrize(("mask", "random"), [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.5, 0.2)])
def test_the_blind_loss_is_that_of_the_best_blind_predictor(mask, random, tokenizer):
    """Against the whole table of joint probabilities, summed by hand."""
    rng = np.random.default_rng(1)
    tokens = rng.choice(tokenizer.size, 5000, p=rng.dirichlet(np.full(tokenizer.size, 0.3))).astype(np.uint16)
    found = masking(tokenizer, mask=mask, random=random).blind_loss(tokens)
    plain = [index for index in range(tokenizer.size) if index not in tokenizer.special_ids]
    p = np.bincount(tokens, minlength=tokenizer.size)[plain].astype(float)
    p /= p.sum()
    seen = np.concatenate([np.diag(p) * (1 - mask - random) + random * p[None, :] / len(p), mask * p[None, :]])
    given = seen / np.maximum(seen.sum(axis=1, keepdims=True), 1e-300)
    assert found == pytest.approx(-(seen * np.log(np.maximum(given, 1e-300))).sum(), abs=1e-9)


def test_what_can_not_be_is_refused(store, tokenizer):
    with pytest.raises(ValidationError, match="at most 1 together"):
        MaskSettings(mask=0.9, random=0.2)
    with pytest.raises(ConfigError, match="no cls and sep"):
        make(store, Tokenizer.train("bpe", corpus(), vocab=280))
    with pytest.raises(ConfigError, match="no mask token"):
        make(store, Tokenizer.train("wordpiece", corpus(), vocab=60, specials={"mask": None}))
    with pytest.raises(ConfigError, match="no room"):
        make(store, tokenizer, context=2)
    with pytest.raises(DataError, match="fewer than one block of 9998"):
        make(store, tokenizer, context=10_000)
    with pytest.raises(DataError, match="no tokens"):
        make(Store.from_documents(["", ""], tokenizer), tokenizer, order="documents")
