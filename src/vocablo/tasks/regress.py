"""Regression: a number for a text, or for a pair of texts (how alike two sentences are, say).

    y = w d + b,      loss (y - z)^2,      z = (value - mean) / deviation

d is the vector of the whole sequence, as in classification (Devlin et al. 2019, section 4.1). The head learns numbers of
mean 0 and deviation 1, whatever the unit; when it is saved, mean and deviation of the training values are folded into it,
so that a folder gives the values themselves, in transformers as well.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.base.progress import tell
from vocablo.contract import Batch, Fences, Target, Term
from vocablo.data import glue
from vocablo.data.examples import TextExample
from vocablo.data.readers import Tell
from vocablo.measures.correlation import pearson, spearman
from vocablo.measures.measurement import Measurement
from vocablo.tasks import _task, _texts
from vocablo.tasks._reading import Heads, Reader, linear
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Advance, full
from vocablo.tasks._texts import Columns

ABOUT = "a text or a pair of texts: a number"
HEAD = "classify"
POOLED = True
VERB = "predict"
TEXTS = True
ASK = ('predict "..."', "predict FILE --out predictions.jsonl")


class Config(Settings):
    """Nothing to set."""


@dataclass(frozen=True, slots=True)
class Estimated:
    """The number of a text."""

    id: str
    text: str
    pair: str | None
    value: float
    cut: bool


def read(
    path: str | Path, columns: Columns, settings: Config, *, labelled: bool = True, notes: Tell = tell
) -> list[TextExample]:
    """Examples of a file."""
    return _texts.read_texts(path, columns, "number", labelled=labelled, notes=notes)


texts = _texts.texts
check_out = _texts.check_out


def labels(examples: Sequence[TextExample], settings: Config, where: str) -> tuple[str, ...]:
    """One output. Raises DataError for values that are all the same."""
    if len({example.label for example in examples}) < 2:
        raise DataError(f"{where} has one and the same value everywhere: there is nothing to learn.")
    return ("LABEL_0",)  # as transformers names the only output


def write(
    path: str | Path, examples: Sequence[TextExample], predictions: Sequence[Estimated], columns: Columns
) -> None:
    """Predictions as GLUE's server takes them (``format`` glue:NAME), or a table of id and value."""
    if (which := _texts.glue_task(columns)) is not None:
        glue.write_submission(path, which, examples, [one.value for one in predictions])
        return
    _texts.write_table(path, [{"id": one.id, "value": round(one.value, 6)} for one in predictions])


class Task:
    """See ``_task.Task``."""

    def __init__(self, reader: Reader, settings: Config, labels: Sequence[str]) -> None:
        self.reader, self.settings, self.labels = reader, settings, tuple(labels)
        self.names: tuple[str, ...] = (HEAD, *reader.names)
        self.mean, self.deviation = 0.0, 1.0  # of the values; a saved head has them in it

    def heads(self) -> nn.ModuleDict:
        return nn.ModuleDict({**self.reader.heads(), HEAD: linear(self.reader.width, 1)})

    def prepare(self, examples: Sequence[TextExample], heads: Heads, fresh: bool) -> None:
        """Take mean and deviation from training examples; a head from a folder, which gives values, gets them taken out."""
        values = np.array([float(example.label) for example in examples])  # type: ignore[arg-type]
        mean, deviation = float(values.mean()), float(values.std())
        if not fresh:
            self._scale(heads, -mean, 1.0, deviation)
        self.mean, self.deviation = mean, deviation

    def encode(self, examples: Sequence[TextExample], where: str, *, learn: bool = False) -> Encoded:
        values = None
        if learn:
            if unlabelled := next((one for one in examples if not isinstance(one.label, (int, float))), None):
                raise DataError(f"{where}: example {unlabelled.id} has no number: name the column that has it.")
            values = np.array([example.label for example in examples], dtype=np.float32)
        return _texts.encode(self.reader, examples, where, values)

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        (rows, counts), values = encoded.rows(which), torch.from_numpy(encoded.values[which])
        target = Target(torch.arange(len(values)), values, len(values))
        return self.reader.batch(encoded.tokens(rows), {HEAD: target}, Fences.of(counts.tolist()))

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        hidden = self.reader.read(model, heads, batch.tokens, batch.groups)
        target = batch.targets[HEAD]
        wanted = (target.value - self.mean) / self.deviation
        loss = (self._scores(heads, hidden.pooled) - wanted).square().sum()
        return {HEAD: Term(loss, target.count), **self.reader.extra(model, hidden, batch)}

    def predict(
        self, model: Any, heads: Heads, examples: Sequence[TextExample], advance: Advance | None = None
    ) -> list[Estimated]:
        encoded = self.encode(examples, "the texts")
        values = np.empty(len(examples))
        for which, hidden, _, _ in _task.passes(self.reader, model, heads, encoded, advance):
            values[which] = self._scores(heads, hidden.pooled).double().cpu().numpy()
        values = values * self.deviation + self.mean
        return [
            Estimated(example.id, example.text, example.pair, float(value), cut)
            for example, value, cut in zip(examples, values, encoded.cut.tolist(), strict=True)
        ]

    def measures(self, examples: Sequence[TextExample], predictions: Sequence[Estimated]) -> dict[str, Measurement]:
        gold: list[Any] = [example.label for example in examples]
        given = [one.value for one in predictions]
        return {"spearman": spearman(gold, given), "pearson": pearson(gold, given)}

    def tune(self, examples: Sequence[TextExample], predictions: Sequence[Estimated]) -> Sequence[Estimated]:
        """Nothing to fix."""
        return predictions

    def saved(self, heads: Heads) -> Heads:
        folded = nn.ModuleDict(
            {name: copy.deepcopy(module) if name == HEAD else module for name, module in heads.items()}
        )
        self._scale(folded, self.mean, self.deviation, 1.0)
        return folded

    def told(self) -> dict[str, Any]:
        return _task.told(self, "regress", "regression")

    def _scores(self, heads: Heads, pooled: Tensor | None) -> Tensor:
        assert pooled is not None
        return full(heads[HEAD](self.reader.dropped(pooled))).squeeze(1)

    @torch.no_grad()
    def _scale(self, heads: Heads, shift: float, before: float, after: float) -> None:
        """From outputs y to (y x before + shift) / after."""
        head: Any = heads[HEAD]
        head.weight.mul_(before / after)
        head.bias.mul_(before / after).add_(shift / after)
