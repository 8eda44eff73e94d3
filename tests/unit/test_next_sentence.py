"""Pairs of passages: drawn from whole sentences, nothing of a document lost, labels and lengths in the right shares."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.data.store import Store
from vocablo.models import transformer
from vocablo.pretexts import _pairs, next_sentence
from vocablo.pretexts._pairs import Pairs
from vocablo.pretexts._rows import Sentences
from vocablo.text.tokenizer import Tokenizer


def numbered(sizes):
    """Documents given by the lengths of their sentences, as they lie in a store, a boundary behind each."""
    starts, stops, first, end, place = [], [], [], [], 0
    for document in sizes:
        first.append(len(starts))
        for size in document:
            starts.append(place)
            place += size
            stops.append(place)
        end.append(len(starts))
        place += 1
    return Sentences(*(np.array(item, dtype=np.int64) for item in (starts, stops, first, end)))


def document_of(sentences, places):
    return np.searchsorted(sentences.starts[sentences.first], places, side="right") - 1


documents = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=2, max_size=6)


@settings(max_examples=150, deadline=None)
@given(sizes=documents, room=st.integers(2, 30), short=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 9))
def test_a_document_is_read_once_and_b_is_as_its_label_says(sizes, room, short, seed):
    """Untruncated, A and the Bs that follow them are all sentences of all documents, each once and whole."""
    sentences = numbered(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pairs, "_truncated", lambda pairs, rng, room: pairs)
        pairs = _pairs.next_sentence(sentences, generator(seed, "x"), room, short)
    read = []
    for a, size, b, b_size, label in zip(pairs.a, pairs.a_size, pairs.b, pairs.b_size, pairs.label, strict=True):
        borders = {*sentences.starts.tolist()}, {*sentences.stops.tolist()}
        assert {a, b} <= borders[0]
        assert {a + size, b + b_size} <= borders[1]
        read += range(a, a + size)
        here, there = document_of(sentences, np.array([a, b]))
        if label:
            assert here != there
        else:
            assert b == a + size
            assert here == there
            read += range(b, b + b_size)
    every = [place for a, b in zip(sentences.starts, sentences.stops, strict=True) for place in range(a, b)]
    assert sorted(read) == every
    assert (pairs.a_size + pairs.b_size <= room + 2 * 9).all(), "sentences are gathered only until there are enough"


@settings(max_examples=150, deadline=None)
@given(sizes=documents, room=st.integers(2, 30), short=st.sampled_from([0.0, 0.5, 1.0]), seed=st.integers(0, 9))
def test_pairs_in_order_are_neighbours_swapped_or_not(sizes, room, short, seed):
    sentences = numbered(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pairs, "_truncated", lambda pairs, rng, room: pairs)
        pairs = _pairs.sentence_order(sentences, generator(seed, "x"), room, short)
    read = set()
    for a, size, b, b_size, label in zip(pairs.a, pairs.a_size, pairs.b, pairs.b_size, pairs.label, strict=True):
        assert (a == b + b_size) if label else (b == a + size)
        assert {a, b} <= {*sentences.starts.tolist()}
        assert {a + size, b + b_size} <= {*sentences.stops.tolist()}
        read |= {*range(a, a + size), *range(b, b + b_size)}
    several = sentences.end - sentences.first > 1
    assert read == {
        place
        for document in np.flatnonzero(several)
        for sentence in range(sentences.first[document], sentences.end[document])
        for place in range(sentences.starts[sentence], sentences.stops[sentence])
    }


@given(a=st.integers(1, 40), b=st.integers(1, 40), room=st.integers(2, 30))
def test_a_pair_is_cut_to_the_room_as_if_token_by_token(a, b, room):
    size, other = a, b
    while size + other > room:
        size, other = (size - 1, other) if size > other else (size, other - 1)
    one = Pairs(*(np.array([value]) for value in (100, a, 200, b, 0)))
    cut = _pairs._truncated(one, generator(0, "x"), room)
    assert (cut.a_size[0], cut.b_size[0]) == (size, other)
    assert 100 <= cut.a[0] <= 100 + a - size
    assert 200 <= cut.b[0] <= 200 + b - other


def test_shares_of_labels_lengths_and_cut_ends():
    """Half of the pairs don't follow, a tenth is shorter, and both ends are cut alike: each within five sigma.

    Of a correct program each of these fails for one seed in 1.7 million, and the seed is fixed.
    """
    rng = np.random.default_rng(0)
    sentences = numbered([rng.integers(3, 12, 2000).tolist() for _ in range(10)])
    pairs = _pairs.next_sentence(sentences, generator(3, "x"), 60, 0.1)
    n = len(pairs)
    assert n > 2000
    assert (pairs.a_size >= 1).all()
    assert (pairs.b_size >= 1).all()
    assert (pairs.a_size + pairs.b_size <= 60).all()

    alone = 0.1 * 7.5 / 58  # a target so small that one sentence reaches it gives a lone one; a bound, of 7.5 tokens
    assert abs(pairs.label.mean() - 0.5) < alone + 5 * math.sqrt(0.25 / n)
    smaller = int((pairs.a_size + pairs.b_size < 48).sum())
    assert 0.1 * 0.6 * n < smaller < 0.1 * n + 5 * math.sqrt(n * 0.09)
    long = Pairs(np.zeros(n, int), np.full(n, 80), np.zeros(n, int), np.full(n, 80), pairs.label)
    cut = _pairs._truncated(long, generator(3, "y"), 60)
    assert (cut.a_size == 30).all()
    assert abs(cut.a.mean() - 25) < 5 * math.sqrt(50 * 0.25 / n), "half of the 50 lost tokens are at the front"


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


def corpus(documents=25, seed=0, most=9):
    rng = np.random.default_rng(seed)
    sentence = lambda: " ".join(rng.choice(WORDS, rng.integers(2, 9))).capitalize() + "."  # noqa: E731
    return [" ".join(sentence() for _ in range(rng.integers(1, most))) for _ in range(documents)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train("wordpiece", corpus(), vocab=60)


@pytest.fixture(scope="module")
def store(tokenizer):
    return Store.from_documents(["", *corpus()], tokenizer)


def make(store, tokenizer, *, seed=0, batch=8, micro=None, context=32, **chosen):
    return next_sentence.Pretext(
        store, next_sentence.Config(**chosen), tokenizer=tokenizer, seed=seed, batch=batch, micro=micro, context=context
    )


def rows_of(batches):
    """Of every pair: what is read, what it was before, its segments and its label."""
    found = []
    for batch in batches:
        tokens, whole = batch.tokens, batch.tokens.ids.clone()
        if "masked" in batch.targets:
            whole[batch.targets["masked"].at] = batch.targets["masked"].value
        (label,) = (target for name, target in batch.targets.items() if name != "masked")
        assert label.at.tolist() == list(range(tokens.fences.count))
        for number, (a, b) in enumerate(pairwise(tokens.fences.starts())):
            shown = tokens.ids[a:b].tolist()
            found.append((shown, whole[a:b].tolist(), tokens.segments[a:b].tolist(), int(label.value[number])))
    return found


def epoch(cut, number=0, world=1):
    per = cut.steps_per_epoch
    steps = range(number * per, (number + 1) * per)
    return rows_of([batch for step in steps for rank in range(world) for batch in cut.micro_batches(step, rank, world)])


def test_pairs_are_framed_as_the_tokenizer_says(store, tokenizer):
    cut = make(store, tokenizer)
    assert cut.names == ("masked", "next_sentence")
    rows = epoch(cut)
    assert sum(len(whole) for _, whole, _, _ in rows) == cut.tokens
    text = "".join(map(chr, store.tokens))
    for shown, whole, segments, _ in rows:
        middle = whole.index(tokenizer.sep_id)
        assert (whole[0], whole[-1]) == (tokenizer.cls_id, tokenizer.sep_id)
        assert segments == [0] * (middle + 1) + [1] * (len(whole) - middle - 1)
        assert 5 <= len(whole) <= 32
        for part in (whole[1:middle], whole[middle + 1 : -1]):
            assert tokenizer.sep_id not in part
            assert "".join(map(chr, part)) in text
        hidden = [index for index in range(len(whole)) if shown[index] == tokenizer.mask_id]
        assert not {0, middle, len(whole) - 1} & {*hidden}
    assert 0 < sum(label for *_, label in rows) < len(rows)


@pytest.mark.parametrize("name", ["bert", "albert", "next_sentence"])
def test_a_step_is_the_same_however_it_is_split(name, store, tokenizer):
    whole = [list(epoch(make(store, tokenizer, name=name), number)) for number in range(3)]
    for micro, world in ((1, 1), (3, 1), (2, 2), (8, 3), (1, 5)):
        cut = make(store, tokenizer, name=name, micro=micro)
        assert [list(epoch(cut, number, world)) for number in range(3)] == whole
    assert whole[0] != whole[1] != whole[2]
    late = make(store, tokenizer, name=name)
    step = 2 * late.steps_per_epoch
    assert rows_of(late.micro_batches(step)) == whole[2][:8], "steps don't depend on earlier ones"


def test_validation_is_whole_and_the_same_for_every_seed_and_split(store, tokenizer):
    held_out = store.part(3, 20)
    reference = rows_of(make(store, tokenizer, micro=100).validation(held_out))
    for seed, micro, world in ((5, 100, 1), (0, 3, 1), (0, 4, 3)):
        cut = make(store, tokenizer, seed=seed, micro=micro)
        parts = [rows_of(cut.validation(held_out, rank, world)) for rank in range(world)]
        assert sorted(row for part in parts for row in part) == sorted(reference)


def model_for(tokenizer, **changes):
    torch.manual_seed(0)
    changes = {"stack": {"layers": 1, "width": 16}, "attention": {"heads": 2}} | changes
    return transformer.build(transformer.config_for("bert", "tiny", tokenizer.size, 32, changes)).eval()


def test_the_terms_are_their_definitions(store, tokenizer):
    cut = make(store, tokenizer)
    model = model_for(tokenizer)
    cut.attach(model, {})
    cut.check(model)
    (batch,) = cut.micro_batches(0)
    terms, state = cut.terms(model, batch, None)
    assert state is None
    hidden = model(batch.tokens)
    target = batch.targets["masked"]
    table = model.logits(hidden.states).log_softmax(-1)
    expected = -sum(table[at, value] for at, value in zip(target.at, target.value, strict=True))
    torch.testing.assert_close(terms["masked"].total, expected)
    assert terms["masked"].count == len(target.at)
    pooled = torch.stack([hidden.pooled[row] for row in range(8)])
    logits = pooled @ cut.modules()["next_sentence"].weight.T
    labels = batch.targets["next_sentence"].value
    torch.testing.assert_close(terms["next_sentence"].total, -logits.log_softmax(1)[range(8), labels].sum())
    assert int(terms["next_sentence"].correct) == int((logits.argmax(1) == labels).sum())


def test_a_head_at_hand_is_taken_over(store, tokenizer):
    cut = make(store, tokenizer, name="next_sentence")
    assert cut.names == ("next_sentence",)
    head = torch.nn.Linear(16, 2)
    cut.attach(model_for(tokenizer), {"next_sentence": head, "other": torch.nn.Linear(3, 3)})
    assert list(cut.modules()) == ["next_sentence"]
    assert cut.modules()["next_sentence"] is head


def test_what_can_not_be_is_refused(store, tokenizer):
    with pytest.raises(DataError, match=r"documents of one sentence.*--documents"):
        make(Store.from_documents(["El gato come.", "La luna."], tokenizer), tokenizer)
    one = Store.from_documents(["El gato come. La luna."], tokenizer)
    with pytest.raises(DataError, match=r"is one document.*more documents"):
        make(one, tokenizer)
    assert len(epoch(make(one, tokenizer, name="albert"))) == 1
    with pytest.raises(DataError, match="held-out text is one document"):
        next(make(store, tokenizer).validation(one))
    with pytest.raises(ConfigError, match="no room for two"):
        make(store, tokenizer, context=4)
    cut = make(store, tokenizer)
    for changes, words in (
        ({"pooler": False}, "needs a model with a pooler"),
        ({"head": None}, "no output layer"),
        ({"embed": {"segments": 1}}, "model.embed.segments=2"),
    ):
        with pytest.raises(ConfigError, match=words):
            cut.check(model_for(tokenizer, **changes))
    cut.check(model_for(tokenizer, embed={"segments": 0}))
    with pytest.raises(ConfigError, match="at most 32"):
        make(store, tokenizer, context=33).check(model_for(tokenizer))
