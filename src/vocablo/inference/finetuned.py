"""What a fine-tuned model can be asked: the verb of its task, on texts or on the files of its task.

Which task a folder is for stands in its ``config.json``: in ``vocablo_task`` where we wrote it, else in transformers' own
entries (the class, ``problem_type``, ``id2label``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vocablo.base import registry
from vocablo.base.config import build
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.base.progress import Progress, tell
from vocablo.checkpoint import Loaded
from vocablo.contract import Fences, Tokens
from vocablo.data.examples import ChoiceExample, SpanExample, TaggedExample, TextExample
from vocablo.inference.document import DocumentAttention, attended
from vocablo.inference.verbs import Asked
from vocablo.tasks._readers import reader_for
from vocablo.tasks._reading import ReadSettings
from vocablo.tasks._task import Task, asking
from vocablo.tasks._texts import Columns

TASKS = "vocablo.tasks"


def named_in(config: Mapping[str, Any], heads: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any]] | None:
    """The task of a folder, its settings and how it reads; None when the folder is of no task."""
    told = config.get("vocablo_task")
    if isinstance(told, dict):
        return str(told.get("name")), dict(told.get("settings", {})), dict(told.get("read", {}))
    kind = config.get("problem_type")
    for name in registry.names(TASKS):
        if registry.constant(TASKS, name, "HEAD") not in heads:
            continue
        if name == "classify" and (kind == "regression" or (kind is None and len(_labels(config)) == 1)):
            return "regress", {}, {}
        return name, {"several": True} if kind == "multi_label_classification" else {}, {}
    return None


def labels_in(loaded: Loaded) -> tuple[str, ...]:
    """The labels that a folder's head tells apart, in its order."""
    return _labels(loaded.config)


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    told = config.get("id2label")
    if not isinstance(told, dict):
        return tuple(f"LABEL_{number}" for number in range(int(config.get("num_labels", 2))))
    try:
        found = {int(number): str(label) for number, label in told.items()}
    except ValueError:
        found = {}
    if sorted(found) != list(range(len(found))):
        raise CheckpointError("config.json is damaged: its id2label should number the labels from 0.")
    return tuple(found[number] for number in range(len(found)))


def task_in(loaded: Loaded, where: str) -> tuple[str, Task] | None:
    """The task of a loaded folder, by its name; None when there is none. Raises CheckpointError for what doesn't fit."""
    named = named_in(loaded.config, loaded.heads)
    if named is None or loaded.tokenizer is None:
        return None
    name, settings, read = named
    if name not in registry.names(TASKS):
        raise CheckpointError(f"{where} is of a task {name!r}, which isn't known here.")
    module = registry.load(TASKS, name)
    if module.HEAD and module.HEAD not in loaded.heads:
        raise CheckpointError(f"{where} says that it is of the task {name!r}, and has no head for it.")
    try:
        reader = reader_for(loaded.model, loaded.tokenizer, build(ReadSettings, read, "read"))
        task = module.Task(reader, build(module.Config, settings, "task"), _labels(loaded.config))
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None
    return name, task


