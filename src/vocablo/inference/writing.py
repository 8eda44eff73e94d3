"""What a model that reads a source and writes a target can be asked, fine-tuned for a task or as it is published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocablo.base import config, registry
from vocablo.base.errors import ConfigError, nearest
from vocablo.base.progress import Progress
from vocablo.base.random import generator
from vocablo.checkpoint import Loaded, generation
from vocablo.contract import Tokens
from vocablo.data.examples import TextExample
from vocablo.data.order import by_length
from vocablo.decoding.rules import Rules
from vocablo.decoding.sampling import choose
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import Ones, from_sources
from vocablo.decoding.text import TextStream
from vocablo.inference import attend as looking
from vocablo.inference.attend import Attention
from vocablo.inference.finetuned import TASKS, examples_of, predicted, predicted_file
from vocablo.inference.phrases import as_tokens
from vocablo.inference.reading import asking, device_of
from vocablo.inference.score import Score
from vocablo.inference.verbs import Asked
from vocablo.measures.likelihood import Likelihood
from vocablo.tasks._pairs import PairReader
from vocablo.tasks._reading import ReadSettings
from vocablo.tasks._text_to_text import Candidate, Written
from vocablo.text.words import count_words


@dataclass(frozen=True, slots=True)
class ConditionalScore(Score):
    """log p(text | source), in nats, token by token, its end among them."""

    source: str = ""

    @property
    def kind(self) -> str:
        """Scores of different kinds are not comparable, nor are those given different sources."""
        return "conditional"


class WritingModel(Asked):
    """A model that reads one text and writes another."""

    what = "a model that writes a text from a source"
    also = ("stream", "language")

    def __init__(self, loaded: Loaded, name: str | None, task: Any) -> None:
        super().__init__(loaded.model, loaded.tokenizer)  # type: ignore[arg-type]
        self.heads, self.task, self.name = loaded.heads, task, name
        self.module = registry.load(TASKS, name or "translate")

    def generate(self, prompt: str | Sequence[str], **settings: Any) -> list[Any]:
        """What is written from each source; ``settings`` are the fields of ``DecodeSettings``, and ``samples`` and ``seed``.

        ``include``, ``exclude`` and ``prefix`` may be given as text. Each result has the ``n_best`` under ``best``. Without a
        beam each token is drawn, unless the settings (``greedy``) leave nothing to chance.
        """
        samples, seed = int(settings.pop("samples", 1)), int(settings.pop("seed", 0))
        texts = [prompt] if isinstance(prompt, str) else list(prompt)
        chosen = self._settings(settings, 1)
        if chosen.searches or chosen.deterministic:
            if samples > 1:
                raise ConfigError("Nothing is left to chance here, and samples would be all the same: use n_best.")
            return self._write(texts, settings)
        return [self._sample(text, settings, seed, number) for text in texts for number in range(samples)]

    def stream(self, prompt: str, **settings: Any) -> Iterator[str]:
        """One text, piece by piece, each token drawn as the sampling settings say (greedy: the most probable one)."""
        seed, samples = int(settings.pop("seed", 0)), int(settings.pop("samples", 1))
        if samples != 1:
            raise ConfigError(f"Only one sample can be streamed; samples is {samples}.")
        source = self._sources([prompt])[0]
        chosen = self._settings(settings, len(source))
        if chosen.searches:
            raise ConfigError(f"A text is known only when the search ends: beam {chosen.beam} can't be streamed.")
        stream = TextStream(self.tokenizer.decode, [])
        drawn = self._drawn(source, chosen, generator(seed, "sample", 0))
        for token in islice(drawn, len(self.task.reader.opening), None):
            yield stream.feed(token)
        yield stream.flush()

    def language(self, target: str | None = None, source: str | None = None) -> WritingModel:
        """Choose, of a model of many languages (mBART, M2M100), which one is written and which is read, and return it.

        A language is a token of the tokenizer (es_XX, __es__) or its code (es). Raises ConfigError for one that isn't known.
        """
        self.task.reader.speak(target, source)
        return self

    def translate(self, texts: str | Sequence[str], **settings: Any) -> list[Any]:
        """The translation of each text; ``settings`` as ``generate``'s."""
        self._need("translate")
        return self._write(texts, settings)

    def summarize(self, texts: str | Sequence[str], **settings: Any) -> list[Any]:
        """The summary of each text; ``settings`` as ``generate``'s."""
        self._need("summarize")
        return self._write(texts, settings)

    def score(self, sources: str | Sequence[str], targets: str | Sequence[str]) -> list[ConditionalScore]:
        """log p of each target given its source, in nats, its end included."""
        sources = [sources] if isinstance(sources, str) else list(sources)
        targets = [targets] if isinstance(targets, str) else list(targets)
        if len(sources) != len(targets):
            raise ConfigError(f"There are {len(sources)} sources and {len(targets)} targets: give one for each.")
        read, rows = self._sources(sources), self._targets(targets)
        found = self._log_probs(read, rows)
        return [self._score(*each) for each in zip(sources, targets, rows, found, strict=True)]

    def attend(
        self,
        text: str,
        second: str | None = None,
        *,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> Attention:
        """Which source tokens each target token was written from; ``second`` is the target (None: what the model writes)."""
        room, read = self.task.reader.target_room, self._sources([text])
        fits = {} if room is None else {"max_tokens": min(room, self.task.decoding(len(read[0])).max_tokens)}
        target = self._write([text], fits)[0].output if second is None else second
        row = self._targets([target])[0]
        device, start = device_of(self.model), len(self.task.reader.start)
        tokens, source = Tokens.of([row[:-1]], device), Tokens.of(read, device)
        found = looking.attend_across(self.model, self.tokenizer, tokens, source, layers=layers, heads=heads)
        written = looking.spelled(self.tokenizer, row[start:])
        return replace(found, tokens=written, weights=found.weights[:, :, start - 1 :])

    def predict(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> list[Any]:
        """What is written from each text, or from each pair where the task's prompt has two."""
        return predicted(self, examples_of(texts, pairs))

    def predict_file(
        self,
        path: str | Path,
        out: str | Path | None = None,
        *,
        columns: Mapping[str, Any] | None = None,
        quiet: bool = True,
    ) -> list[Any]:
        """What is written from each source of a file: as ``TaskModel.predict_file``."""
        return predicted_file(self, path, out, columns=columns, quiet=quiet)

    def _write(self, texts: str | Sequence[str], given: dict[str, Any]) -> list[Any]:
        examples = examples_of(texts, None)
        with Progress("write", len(examples), "texts", quiet=len(examples) < 100) as progress:
            settings = partial(self._settings, given)
            return self.task.predict(self.model, self.heads, examples, progress.advance, settings)

    def _settings(self, given: dict[str, Any], longest: int) -> DecodeSettings:
        """The task's own settings, and what is given beside them; those of sampling that say nothing are left out."""
        own = {
            k: v for k, v in self.task.decoding(longest).model_dump(exclude_defaults=True).items() if k != "searches"
        }
        if self.name is None:
            own |= generation.settings(self.model)
        asked = {
            key: value for key, value in given.items() if value is not None and (key not in ("stop", "window") or value)
        }
        unknown = [key for key in asked if key not in DecodeSettings.model_fields]
        if unknown:
            raise ConfigError(
                f"A text written from a source has no setting {unknown[0]!r}{nearest(unknown[0], DecodeSettings.model_fields)}"
            )
        asked = as_tokens(self.tokenizer, asked)
        for name in ("prefix", "exclude"):  # what the model itself needs stays
            asked |= {name: (*own[name], *asked[name])} if name in asked and name in own else {}
        return config.build(DecodeSettings, own | asked, "generate")

    def _sample(self, text: str, given: dict[str, Any], seed: int, number: int) -> Written:
        """One drawn text; sample i of a seed is the same however many there are."""
        source = self._sources([text])[0]
        settings = self._settings(given, len(source))
        ids = list(self._drawn(source, settings, generator(seed, "sample", number)))
        room, before = self.task.reader.target_room, len(self.task.reader.opening)
        limit = settings.max_tokens if room is None else min(settings.max_tokens, before + room + 1)
        output = self.tokenizer.decode(ids[before:], skip_special=True).strip()
        ended = len(ids) < limit
        row: list[int] = [*self.model.start, *ids, *([self.task.reader.end] if ended else ())]
        log_prob = sum(self._log_probs([source], [row])[0])
        why = "end" if ended else "max_tokens" if limit == settings.max_tokens else "context"
        candidate = Candidate(output, log_prob, log_prob, len(ids) + ended)
        return Written(str(number), text, output, log_prob, why, False, (candidate,))

    def _drawn(self, source: list[int], settings: DecodeSettings, draws: Any) -> Iterator[int]:
        device, ones = device_of(self.model), Ones()
        with asking(self.model):
            start = from_sources(self.model, Tokens.of([source], device))
            logits, state, history = start.logits, start.state, start.history
            limit = settings.max_tokens if start.room is None else min(settings.max_tokens, start.room)
            rules = Rules(settings, self.tokenizer.end_id, limit) if settings.constrained else None
            for step in range(limit):
                if step < len(settings.prefix):
                    chosen = torch.tensor(settings.prefix[step : step + 1], device=device)
                else:
                    scores = logits.float()
                    scores = scores if rules is None else rules.edit(scores, history, step)
                    chosen = choose(scores, history, settings, torch.from_numpy(draws.random(1)).to(device))
                if int(chosen) == self.tokenizer.end_id:
                    return
                yield int(chosen)
                if step + 1 == limit:
                    return
                history = torch.cat([history, chosen[:, None]], 1)
                logits, state = start.extend(ones(chosen), state)

    def _log_probs(self, read: list[list[int]], rows: list[list[int]]) -> list[list[float]]:
        """log p of each token of rows, from behind the start on, given the sources."""
        start, device = len(self.task.reader.start), device_of(self.model)
        found: list[Any] = [None] * len(rows)
        with asking(self.model):
            for places in by_length(
                [len(row) for row in rows], [len(a) + len(b) for a, b in zip(read, rows, strict=True)]
            ):
                tokens = Tokens.of([rows[place][:-1] for place in places], device)
                states = self.model.forward(tokens, Tokens.of([read[place] for place in places], device)).states
                lengths = tokens.fences.lengths
                at = [
                    first + step
                    for first, n in zip(tokens.fences.starts(), lengths, strict=False)
                    for step in range(start - 1, n)
                ]
                ids = [token for place in places for token in rows[place][start:]]
                logs = self.model.target_log_probs(
                    states, torch.tensor(at, device=device), torch.tensor(ids, device=device)
                ).tolist()
                for place in places:
                    count = len(rows[place]) - start
                    found[place], logs = logs[:count], logs[count:]
        return found

    def _sources(self, texts: Sequence[str]) -> list[list[int]]:
        encoded = self.task.encode([TextExample(str(place), text) for place, text in enumerate(texts)], "the texts")
        return [encoded.ids[a:b].tolist() for a, b in zip(encoded.starts, encoded.starts[1:], strict=False)]

    def _targets(self, texts: Sequence[str]) -> list[list[int]]:
        ids, reader = self.tokenizer.encode_batch(list(texts)), self.task.reader
        room = reader.target_room
        for number, row in enumerate(ids):
            if room is not None and len(row) > room:
                raise ConfigError(
                    f"Target {number} has {len(row)} tokens and the model writes at most {room}: shorten it."
                )
        return [[*reader.start, *row, reader.end] for row in ids]

    def _score(self, source: str, target: str, row: list[int], logs: list[float]) -> ConditionalScore:
        ids = row[len(self.task.reader.start) :]
        unknown = sum(token == self.tokenizer.unk_id for token in ids)
        total = float(np.sum(logs))
        exact = self.tokenizer.decode(ids[:-1]) == target
        likelihood = Likelihood(
            total, len(ids), count_words(target) + 1, len(target.encode()), unknown, exact, "conditional"
        )
        names = [self.tokenizer.surface(token) for token in ids]
        return ConditionalScore(target, names, ids, logs, [], likelihood, "given the source", source=source)  # type: ignore[arg-type]

    def _lacking(self) -> dict[str, str]:
        verbs = {"translate": "translate", "summarize": "summarize"}
        return (
            {}
            if self.name is None
            else {verb: f"a model for {name}" for verb, name in verbs.items() if name != self.name}
        )


def writing(loaded: Loaded, where: str | Path, named: tuple[str, Any] | None) -> WritingModel:
    """A loaded model that writes from a source: for its task, or, of one that names none, as it is.

    Raises ConfigError where nothing says which token a target starts from.
    """
    if not loaded.model.start:
        raise ConfigError(
            f"{where} doesn't say which token a target starts from: config.json needs decoder_start_token_id."
        )
    if named is not None:
        return WritingModel(loaded, *named)
    module = registry.load(TASKS, "translate")
    reader = PairReader(loaded.model, loaded.tokenizer, ReadSettings())  # type: ignore[arg-type]
    return WritingModel(loaded, None, module.Task(reader, module.Config(), ()))
