"""Classification of a text, or of a pair of texts: one label of several, or any number of them.

    one label      p(c | x) = softmax(W d + b)_c        loss -log p(c | x)
    any number     p(c | x) = sigmoid(w_c d + b_c)      loss -log p of each label's being there or not

d is the vector of the whole sequence, with dropout: of BERT the pooler's (Devlin et al. 2019, section 4.1), of a model
that reads from the left the state of the extract token behind the text (Radford et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings
from vocablo.base.errors import DataError
from vocablo.base.progress import tell
from vocablo.contract import Batch, Fences, Target, Term
from vocablo.data import glue
from vocablo.data import labels as naming
from vocablo.data.examples import TextExample
from vocablo.data.readers import Tell
from vocablo.measures.classification import accuracy, f1, matthews, multilabel_f1
from vocablo.measures.measurement import Measurement
from vocablo.tasks import _task, _texts
from vocablo.tasks._reading import Heads, Reader, linear
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Advance, full
from vocablo.tasks._texts import Columns

ABOUT = "a text or a pair of texts: one label of several, or any number of them (task.several=true)"
HEAD = "classify"
POOLED = True
VERB = "classify"
TEXTS = True
ASK = ('classify "..."', "predict FILE --out predictions.jsonl")


class Config(Settings):
    """``several``: an example has any number of labels, those at least as probable as ``threshold``."""

    several: bool = False
    threshold: float = Field(default=0.5, gt=0, lt=1)


@dataclass(frozen=True, slots=True)
class Classified:
    """The label of a text (or its labels), its probability (of several: the least), and those of all labels."""

    id: str
    text: str
    pair: str | None
    label: str | tuple[str, ...]
    prob: float | None
    probs: dict[str, float]
    cut: bool


def read(
    path: str | Path, columns: Columns, settings: Config, *, labelled: bool = True, notes: Tell = tell
) -> list[TextExample]:
    """Examples of a file."""
    return _texts.read_texts(path, columns, "labels" if settings.several else "class", labelled=labelled, notes=notes)


texts = _texts.texts
check_out = _texts.check_out


def labels(examples: Sequence[TextExample], settings: Config, where: str) -> tuple[str, ...]:
    """The labels that training examples have. Raises DataError for fewer than two."""
    return naming.label_set(examples, where)


def write(
    path: str | Path, examples: Sequence[TextExample], predictions: Sequence[Classified], columns: Columns
) -> None:
    """Predictions as GLUE's server takes them (``format`` glue:NAME), or a table of id, label and probability."""
    if (which := _texts.glue_task(columns)) is not None:
        glue.write_submission(path, which, examples, [one.label for one in predictions])
        return
    joined = [one.label if isinstance(one.label, str) else columns.separator.join(one.label) for one in predictions]
    rows = [
        {"id": one.id, "label": label, "prob": None if one.prob is None else round(one.prob, 6)}
        for one, label in zip(predictions, joined, strict=True)
    ]
    _texts.write_table(path, rows)


