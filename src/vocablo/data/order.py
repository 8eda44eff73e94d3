"""The order in which examples are seen: pure functions, so that a run resumes at any step, on any number of ranks.

Examples are numbered 0 to n - 1. Epoch e sees them in the order ``shuffled(n, seed, e)``; the epochs stand one behind
the other in one endless sequence of which step s takes the ``batch`` x ``world`` next ones. So every epoch sees every
example exactly once, also when a step reaches over the end of an epoch.

What is only read, without learning, is read in the order of its lengths: ``by_length``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError
from vocablo.base.random import generator

BATCH_TOKENS = 8192  # what one forward pass reads at most, unless one sequence is longer


def shuffled(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of 0 ... n - 1, a pure function of its arguments."""
    return generator(seed, "order", epoch).permutation(n)


def positions(n: int, step: int, batch: int, *, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
    """The places in the endless sequence, [batch], of the examples that ``rank`` of ``world`` gets at ``step``.

    ``divmod(position, n)`` gives epoch and place in that epoch's order. Ranks take turns, so that which examples make a
    step doesn't depend on how many ranks share it. Raises ConfigError for numbers that make no sense.
    """
    if n < 1 or batch < 1 or step < 0 or not 0 <= rank < world:
        raise ConfigError(
            f"There must be examples, a batch and ranks below the world's size; got {n} examples, batch {batch}, "
            f"step {step}, rank {rank} of {world}."
        )
    return step * batch * world + rank + world * np.arange(batch, dtype=np.int64)


def examples(n: int, seed: int, step: int, batch: int, *, rank: int = 0, world: int = 1) -> NDArray[np.int64]:
    """The examples, [batch], that ``rank`` gets at ``step`` (counted from 0 over all epochs)."""
    epochs, places = np.divmod(positions(n, step, batch, rank=rank, world=world), n)
    chosen = np.empty(batch, dtype=np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        chosen[here] = shuffled(n, seed, int(epoch))[places[here]]
    return chosen


def steps_per_epoch(n: int, batch: int, world: int = 1) -> int:
    """Steps until every example has been seen once, the last step perhaps reaching into the next epoch."""
    return -(-n // (batch * world))


def by_length(
    lengths: Sequence[int], sizes: Sequence[int] | None = None, budget: int = BATCH_TOKENS
) -> Iterator[list[int]]:
    """Places of sequences that are read together, at most ``budget`` tokens unless one alone is longer; shortest first.

    ``sizes``: how many tokens stand at each place, where that isn't one sequence of its length. A batch that is half full
    ends where the length changes, so that few batches mix lengths.
    """
    sizes = lengths if sizes is None else sizes
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    group: list[int] = []
    total = 0
    for place in order:
        changes = bool(group) and lengths[group[-1]] != lengths[place]
        if group and (total + sizes[place] > budget or (changes and 2 * total >= budget)):
            yield group
            group, total = [], 0
        group.append(place)
        total += sizes[place]
    if group:
        yield group


def of_like_length(
    sizes: NDArray[np.int64], budget: int, seed: int, epoch: int, pool: int = 100
) -> list[NDArray[np.int64]]:
    """An epoch's batches of about ``budget`` tokens, each of texts of like length: a pure function of its arguments.

    The order is drawn by lot; within ``pool`` batches of it texts are sorted by length, cut into batches of nearly equal
    sums of ``sizes``, and these are put in an order by lot again. There are as many batches in every epoch, the sum over the
    budget, and no more than there are texts.
    """
    count = batches_of(sizes, budget)
    order = shuffled(len(sizes), seed, epoch)
    pools = -(-count // pool)
    edges = np.searchsorted(np.cumsum(sizes[order]), np.arange(1, pools) * (int(sizes.sum()) / pools))
    order = np.concatenate([part[np.argsort(sizes[part], kind="stable")] for part in np.split(order, edges)])
    ends = np.searchsorted(np.cumsum(sizes[order]), np.arange(1, count) * (int(sizes.sum()) / count))
    # At least one text for every batch, however long some are.
    for number in range(len(ends)):
        ends[number] = max(ends[number], number + 1, ends[number - 1] + 1 if number else 0)
    for number in reversed(range(len(ends))):
        ends[number] = min(ends[number], len(order) - (len(ends) - number))
    batches = np.split(order, ends)
    return [batches[place] for place in generator(seed, "batches", epoch).permutation(count)]


def batches_of(sizes: NDArray[np.int64], budget: int) -> int:
    """How many batches of about ``budget`` tokens texts of these sizes make."""
    return min(len(sizes), max(1, -(-int(sizes.sum()) // budget)))
