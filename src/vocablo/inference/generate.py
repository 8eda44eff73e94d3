"""Text that a model writes: one protocol for every family, token by token until ``<end>``.

The prompt is read once, for one row; its state is copied for the samples, and every step reads one token of each. Sample
i of a seed is the same however many samples are drawn beside it. With a beam, the text is searched for (``decoding/beam``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.base.random import generator
from vocablo.contract import LeftModel
from vocablo.decoding.beam import Hypothesis, search
from vocablo.decoding.rules import Rules
from vocablo.decoding.sampling import choose
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import Ones, after_prompts
from vocablo.decoding.text import StopStrings, TextStream
from vocablo.inference.reading import asking, device_of, flat, prompt_ids
from vocablo.text.tokenizer import Tokenizer


class GenerateSettings(DecodeSettings):
    """How much is written, and how each token is chosen or the text searched for (``DecodeSettings``).

    ``stop``: strings at which a text ends; they aren't part of it. ``window``: when the text outgrows the model's context,
    its last three quarters of a context are read again and it goes on from there; without it, the text ends. With a beam
    there are ``n_best`` texts, and neither samples nor stop strings nor a window.
    """

    samples: int = Field(default=1, ge=1)
    seed: int = 0
    stop: tuple[str, ...] = ()
    window: bool = False

    @model_validator(mode="after")
    def _one_way(self) -> GenerateSettings:
        if self.searches:
            asked = {"samples": self.samples > 1, "stop": bool(self.stop), "window": self.window}
            wrong = next((name for name, is_asked in asked.items() if is_asked), None)
            if wrong is not None:
                hint = "use n_best" if wrong == "samples" else "it is for texts written token by token"
                raise ValueError(f"beam {self.beam} and {wrong} don't go together: {hint}")
        return self


@dataclass(frozen=True, slots=True)
class Generation:
    """A continuation of a prompt.

    ``text`` has neither the prompt nor ``<end>`` nor the stop string; ``tokens``, ``ids`` and ``log_probs`` (nats, of the model
    itself: before temperature, penalties and filters) have every token that was generated, ``<end>`` too. ``finished_by``
    is ``end``, ``stop``, ``max_tokens`` or ``context`` (the model reads no more). ``dropped``: how many tokens of the
    text's beginning the last token was chosen without, because of ``window``. ``score``: what a beam search ranks it by.
    """

    prompt: str
    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finished_by: str
    dropped: int
    score: float | None = None

    @property
    def log_prob(self) -> float:
        """log p(continuation | prompt), by the chain rule."""
        return sum(self.log_probs)


def generate(
    model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings | None = None
) -> list[Generation]:
    """``settings.samples`` continuations, or the ``n_best`` of a beam, best first.

    Raises ConfigError for a prompt over the context, unless ``settings.window``, and for a beam wider than the vocabulary.
    """
    settings = settings or GenerateSettings()
    settings.fits(model.vocab, tokenizer.end_id)
    if settings.searches:
        return _searched(model, tokenizer, prompt, settings)
    writing = _Writing(model, tokenizer, prompt, settings)
    while writing.going:
        writing.step()
    return [_generation(tokenizer, prompt, one) for one in writing.samples]


def stream(
    model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings | None = None
) -> Iterator[str]:
    """One continuation in pieces that, joined, are its text. Characters are whole, and no stop string shows up in part."""
    settings = settings or GenerateSettings()
    if settings.samples != 1:
        raise ConfigError(f"Only one sample can be streamed; samples is {settings.samples}.")
    if settings.searches:
        raise ConfigError(f"A text is known only when the search ends: beam {settings.beam} can't be streamed.")
    settings.fits(model.vocab, tokenizer.end_id)
    return _pieces(_Writing(model, tokenizer, prompt, settings))


def _pieces(writing: _Writing) -> Iterator[str]:
    sample = writing.samples[0]
    shown = 0
    while writing.going:
        writing.step()
        if len(sample.text) > shown:
            yield sample.text[shown:]
            shown = len(sample.text)


def _searched(model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings) -> list[Generation]:
    ids = prompt_ids(model, tokenizer, prompt)
    with asking(model):
        (found,) = search(after_prompts(model, [ids], device_of(model)), settings, tokenizer.end_id)
    before = ids[0 if tokenizer.end_id is None else 1 :]
    return [_written(tokenizer, prompt, before, one) for one in found]


def _written(tokenizer: Tokenizer, prompt: str, before: list[int], found: Hypothesis) -> Generation:
    """A hypothesis as text."""
    stream = TextStream(tokenizer.decode, before)
    words = found.ids[:-1] if found.finished_by == "end" else found.ids
    text = "".join([*map(stream.feed, words), stream.flush()])
    tokens = tuple(tokenizer.surface(token) for token in found.ids)
    return Generation(prompt, text, tokens, found.ids, found.log_probs, found.finished_by, 0, found.score)


class _Sample:
    """One continuation while it is written."""

    def __init__(self, number: int, tokenizer: Tokenizer, before: list[int], settings: GenerateSettings) -> None:
        self.random = generator(settings.seed, "sample", number)
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.text = ""
        self.finished_by = ""
        self.dropped = 0
        self.end, self.limit = tokenizer.end_id, settings.max_tokens
        self.stream = TextStream(tokenizer.decode, before)
        self.stops = StopStrings(settings.stop)

    def add(self, token: int, log_prob: float) -> None:
        self.ids.append(token)
        self.log_probs.append(log_prob)
        if token == self.end:
            return self.finish("end")
        piece, stopped = self.stops.feed(self.stream.feed(token))
        self.text += piece
        if stopped:
            self.finished_by = "stop"
        elif len(self.ids) == self.limit:
            self.finish("max_tokens")

    def finish(self, why: str) -> None:
        """No token follows: what was held back is part of the text, unless it completes a stop string."""
        piece, stopped = self.stops.feed(self.stream.flush())
        self.text += piece + self.stops.flush()
        self.finished_by = "stop" if stopped else why


class _Writing:
    """The samples of one prompt. ``rows`` are those still being written, in the order of the state's rows."""

    def __init__(self, model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings) -> None:
        self.model, self.settings, self.device = model, settings, device_of(model)
        self.prompt = prompt_ids(model, tokenizer, prompt)
        if model.context is not None and len(self.prompt) > model.context and not settings.window:
            raise ConfigError(
                f"The prompt has {len(self.prompt)} tokens and the model reads {model.context}: "
                "shorten it, or pass --window (window=True) to go on from its last part."
            )
        before = self.prompt[0 if tokenizer.end_id is None else 1 :]
        self.rules = Rules(settings, tokenizer.end_id, settings.max_tokens) if settings.constrained else None
        self.samples = [_Sample(number, tokenizer, before, settings) for number in range(settings.samples)]
        self.rows = list(self.samples)
        self.ones = Ones()
        self.state: Any = None
        self.read = 0  # tokens that the state has read

    @property
    def going(self) -> bool:
        return bool(self.rows)

    def step(self) -> None:
        """One more token of each row."""
        with asking(self.model):
            logits = self._logits().float()
            scores = logits if self.rules is None else self._ruled(logits)
            chosen = choose(scores, self._history(), self.settings, self._draws())
            log_probs = (logits.gather(1, chosen[:, None]).squeeze(1) - logits.logsumexp(1)).tolist()
            for sample, token, log_prob in zip(self.rows, chosen.tolist(), log_probs, strict=True):
                sample.add(token, log_prob)
            self._keep([number for number, sample in enumerate(self.rows) if not sample.finished_by])

    def _ruled(self, logits: Float[Tensor, "B V"]) -> Float[Tensor, "B V"]:
        """Scores with what may not come ruled out; those of the model stay as they are."""
        assert self.rules is not None
        read = torch.tensor([[*self.prompt, *sample.ids] for sample in self.rows], device=self.device)
        return self.rules.edit(logits.clone(), read, len(self.rows[0].ids))

    def _logits(self) -> Float[Tensor, "B V"]:
        """Scores after the last token of each row."""
        if self.state is None:
            return self._begin()
        if self.model.context is not None and self.read == self.model.context:
            return self._again()
        ids = torch.tensor([sample.ids[-1] for sample in self.rows], device=self.device)
        logits, self.state = self.model.extend(self.ones(ids), self.state)
        self.read += 1
        return logits

    def _begin(self) -> Float[Tensor, "B V"]:
        """Read the prompt once, and copy what it left behind for every sample."""
        if self.model.context is not None and len(self.prompt) > self.model.context:
            return self._again()
        logits, state = self.model.extend(flat([np.array(self.prompt)], self.device), None)
        self.read, count = len(self.prompt), len(self.rows)
        if count > 1:
            state, logits = (
                state.select(torch.zeros(count, dtype=torch.long, device=self.device)),
                logits.expand(count, -1),
            )
        self.state = state
        return logits

    def _again(self) -> Float[Tensor, "B V"]:
        """Read the last part of each text afresh, with room for more behind it."""
        assert self.model.context is not None
        size = max(self.model.context * 3 // 4, 1)
        texts = [np.array([*self.prompt, *sample.ids]) for sample in self.rows]
        for sample, text in zip(self.rows, texts, strict=True):
            sample.dropped = len(text) - size
        logits, self.state = self.model.extend(flat([text[-size:] for text in texts], self.device), None)
        self.read = size
        return logits

    def _keep(self, going: list[int]) -> None:
        """Go on with these rows only; end them where the model can't read on."""
        if self.read == self.model.context and not self.settings.window:
            for number in going:
                self.rows[number].finish("context")
            going = []
        if len(going) < len(self.rows):
            self.rows = [self.rows[number] for number in going]
            if going:
                self.state = self.state.select(torch.tensor(going, device=self.device))

    def _history(self) -> Tensor | None:
        if self.settings.repetition_penalty == 1:
            return None
        return torch.tensor([[*self.prompt, *sample.ids] for sample in self.rows], device=self.device)

    def _draws(self) -> Tensor | None:
        if self.settings.deterministic:
            return None
        return torch.tensor([sample.random.random() for sample in self.rows], dtype=torch.float64, device=self.device)


def _generation(tokenizer: Tokenizer, prompt: str, sample: _Sample) -> Generation:
    tokens = tuple(tokenizer.surface(token) for token in sample.ids)
    ids, log_probs = tuple(sample.ids), tuple(sample.log_probs)
    return Generation(prompt, sample.text, tokens, ids, log_probs, sample.finished_by, sample.dropped)