class TaskModel(Asked):
    """A model fine-tuned for a task, with its tokenizer and heads."""

    def __init__(self, loaded: Loaded, name: str, task: Task) -> None:
        super().__init__(loaded.model, loaded.tokenizer)  # type: ignore[arg-type]
        self.heads, self.task, self.name = loaded.heads, task, name
        self.what = f"a model for {name}"
        self.module = registry.load(TASKS, name)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the model tells apart."""
        return self.task.labels

    def classify(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> list[Any]:
        """The label, or labels, of each text, or of each pair of texts."""
        self._need("classify")
        return predicted(self, examples_of(texts, pairs))

    def attend(self, text: str) -> DocumentAttention:
        """Which words, and of a document which sentences, the answer was told from."""
        self._need("attend")
        (example,) = examples_of(text, None)
        reader, device = self.task.reader, next(self.model.parameters()).device
        located = reader.located(text)
        tokens = Tokens.of([ids for ids, _, _ in located], device)
        with asking(self.model):
            hidden = reader.read(self.model, self.heads, tokens, Fences.of([len(located)], device))
        weights = [one.float().cpu().numpy() for one in hidden.weights]
        return attended(text, predicted(self, [example])[0], located, weights)

    def tag(self, texts: str | Sequence[str] | Sequence[Sequence[str]]) -> list[Any]:
        """The tags of each sentence's words; a sentence is a text, whose words and marks are set apart, or its words."""
        self._need("tag")
        given: Sequence[Any] = [texts] if isinstance(texts, str) else texts
        words = [self.module.words_of(one) if isinstance(one, str) else tuple(one) for one in given]
        if empty := [place for place, one in enumerate(words) if not one]:
            raise ConfigError(f"Sentence {empty[0]} has no words.")
        return predicted(self, [TaggedExample(str(place), one) for place, one in enumerate(words)])

    def answer(self, question: str, context: str) -> Any:
        """The stretch of the context that answers the question."""
        self._need("answer")
        if not question.strip() or not context.strip():
            raise ConfigError("The question and the context can't be empty.")
        return predicted(self, [SpanExample("0", question, context)])[0]

    def choose(self, text: str, choices: Sequence[str], *, start: str = "") -> Any:
        """Which of the choices goes on with the text; ``start`` are words that every choice goes on from."""
        self._need("choose")
        if not text.strip() or not all(choice.strip() for choice in choices):
            raise ConfigError("The text and the choices can't be empty.")
        return predicted(self, [ChoiceExample("0", text, start, tuple(choices))])[0]

    def predict(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> list[Any]:
        """What the model's task tells of each text, or pair of texts."""
        self._need("predict")
        return predicted(self, examples_of(texts, pairs))

    def predict_file(
        self,
        path: str | Path,
        out: str | Path | None = None,
        *,
        columns: Mapping[str, Any] | None = None,
        quiet: bool = True,
    ) -> list[Any]:
        """A prediction for each example of a file of the task; ``out`` is written in the task's official format.

        ``columns`` has the fields of ``tasks._texts.Columns``; labels aren't looked at.
        """
        return predicted_file(self, path, out, columns=columns, quiet=quiet)

    def _lacking(self) -> dict[str, str]:
        verbs = {registry.constant(TASKS, name, "VERB"): name for name in registry.names(TASKS)}
        lacking = {verb: f"a model for {name}" for verb, name in verbs.items() if name != self.name}
        if not self.task.reader.attends:
            lacking["attend"] = (
                "attention as pooling (han; read.pooling=attention or han), which says what each word weighed"
            )
        if not self.module.TEXTS:
            lacking["predict"] = "a model whose examples are texts; this one has files (predict_file) and its own verb"
        else:
            lacking.pop("predict", None)
        return lacking


def predicted(asked: Any, examples: Sequence[Any], quiet: bool = True) -> list[Any]:
    """What a model's task tells of examples."""
    if not examples:
        raise ConfigError("There is nothing to predict: give a text.")
    with Progress("predict", len(examples), "examples", quiet=quiet) as progress:
        return asked.task.predict(asked.model, asked.heads, examples, progress.advance)


def predicted_file(
    asked: Any,
    path: str | Path,
    out: str | Path | None,
    *,
    columns: Mapping[str, Any] | None = None,
    quiet: bool = True,
) -> list[Any]:
    """The same of a file's examples, written into ``out``."""
    named = build(Columns, dict(columns or {}), "columns")
    notes = (lambda _: None) if quiet else tell
    examples = asked.module.read(path, named, asked.task.settings, labelled=False, notes=notes)
    if out is not None:
        asked.module.check_out(out, named)
    found = predicted(asked, examples, quiet)
    if out is not None:
        asked.module.write(out, examples, found, named)
    return found


def examples_of(texts: str | Sequence[str], pairs: str | Sequence[str] | None) -> list[TextExample]:
    texts = [texts] if isinstance(texts, str) else list(texts)
    seconds: list[str | None] = [None] * len(texts)
    if pairs is not None:
        seconds = [pairs] if isinstance(pairs, str) else list(pairs)
        if len(seconds) != len(texts):
            raise ConfigError(f"There are {len(texts)} texts and {len(seconds)} second ones: give one for each.")
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise ConfigError(f"Text {empty[0]} is empty.")
    return [TextExample(str(i), text, pair) for i, (text, pair) in enumerate(zip(texts, seconds, strict=True))]
