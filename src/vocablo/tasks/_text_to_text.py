"""What the tasks share that write a text from a text: translation, summaries, answers in one's own words.

    loss = KL(q | p(. | y_<t, x)) + H(q),    q = 1 - smoothing on the true token, the rest spread over the vocabulary

summed over the tokens of a target and its end (Vaswani et al. 2017, 5.4). The perplexity that is reported is of the plain
-log p. There is no head: the model's own output layer writes. What is predicted is decoded, by beam search with ``beam``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from vocablo.base import files
from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.contract import Batch, Term
from vocablo.data.examples import TextExample
from vocablo.data.parallel import read_parallel, two_files
from vocablo.data.readers import Tell
from vocablo.data.tables import Columns as Named
from vocablo.data.tables import read_texts as read_table
from vocablo.decoding.settings import DecodeSettings
from vocablo.measures.measurement import Measurement
from vocablo.tasks import _task, _texts
from vocablo.tasks._pairs import PairReader, Pairs, written
from vocablo.tasks._reading import Heads, Reader, count_cut
from vocablo.tasks._rows import Encoded, Ints
from vocablo.tasks._task import Advance
from vocablo.tasks._texts import Columns

NLL, SMOOTHED = "nll", "smoothed"
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
UNKNOWN = 0.05  # share of unknown target tokens from which on it is remarked on


class Config(Settings):
    """``prompt`` is what is read: ``{text}``, and ``{pair}`` for a second column of the source, with words around them.

    ``beam``, ``length_penalty`` and ``max_tokens`` (None: twice the source's and 20 more) are how predictions are written.
    ``separate``: fresh weights get a tokenizer and a token table for each side. ``skip_empty`` leaves out the pairs of
    parallel files that have an empty side. ``language`` and ``source_language`` are what a model of many languages (mBART,
    M2M100) writes and reads, as its tokenizer has them: es_XX, es or the like.
    """

    prompt: str = "{text}"
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    beam: int = Field(default=1, ge=1)
    length_penalty: float = 1.0
    max_tokens: int | None = Field(default=None, ge=1)
    separate: bool = False
    skip_empty: bool = False
    language: str | None = None
    source_language: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be written, the score of the search, and log p of it (with its end), in nats."""

    text: str
    score: float
    log_prob: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Written:
    """What was written from a text; ``cut``: its end was too long to read. ``best`` has it and the next best ones."""

    id: str
    text: str
    output: str
    log_prob: float
    finished_by: str
    cut: bool
    best: tuple[Candidate, ...]


def read(
    path: str | Path, columns: Columns, settings: Config, *, labelled: bool = True, notes: Tell = tell
) -> list[TextExample]:
    """Examples of ``SOURCE,TARGET`` (two parallel files), of a table, or (not labelled) of a file with one source a line."""
    name = str(path)
    if (pair := two_files(name)) is not None:
        return read_parallel(*pair, encoding=columns.encoding, skip_empty=settings.skip_empty, notes=notes)
    form = columns.format or "table"
    if form != "table":
        raise ConfigError(f"There is no format {form!r} here{nearest(form, ('table',))}")
    if Path(name).suffix in TABLES or Path(name).with_suffix("").suffix in TABLES:
        named = Named(columns.text, columns.pair, columns.label if labelled else None, columns.id)
        return read_table(path, named, kind="text", encoding=columns.encoding, notes=notes)
    if labelled:
        raise DataError(f"{name} is one file of text: give two, SOURCE,TARGET, or a table with the columns of both.")
    return read_parallel(name, None, encoding=columns.encoding, skip_empty=settings.skip_empty, notes=notes)


def texts(examples: Iterable[TextExample]) -> Iterator[str]:
    """Both sides of all examples."""
    for example in examples:
        yield from _texts.texts([example])
        if isinstance(example.label, str):
            yield example.label


def sides(examples: Sequence[TextExample]) -> tuple[Iterator[str], Iterator[str]]:
    """The sources, and the targets: what two tokenizers are trained on."""
    return _texts.texts(examples), (str(example.label) for example in examples)


def labels(examples: Sequence[TextExample], settings: Config, where: str) -> tuple[str, ...]:
    """There are none."""
    return ()


def check_out(path: str | Path, columns: Columns) -> None:
    """Raise ConfigError, before work starts, for a file of predictions whose format isn't known."""
    if Path(path).suffix not in (".txt", ".jsonl", ".csv", ".tsv"):
        raise ConfigError(f"What is written goes into .txt (one a line), .jsonl, .csv or .tsv files, not into {path}.")


def write(path: str | Path, examples: Sequence[TextExample], predictions: Sequence[Written], columns: Columns) -> None:
    """One text a line (.txt; line ends within a text become spaces), or a table with ids, sources and scores."""
    if Path(path).suffix == ".txt":
        files.write_text(Path(path), "".join(" ".join(one.output.split()) + "\n" for one in predictions))
        return
    rows = [
        {"id": one.id, "source": one.text, "output": one.output, "log_prob": round(one.log_prob, 6)}
        for one in predictions
    ]
    _texts.write_table(path, rows)


class Task:
    """See ``_task.Task``; a task's own file has its name and its measures."""

    NAME: ClassVar[str]
    perplexity_of = NLL
    writes = True  # predictions take a search: while training, they are made only if a measure of them is asked for

    def __init__(self, reader: PairReader, settings: Config, labels: Sequence[str]) -> None:
        self.reader: Reader = reader
        self.pairs, self.settings = reader, settings
        reader.speak(settings.language, settings.source_language)
        self.labels: tuple[str, ...] = ()
        self.names: tuple[str, ...] = (SMOOTHED, NLL) if settings.smoothing else (NLL,)
        try:
            self.reads = {name for _, name, _, _ in Formatter().parse(settings.prompt) if name is not None}
        except ValueError:  # a brace alone
            self.reads = set()
        if "text" not in self.reads or not self.reads <= {"text", "pair"}:
            raise ConfigError(f"task.prompt has {{text}} and, perhaps, {{pair}} in it; got {settings.prompt!r}.")

    def heads(self) -> nn.ModuleDict:
        return nn.ModuleDict()

    def prepare(self, examples: Sequence[TextExample], heads: Heads, fresh: bool) -> None:
        """Nothing is taken from the examples."""

    def measure(self, gold: Sequence[str], given: Sequence[str]) -> Iterable[Measurement]:
        """The measures of what was written against what should have been."""
        raise NotImplementedError

    def encode(self, examples: Sequence[TextExample], where: str, *, learn: bool = False) -> Pairs:
        reader, prompt = self.pairs, self.settings.prompt
        if "pair" not in self.reads and (lost := next((one for one in examples if one.pair), None)):
            raise ConfigError(
                f"{where}: example {lost.id} has a second text, which task.prompt {prompt!r} doesn't read: put {{pair}} into it."
            )
        sources = [prompt.format(text=example.text, pair=example.pair or "") for example in examples]
        framed, cut = [], []
        for example, ids in zip(examples, reader.tokenizer.source.encode_batch(sources), strict=True):
            one, short = reader.source(ids, f"{where}: example {example.id}")
            framed.append(one)
            cut.append(short)
        if note := count_cut(cut, where, "sources"):
            tell(note)
        pairs = Pairs.of(framed, cut=cut)
        return self._with_targets(pairs, examples, where) if learn else pairs  # type: ignore[arg-type, return-value]

    def _with_targets(self, pairs: Pairs, examples: Sequence[TextExample], where: str) -> Pairs:
        if unknown := next((one for one in examples if not isinstance(one.label, str)), None):
            raise DataError(f"{where}: example {unknown.id} has no target: name the column that has it.")
        tokenizer = self.reader.tokenizer
        rows, cut = [], []
        for example, ids in zip(examples, tokenizer.encode_batch([str(one.label) for one in examples]), strict=True):
            row, short = self.pairs.target(ids, f"{where}: example {example.id}")
            rows.append((row, [0] * len(row)))
            cut.append(short)
        if note := count_cut(cut, where, "targets"):
            tell(note)
        targets = Encoded.of(rows, cut=cut)
        lost = 0 if tokenizer.unk_id is None else int((targets.ids == tokenizer.unk_id).sum())
        if lost > UNKNOWN * len(targets.ids):
            tell(
                f"{where}: {lost / len(targets.ids):.0%} of the target tokens aren't in the vocabulary and stand as unknown"
            )
        return Pairs(pairs.ids, pairs.segments, pairs.starts, pairs.examples, pairs.cut, None, targets)

    def batch(self, encoded: Encoded, which: Ints) -> Batch:
        assert isinstance(encoded, Pairs)
        made = encoded.batch(which, NLL, len(self.pairs.start))
        return Batch(made.tokens, dict.fromkeys(self.names, made.targets[NLL]), made.source)

    def terms(self, model: Any, heads: Heads, batch: Batch) -> dict[str, Term]:
        """The smoothed loss is what is learnt from; of held-out texts the plain one counts."""
        hidden, target = model(batch.tokens, batch.source), batch.targets[NLL]
        if not self.settings.smoothing:
            return {NLL: Term(-model.target_log_probs(hidden.states, target.at, target.value).sum(), target.count)}
        smoothing = self.settings.smoothing
        smoothed, plain = model.smoothed_log_probs(hidden.states, target.at, target.value, smoothing)
        learns = torch.is_grad_enabled()
        return {
            SMOOTHED: Term(-smoothed.sum(), target.count, weight=float(learns)),
            NLL: Term(-plain.sum(), target.count, weight=float(not learns)),
        }

    def predict(
        self,
        model: Any,
        heads: Heads,
        examples: Sequence[TextExample],
        advance: Advance | None = None,
        settings: Callable[[int], DecodeSettings] | None = None,
    ) -> list[Written]:
        """What is written from each example, as ``settings`` of the longest source's tokens say; None: the task's own."""
        if not examples:
            return []
        encoded = self.encode(examples, "the texts")
        sources = [
            encoded.ids[begin:end].tolist() for begin, end in zip(encoded.starts, encoded.starts[1:], strict=False)
        ]
        tokenizer, found = self.reader.tokenizer, [None] * len(examples)
        with _task.asking(model):
            how = (settings or self.decoding)(max(map(len, sources)))
            for places, batch in written(model, tokenizer, sources, how):
                for place, hypotheses in zip(places, batch, strict=True):
                    found[place] = hypotheses  # type: ignore[call-overload]
                if advance is not None:
                    advance(len(places))
        return [self._written(*each) for each in zip(examples, found, encoded.cut.tolist(), strict=True)]  # type: ignore[arg-type]

    def decoding(self, longest: int) -> DecodeSettings:
        """How predictions are written from sources of at most so many tokens."""
        own = self.settings
        most = 2 * longest + 20 if own.max_tokens is None else own.max_tokens
        opening = self.pairs.opening
        return DecodeSettings(
            beam=own.beam, length_penalty=own.length_penalty, max_tokens=most + len(opening), prefix=opening
        )

    def _written(self, example: TextExample, found: Sequence[Any], cut: bool) -> Written:
        tokenizer, before = self.reader.tokenizer, len(self.pairs.opening)
        best = tuple(
            Candidate(
                tokenizer.decode(
                    [token for token in one.ids[before:] if token != self.pairs.end], skip_special=True
                ).strip(),
                one.score,
                one.log_prob,
                len(one.ids),
            )
            for one in found
        )
        first = best[0] if best else Candidate("", 0.0, 0.0, 0)
        why = found[0].finished_by if found else "context"
        return Written(example.id, example.text, first.text, first.log_prob, why, cut, best)

    def measures(self, examples: Sequence[TextExample], predictions: Sequence[Written]) -> dict[str, Measurement]:
        gold = [str(example.label) for example in examples]
        return {one.name: one for one in self.measure(gold, [one.output for one in predictions])}

    def tune(self, examples: Sequence[TextExample], predictions: Sequence[Written]) -> Sequence[Written]:
        """Nothing to fix."""
        return predictions

    def saved(self, heads: Heads) -> Heads:
        return heads

    def told(self) -> dict[str, Any]:
        return _task.told(self, self.NAME)
