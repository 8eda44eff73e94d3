"""Causal batches: every token a target exactly once, after the right token, in every order and for every split."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from training_stubs import END, Bag, Recurrent, StubStore, pretext
from vocablo.base.errors import ConfigError, DataError

ORDERS = ("shuffled", "carried", "documents")


def numbered(sizes):
    """A store whose tokens are all different but for the boundary, so that a token says where it stands."""
    labels = iter(range(1, 10_000))
    return StubStore.of([[next(labels) for _ in range(size)] for size in sizes])


def pairs_of(batches):
    """(input, target) of every target, and the sequences' lengths."""
    found, lengths = [], []
    for batch in batches:
        target = batch.targets["causal"]
        assert target.count == len(target.value) == batch.tokens.fences.total
        inputs = batch.tokens.ids[target.at]
        found += list(zip(inputs.tolist(), target.value.tolist(), strict=True))
        lengths += batch.tokens.fences.lengths
    return found, lengths


def true_pairs(store):
    """What the pairs have to be: each token after the one before it, the first one after the boundary."""
    tokens = store.tokens.astype(int).tolist()
    return sorted(zip([END, *tokens[:-1]], tokens, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    order=st.sampled_from(ORDERS),
    batch=st.integers(1, 5),
    context=st.integers(1, 6),
    world=st.integers(1, 3),
    epoch=st.integers(0, 2),
    data=st.data(),
)
def test_every_token_of_an_epoch_is_a_target_once(sizes, order, batch, context, world, epoch, data):
    store = numbered(sizes)
    micro = data.draw(st.integers(1, batch))
    try:
        cut = pretext(store, order, batch=batch, micro=micro, context=context)
    except DataError:
        assert len(store.tokens) < context * (batch if order == "carried" else 1)
        return
    first = epoch * cut.steps_per_epoch
    steps = range(first, first + cut.steps_per_epoch)
    batches = [one for step in steps for rank in range(world) for one in cut.micro_batches(step, rank, world)]
    found, lengths = pairs_of(batches)
    assert sorted(found) == true_pairs(store)
    assert cut.tokens == len(found)
    assert max(lengths) <= context + (order == "carried")
    assert min(lengths) >= 1
    assert max(one.tokens.fences.count for one in batches) <= micro


@pytest.mark.parametrize("order", ORDERS)
def test_a_step_has_the_same_sequences_however_it_is_split(order):
    store = StubStore.random(60)

    def sequences(micro, world):
        cut = pretext(store, order, batch=6, micro=micro, context=7)
        for step in range(2 * cut.steps_per_epoch):
            found = []
            for rank in range(world):
                for batch in cut.micro_batches(step, rank, world):
                    starts = batch.tokens.fences.starts()
                    found += [tuple(batch.tokens.ids[a:b].tolist()) for a, b in pairwise(starts)]
            yield found

    whole = list(sequences(6, 1))
    for micro, world in ((1, 1), (2, 1), (4, 2), (1, 3), (6, 5)):
        assert list(sequences(micro, world)) == whole


@pytest.mark.parametrize("order", ["shuffled", "documents"])
def test_the_order_is_new_each_epoch_and_a_pure_function(order):
    store = StubStore.random(60)
    cut = pretext(store, order, context=5)
    per = cut.steps_per_epoch
    read = lambda cut, step: [batch.tokens.ids.tolist() for batch in cut.micro_batches(step)]  # noqa: E731
    first = [read(cut, step) for step in range(3 * per)]
    assert first[:per] != first[per : 2 * per] != first[2 * per :]
    other = pretext(store, order, context=5)
    assert read(other, 2 * per + 1) == first[2 * per + 1], "a step doesn't depend on the steps read before it"
    assert read(cut, 0) == first[0]
    assert read(pretext(store, order, context=5, seed=1), 0) != first[0]


def test_shuffled_windows_are_equal_but_for_the_tail():
    cut = pretext(StubStore.random(60), context=8)
    lengths = [size for step in range(cut.steps_per_epoch) for size in pairs_of(cut.micro_batches(step))[1]]
    tail = cut.tokens % 8
    assert sorted(lengths) == sorted([8] * (cut.tokens // 8) + ([tail] if tail else []))


def test_shuffled_windows_begin_elsewhere_in_another_epoch():
    store = numbered([400])
    cut = pretext(store, context=8)
    firsts = [
        {batch.tokens.ids[0].item() % 8 for batch in cut.micro_batches(epoch * cut.steps_per_epoch)}
        for epoch in range(6)
    ]
    assert len(set().union(*firsts)) > 1


def test_carried_streams_are_contiguous_from_step_to_step():
    store = numbered([5, 30, 2, 44, 20])  # 106 tokens: 4 streams of 26 or 27, in 4 steps of 7
    cut = pretext(store, "carried", batch=4, context=7)
    assert cut.steps_per_epoch == 4
    streams = [[] for _ in range(4)]
    for step in range(4):
        (batch,) = cut.micro_batches(step)
        starts = batch.tokens.fences.starts()
        for row in range(4):
            streams[row] += batch.targets["causal"].value[starts[row] : starts[row + 1]].tolist()
    assert [len(stream) for stream in streams] == [27, 27, 26, 26]
    assert list(chain(*streams)) == store.tokens.tolist()
    assert [cut.continues(step) for step in range(6)] == [False, True, True, True, False, True]


def test_a_remainder_that_would_make_a_step_of_its_own_joins_the_last_one():
    store = numbered([56])  # 57 tokens: streams of 15, 14, 14, 14 in two steps of 7
    cut = pretext(store, "carried", batch=4, context=7)
    assert [pairs_of(cut.micro_batches(step))[1] for step in range(2)] == [[7, 7, 7, 7], [8, 7, 7, 7]]


@pytest.mark.parametrize("order", ORDERS)
def test_a_store_cut_within_documents_is_read_whole_too(order):
    whole = numbered([9, 30, 12])
    part = StubStore(whole.tokens[4:45], np.array([0, 6, 37, 41]))
    cut = pretext(part, order, batch=3, context=4)
    found, _ = pairs_of(batch for step in range(cut.steps_per_epoch) for batch in cut.micro_batches(step))
    assert sorted(found) == true_pairs(part)


def test_carried_loss_is_that_of_the_whole_streams():
    store, model = StubStore.random(30), Recurrent()
    cut = pretext(store, "carried", batch=3, context=6)
    total, state = 0.0, None
    with torch.no_grad():
        for step in range(cut.steps_per_epoch):
            (batch,) = cut.micro_batches(step)
            terms, state = cut.terms(model, batch, state)
            total += float(terms["causal"].total)
        whole = pretext(store, "carried", batch=3, context=len(store.tokens) // 3)
        terms, _ = whole.terms(model, whole.micro_batches(0)[0], None)
    assert total == pytest.approx(float(terms["causal"].total), rel=1e-5)


def test_documents_start_with_the_boundary_and_long_ones_are_cut():
    cut = pretext(StubStore.of([[1, 2, 3, 4, 5, 6], [], [7]]), "documents", batch=9, context=3)
    (batch,) = cut.micro_batches(0)
    starts = batch.tokens.fences.starts()
    inputs = sorted(batch.tokens.ids[a:b].tolist() for a, b in pairwise(starts))
    assert inputs == [[END], [END, 1, 2], [END, 7], [3, 4, 5], [6]]
    assert [batch.tokens.positions[a].item() for a in starts[:-1]] == [0] * 5


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_validation_reads_every_token_once(order, world):
    held_out = numbered([3, 17, 0, 8, 1, 30])
    cut = pretext(StubStore.random(), order, batch=4, micro=2, context=5)
    found, lengths = pairs_of(batch for rank in range(world) for batch in cut.validation(held_out, rank, world))
    assert sorted(found) == true_pairs(held_out)
    assert max(lengths) <= 5 + (order == "carried")


@pytest.mark.parametrize("order", ORDERS)
def test_validation_can_be_limited_and_reads_a_short_text(order):
    cut = pretext(StubStore.random(), order, batch=4, micro=1, context=5)
    assert len(list(cut.validation(StubStore.random(30, seed=2), batches=3))) == 3
    assert sorted(pairs_of(cut.validation(numbered([1])))[0]) == [(END, 1), (1, END)]


def test_the_loss_is_the_sum_of_cross_entropies():
    store, model = StubStore.random(), Bag()
    cut = pretext(store)
    (batch,) = cut.micro_batches(0)
    terms, state = cut.terms(model, batch, None)
    logits = model.logits(model(batch.tokens).states)
    assert float(terms["causal"].total.detach()) == pytest.approx(
        float(F.cross_entropy(logits, batch.targets["causal"].value, reduction="sum").detach()), rel=1e-6
    )
    assert terms["causal"].count == 64
    assert state is None


def test_what_does_not_fit_is_refused_before_training():
    store = StubStore.random(vocab=20)
    with pytest.raises(DataError, match="fewer than one window of 5000"):
        pretext(store, context=5000)
    with pytest.raises(DataError, match="need 4000 tokens"):
        pretext(store, "carried", batch=40, context=100)
    with pytest.raises(DataError, match="no tokens"):
        pretext(StubStore(np.array([], dtype=np.uint16), np.array([0])), "documents")
    with pytest.raises(ConfigError, match="at least 1"):
        pretext(store, batch=0)
    with pytest.raises(DataError, match="another tokenizer"):
        pretext(store).check(Bag(vocab=11))
    with pytest.raises(ConfigError, match="carries its state"):
        pretext(store, "carried").check(Bag(vocab=20))
    short = Bag(vocab=20)
    short.context = 4
    with pytest.raises(ConfigError, match="at most 4 tokens"):
        pretext(store).check(short)
    short.reads = "both"
    with pytest.raises(ConfigError, match="'left'"):
        pretext(store).check(short)
