"""Multiple choice: which of several ways a text goes on (Zellers et al. 2018).

    p(i | x) = exp(w d_i + b) / sum_j exp(w d_j + b)      loss -log p of the right choice

d_i is the vector of the sequence "text, choice i": one sequence for each choice, and a softmax over those of one question
(Devlin et al. 2019, section 4.4; Radford et al. 2018, figure 1). The questions may have different numbers of choices.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.contract import Batch, Fences, Target, Term
from vocablo.data import swag, tables
from vocablo.data.examples import ChoiceExample
from vocablo.data.readers import Tell
from vocablo.measures.classification import accuracy
from vocablo.measures.measurement import Measurement
from vocablo.nn.within import log_softmax_within
from vocablo.tasks import _task
from vocablo.tasks._reading import Heads, Reader, count_cut, linear
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Advance, full
from vocablo.tasks._texts import Columns

ABOUT = "a text and several ways it may go on: the right one"
HEAD = "choose"
POOLED = True
VERB = "choose"
TEXTS = False
ASK = ('choose "..." --choices "..." "..."', "predict FILE --out predictions.tsv")
FORMATS = ("swag", "table")


class Config(Settings):
    """Nothing to set."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The place of the choice, from 0, and its probability among those of its question."""

    id: str
    text: str
    choices: tuple[str, ...]
    choice: int
    prob: float
    probs: tuple[float, ...]
    cut: bool


def read(
    path: str | Path, columns: Columns, settings: Config, *, labelled: bool = True, notes: Tell = tell
) -> list[ChoiceExample]:
    """SWAG's or CODAH's files, or a table whose columns of choices are named."""
    form = columns.format or ("table" if columns.choices else "swag")
    if form not in FORMATS:
        raise ConfigError(f"There is no format {form!r} here{nearest(form, FORMATS)}")
    if form == "swag":
        return swag.read(path, notes=notes)
    return tables.read_choices(
        path,
        text=columns.text,
        choices=columns.choices,
        label=columns.label if labelled else None,
        start=columns.start,
        encoding=columns.encoding,
        notes=notes,
    )


def texts(examples: Iterable[ChoiceExample]) -> Iterator[str]:
    """All texts of examples."""
    for example in examples:
        yield example.text
        yield from map(str.strip, (f"{example.start} {choice}" for choice in example.choices))


def labels(examples: Sequence[ChoiceExample], settings: Config, where: str) -> tuple[str, ...]:
    """None: the choices are each question's own."""
    return ()


def check_out(path: str | Path, columns: Columns) -> None:
    """Raise ConfigError for a file of predictions whose format isn't known."""
    if Path(path).suffix not in (".tsv", ".csv"):
        raise ConfigError(f"Predictions go into .tsv files (index, prediction), not into {path}.")


def write(path: str | Path, examples: Sequence[ChoiceExample], predictions: Sequence[Chosen], columns: Columns) -> None:
    """Index and prediction, one line a question."""
    swag.write_predictions(path, examples, [one.choice for one in predictions])


class Task:
    """See ``_task.Task``."""

    def __init__(self, reader: Reader, settings: Config, labels: Sequence[str]) -> None:
        self.reader, self.settings = reader, settings
        self.labels: tuple[str, ...] = ()
        self.names: tuple[str, ...] = (HEAD, *reader.names)

    def heads(self) -> nn.ModuleDict:
        return nn.ModuleDict({**self.reader.heads(), HEAD: linear(self.reader.width, 1)})

    def prepare(self, examples: Sequence[ChoiceExample], heads: Heads, fresh: bool) -> None:
        """Nothing to take."""

    def encode(self, examples: Sequence[ChoiceExample], where: str, *, learn: bool = False) -> Encoded:
        self.reader.check(pair=True)
        tokenizer = self.reader.tokenizer
        contexts = tokenizer.encode_batch([example.text for example in examples])
        goes_on = [f"{example.start} {choice}".strip() for example in examples for choice in example.choices]
        endings = iter(tokenizer.encode_batch(goes_on))
        made, cut = [], []
        for example, context in zip(examples, contexts, strict=True):
            if len(example.choices) < 2:
                raise DataError(f"{where}: example {example.id} has fewer than two choices.")
            pairs = [
                self.reader.pair(context, next(endings), f"{where}: example {example.id}") for _ in example.choices
            ]
            made += [framed for framed, _ in pairs]
            cut.append(any(was for _, was in pairs))
        if note := count_cut(cut, where):
            tell(note)
        values = self._values(examples, where) if learn else None
        return Encoded.of(made, cut=cut, sizes=[len(example.choices) for example in examples], values=values)

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        rows, counts = encoded.rows(which)
        right = torch.from_numpy(np.cumsum(counts) - counts + encoded.values[which])
        target = Target(right, torch.arange(len(which)), len(which))
        return self.reader.batch(encoded.tokens(rows), {HEAD: target}, Fences.of(counts.tolist()))

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        hidden = self.reader.read(model, heads, batch.tokens)
        target = batch.targets[HEAD]
        assert batch.groups is not None
        found = self._log_probs(heads, hidden.pooled, batch.groups).index_select(0, target.at)
        return {HEAD: Term(-found.sum(), target.count), **self.reader.extra(model, hidden, batch)}

    def predict(
        self, model: Any, heads: Heads, examples: Sequence[ChoiceExample], advance: Advance | None = None
    ) -> list[Chosen]:
        encoded = self.encode(examples, "the questions")
        probs: list[tuple[float, ...]] = [()] * len(examples)
        for which, hidden, _, counts in _task.passes(self.reader, model, heads, encoded, advance):
            groups = Fences.of(counts.tolist(), hidden.states.device)
            found = self._log_probs(heads, hidden.pooled, groups).double().exp().cpu().split(counts.tolist())
            for place, part in zip(which, found, strict=True):
                probs[place] = tuple(part.tolist())
        return [
            Chosen(one.id, one.text, one.choices, int(np.argmax(share)), max(share), share, cut)
            for one, share, cut in zip(examples, probs, encoded.cut.tolist(), strict=True)
        ]

    def measures(self, examples: Sequence[ChoiceExample], predictions: Sequence[Chosen]) -> dict[str, Measurement]:
        gold: list[Any] = [example.label for example in examples]
        return {"accuracy": accuracy(gold, [one.choice for one in predictions])}

    def tune(self, examples: Sequence[ChoiceExample], predictions: Sequence[Chosen]) -> Sequence[Chosen]:
        """Nothing to fix."""
        return predictions

    def saved(self, heads: Heads) -> Heads:
        return heads

    def told(self) -> dict[str, Any]:
        return _task.told(self, "choose")

    def _log_probs(self, heads: Heads, pooled: Tensor | None, groups: Fences) -> Tensor:
        assert pooled is not None
        return log_softmax_within(full(heads[HEAD](self.reader.dropped(pooled))).squeeze(1), groups)

    def _values(self, examples: Sequence[ChoiceExample], where: str) -> Any:
        if unlabelled := next((example for example in examples if example.label is None), None):
            raise DataError(f"{where}: example {unlabelled.id} has no label: name the column that has it.")
        return np.array([example.label for example in examples], dtype=np.int64)
