"""The labels of a task: which there are, told from the training examples, and whether other examples keep to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from vocablo.base.errors import DataError, nearest
from vocablo.data.examples import TaggedExample, TextExample


def label_set(examples: Sequence[TextExample], where: str) -> tuple[str, ...]:
    """The classes (or labels) of training examples, sorted, as numbers where all are whole numbers.

    Raises DataError for an example without a label and for one class only.
    """
    found = Counter(name for example in examples for name in _of(example, where))
    if len(found) < 2:
        only = f"only {next(iter(found))!r}" if found else "none"
        raise DataError(f"{where} has {only} as a label: a classifier needs two classes or more to tell apart.")
    return tuple(sorted(found, key=_order(found)))


def tag_set(examples: Sequence[TaggedExample], where: str) -> tuple[str, ...]:
    """The tags of training sentences, ``O`` first, then by type. Raises DataError for sentences without tags."""
    found: set[str] = set()
    for example in examples:
        if example.tags is None:
            raise DataError(f"{where}: sentence {example.id} has no tags: name the column that has them.")
        found.update(example.tags)
    if len(found) < 2:
        raise DataError(f"{where} has only {', '.join(map(repr, found)) or 'no'} tags: there is nothing to learn.")
    return tuple(sorted(found, key=lambda tag: (tag != "O", tag.partition("-")[2], tag)))


def check_known(examples: Iterable[TextExample | TaggedExample], labels: Sequence[str], where: str) -> None:
    """Raise DataError when examples have labels outside of ``labels``, with how often and the nearest known one."""
    known = set(labels)
    strange: Counter[str] = Counter()
    for example in examples:
        names = (example.tags or ()) if isinstance(example, TaggedExample) else _names(example)
        strange.update(name for name in names if name not in known)
    if strange:
        name, count = strange.most_common(1)[0]
        others = f" (and {len(strange) - 1} more unknown)" if len(strange) > 1 else ""
        raise DataError(
            f"{where} has the label {name!r}, {count} times{others}, which the training examples lack{nearest(name, known)}"
        )


def check_same(labels: Sequence[str], model: Sequence[str], where: str) -> None:
    """Raise DataError when the training examples' labels aren't those that a model's head was made for."""
    more, less = sorted(set(labels) - set(model)), sorted(set(model) - set(labels))
    if more or less:
        parts = [f"has {', '.join(more)} besides" if more else "", f"lacks {', '.join(less)}" if less else ""]
        raise DataError(
            f"The labels of {where} aren't the model's ({', '.join(model)}): it {' and '.join(filter(None, parts))}. "
            "Start from the pre-trained model, whose head is made for these labels, or change the labels."
        )


def _of(example: TextExample, where: str) -> tuple[str, ...]:
    if example.label is None:
        raise DataError(f"{where}: example {example.id} has no label: name the column that has it, or leave it out.")
    return _names(example)


def _names(example: TextExample) -> tuple[str, ...]:
    if example.label is None:
        return ()
    return example.label if isinstance(example.label, tuple) else (str(example.label),)


def _order(names: Iterable[str]):
    numbers = all(name.lstrip("-").isdecimal() for name in names)
    return (lambda name: (int(name), name)) if numbers else (lambda name: (0, name))
