"""Training order: every example once an epoch, whatever the ranks, and the same from any step on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vocablo.base.errors import ConfigError
from vocablo.data.order import examples, positions, shuffled, steps_per_epoch


@given(st.integers(1, 200), st.integers(0, 5), st.integers(0, 5))
def test_a_permutation_of_its_own_for_each_epoch(n, seed, epoch):
    order = shuffled(n, seed, epoch)
    assert sorted(order) == list(range(n))
    assert (order == shuffled(n, seed, epoch)).all()


def test_epochs_and_seeds_differ():
    orders = [tuple(shuffled(50, seed, epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(0, 3))
def test_every_example_once_an_epoch(n, batch, world, seed):
    steps = 3 * steps_per_epoch(n, batch, world)
    seen = np.empty(steps * batch * world, dtype=np.int64)
    for step in range(steps):
        for rank in range(world):
            seen[positions(n, step, batch, rank=rank, world=world)] = examples(
                n, seed, step, batch, rank=rank, world=world
            )
    for epoch in range(len(seen) // n):
        assert (seen[epoch * n : (epoch + 1) * n] == shuffled(n, seed, epoch)).all()


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3), st.integers(0, 30))
def test_a_step_has_the_same_examples_on_any_number_of_ranks(n, batch, factor, step):
    world = 2 * factor
    alone = examples(n, 1, step, batch * world)
    shared = [examples(n, 1, step, batch, rank=rank, world=world) for rank in range(world)]
    assert sorted(np.concatenate(shared)) == sorted(alone)


def test_a_step_over_the_end_of_an_epoch():
    first, second = shuffled(5, 0, 0), shuffled(5, 0, 1)
    assert examples(5, 0, 1, 3).tolist() == [first[3], first[4], second[0]]
    assert steps_per_epoch(5, 3) == 2


def test_impossible_numbers():
    for arguments in ((0, 0, 1), (5, -1, 1), (5, 0, 0)):
        with pytest.raises(ConfigError, match="must be examples"):
            positions(*arguments)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        positions(5, 0, 1, rank=2, world=2)
