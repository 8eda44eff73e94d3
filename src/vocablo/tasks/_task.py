"""The contract of a task, and how any of them reads examples without learning.

    examples --encode--> Encoded --batch--> Batch --terms--> loss
    examples --predict--> predictions --measures--> measures

A file of ``tasks/`` has, as literals, ``ABOUT`` (one line), ``HEAD`` (the name of its own module), ``POOLED`` (whether it reads
an encoder's pooled state), ``VERB`` (how its models are asked), ``TEXTS`` (whether an example is a text or a pair) and ``ASK``
(commands to try); and ``Config`` (its settings), ``read`` (examples from a file), ``texts`` (what a tokenizer may be
trained on), ``labels`` (told from training examples), ``check_out`` and ``write`` (predictions into a file), and ``Task``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from vocablo.contract import Batch, Fences, Hidden, Term
from vocablo.data.order import by_length
from vocablo.measures.measurement import Measurement
from vocablo.tasks._reading import Heads, Reader
from vocablo.tasks._rows import Encoded, Ints

Advance = Callable[[float], None]  # told how many examples more are done


class Task(Protocol):
    """One labelled use of a model: ``Task(reader, settings, labels)``. Its own modules stand outside the model, as heads."""

    names: tuple[str, ...]  # of its terms
    labels: tuple[str, ...]  # what it tells apart; empty where it doesn't
    reader: Reader
    settings: Any  # the task's own, a Settings

    def heads(self) -> nn.ModuleDict:
        """Fresh heads, from torch's current random state."""
        ...

    def encode(self, examples: Sequence[Any], where: str, *, learn: bool = False) -> Encoded:
        """What the model reads of examples; ``learn``: with what is to be told. Raises DataError for bad ones."""
        ...

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        """A batch of some encoded examples, in their order."""
        ...

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        """The loss of a batch in nats (or, of numbers, squares), summed."""
        ...

    def predict(self, model: Any, heads: Heads, examples: Sequence[Any], advance: Advance | None = None) -> list[Any]:
        """A prediction for each example, in their order; each has the fields that its record names."""
        ...

    def measures(self, examples: Sequence[Any], predictions: Sequence[Any]) -> dict[str, Measurement]:
        """The measures of predictions by name; the first is the one that models are chosen by."""
        ...

    def prepare(self, examples: Sequence[Any], heads: Heads, fresh: bool) -> None:
        """Take from training examples what isn't learnt (a scale), for heads that are fresh or come from a folder."""
        ...

    def tune(self, examples: Sequence[Any], predictions: Sequence[Any]) -> Sequence[Any]:
        """Fix what is fixed on held-out examples (a threshold); returns their predictions as they are with it."""
        ...

    def saved(self, heads: Heads) -> Heads:
        """The heads as they are saved; those in training but for what is folded into them."""
        ...

    def told(self) -> dict[str, Any]:
        """What ``config.json`` says beside the model: ``id2label`` and such, as transformers has them, and the settings."""
        ...


def passes(
    reader: Reader,
    model: Any,
    heads: Heads,
    encoded: Encoded,
    advance: Advance | None = None,
) -> Iterator[tuple[list[int], Hidden, Fences, Ints]]:
    """Read all examples without gradients, those of like length together.

    Yields places of examples, what the model makes of their sequences, these sequences' fences, and how many each has.
    """
    device = next(model.parameters()).device
    sizes = encoded.sizes.tolist()
    with asking(model):
        for which in by_length(sizes):
            rows, counts = encoded.rows(np.array(which))
            tokens = encoded.tokens(rows).to(device)
            groups = Fences.of(counts.tolist(), device)
            yield which, reader.read(model, heads, tokens, groups), tokens.fences, counts
            if advance is not None:
                advance(len(which))


def in_parts(advance: Advance | None, examples: int, windows: int) -> Advance | None:
    """What is told of windows, as the parts of examples that they are."""
    return None if advance is None else lambda done: advance(done * examples / max(1, windows))


@contextmanager
def asking(model: nn.Module) -> Iterator[None]:
    """No gradients and no dropout; a model that is being trained goes on as before afterwards."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def told(task: Task, name: str, problem: str | None = None) -> dict[str, Any]:
    """The entries of ``config.json`` that every task has: transformers' names of labels, and our settings."""
    reading = task.reader.settings.model_dump(exclude_defaults=True)
    own = {"name": name, "read": reading, "settings": task.settings.model_dump(exclude_defaults=True)}
    entries: dict[str, Any] = {"vocablo_task": own}
    if task.labels:
        entries["id2label"] = {str(number): label for number, label in enumerate(task.labels)}
        entries["label2id"] = {label: number for number, label in enumerate(task.labels)}
    return entries | ({"problem_type": problem} if problem else {})


def full(value: torch.Tensor) -> torch.Tensor:
    """At least single precision, for losses and probabilities."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