class Task:
    """See ``_task.Task``."""

    def __init__(self, reader: Reader, settings: Config, labels: Sequence[str]) -> None:
        self.reader, self.settings, self.labels = reader, settings, tuple(labels)
        self.names: tuple[str, ...] = (HEAD, *reader.names)

    def heads(self) -> nn.ModuleDict:
        return nn.ModuleDict({**self.reader.heads(), HEAD: linear(self.reader.width, len(self.labels))})

    def prepare(self, examples: Sequence[TextExample], heads: Heads, fresh: bool) -> None:
        """Nothing to take."""

    def encode(self, examples: Sequence[TextExample], where: str, *, learn: bool = False) -> Encoded:
        return _texts.encode(self.reader, examples, where, self._values(examples, where) if learn else None)

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        (rows, counts), values = encoded.rows(which), encoded.values[which]
        target = Target(torch.arange(values.size), torch.from_numpy(values.ravel()), values.size)
        return self.reader.batch(encoded.tokens(rows), {HEAD: target}, Fences.of(counts.tolist()))

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        hidden = self.reader.read(model, heads, batch.tokens, batch.groups)
        scores, target = self._scores(heads, hidden.pooled), batch.targets[HEAD]
        if self.settings.several:
            loss = F.binary_cross_entropy_with_logits(scores.flatten(), target.value, reduction="sum")
        else:
            loss = F.cross_entropy(scores, target.value, reduction="sum")
        return {HEAD: Term(loss, target.count), **self.reader.extra(model, hidden, batch)}

    def predict(
        self,
        model: Any,
        heads: Heads,
        examples: Sequence[TextExample],
        advance: Advance | None = None,
    ) -> list[Classified]:
        encoded = self.encode(examples, "the texts")
        probs = np.empty((len(examples), len(self.labels)))
        for which, hidden, _, _ in _task.passes(self.reader, model, heads, encoded, advance):
            scores = self._scores(heads, hidden.pooled).double()
            probs[which] = (scores.sigmoid() if self.settings.several else scores.softmax(1)).cpu().numpy()
        return [
            self._classified(example, row, cut)
            for example, row, cut in zip(examples, probs, encoded.cut.tolist(), strict=True)
        ]

    def measures(self, examples: Sequence[TextExample], predictions: Sequence[Classified]) -> dict[str, Measurement]:
        gold: list[Any] = [example.label for example in examples]
        given: list[Any] = [one.label for one in predictions]
        names = list(self.labels)
        if self.settings.several:
            return {
                "micro f1": multilabel_f1(gold, given, labels=names),
                "macro f1": multilabel_f1(gold, given, average="macro", labels=names),
                "accuracy": accuracy(*(["|".join(sorted(one)) for one in some] for some in (gold, given))),
            }
        found = {"accuracy": accuracy(gold, given), "macro f1": f1(gold, given, average="macro", labels=names)}
        if len(names) == 2:
            found["f1"] = f1(gold, given, positive=names[1], labels=names)
        return found | {"matthews": matthews(gold, given, labels=names)}

    def tune(self, examples: Sequence[TextExample], predictions: Sequence[Classified]) -> Sequence[Classified]:
        """Nothing to fix."""
        return predictions

    def saved(self, heads: Heads) -> Heads:
        return heads

    def told(self) -> dict[str, Any]:
        kind = "multi_label" if self.settings.several else "single_label"
        return _task.told(self, "classify", f"{kind}_classification")

    def _scores(self, heads: Heads, pooled: Tensor | None) -> Tensor:
        assert pooled is not None
        return full(heads[HEAD](self.reader.dropped(pooled)))

    def _values(self, examples: Sequence[TextExample], where: str) -> Any:
        """Place of the label, int64 [E]; of several, whether each is there, float32 [E, C]."""
        if unlabelled := next((example for example in examples if example.label is None), None):
            raise DataError(f"{where}: example {unlabelled.id} has no label: name the column that has it.")
        naming.check_known(examples, self.labels, where)
        at = {label: number for number, label in enumerate(self.labels)}
        if not self.settings.several:
            return np.array([at[str(example.label)] for example in examples], dtype=np.int64)
        values = np.zeros((len(examples), len(at)), dtype=np.float32)
        for row, example in enumerate(examples):
            values[row, [at[name] for name in example.label or ()]] = 1  # type: ignore[union-attr]
        return values

    def _classified(self, example: TextExample, probs: Any, cut: bool) -> Classified:
        table = {label: float(prob) for label, prob in zip(self.labels, probs, strict=True)}
        if self.settings.several:
            label: Any = tuple(name for name, prob in table.items() if prob >= self.settings.threshold)
            prob = min((table[name] for name in label), default=None)
        else:
            label = self.labels[int(np.argmax(probs))]
            prob = table[label]
        return Classified(example.id, example.text, example.pair, label, prob, table, cut)
