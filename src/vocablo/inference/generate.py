"""Generation: ask for the next token, write it down, and ask again, until ``<end>``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.base.random import seed_for
from vocablo.contract import DecodeState, LeftModel, Tokens
from vocablo.decoding.sampling import SamplingSettings, choose
from vocablo.inference.next import prompt_ids
from vocablo.text.tokenizer import Tokenizer

BROKEN = "\ufffd"  # how a decoder shows the first bytes of a character whose last ones are still to come


class GenerateSettings(SamplingSettings):
    """How much, how often, and where to stop, besides how to choose.

    ``window``: past the model's context, the last half of it is read again and generation goes on; without it, generation
    ends there. Either is said in the result.
    """

    max_tokens: int = Field(default=100, ge=1)
    samples: int = Field(default=1, ge=1)
    seed: int = 0
    stop: tuple[str, ...] = ()
    window: bool = False


@dataclass(frozen=True, slots=True)
class Generation:
    """One continuation. ``finished_by`` is ``end``, ``stop``, ``max_tokens`` or ``context``.

    ``text`` is what follows the prompt, without ``<end>`` and without the stop string. ``log_probs`` are the model's own (no
    temperature, no filter), in nats. ``dropped`` counts tokens that slid out of the window.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finished_by: str
    dropped: int = 0


def generate(model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings) -> list[Generation]:
    """``settings.samples`` continuations. Sample i of a seed is the same however many are asked for.

    Raises ConfigError for a prompt that leaves no room in the context, unless ``window`` is set.
    """
    writer = _Writer(model, tokenizer, prompt, settings)
    for _ in writer.steps():
        pass
    return [writer.result(row) for row in range(settings.samples)]


def stream(model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings) -> Iterator[str]:
    """The text of one continuation piece by piece, as soon as no stop string can begin in it and no character is broken."""
    if settings.samples != 1:
        raise ConfigError(f"Only one continuation can be streamed; got samples = {settings.samples}.")
    writer = _Writer(model, tokenizer, prompt, settings)
    shown = 0
    for _ in writer.steps():
        text = writer.text(0)
        safe = len(text) - held_back(text, settings.stop)
        if text.endswith(BROKEN):
            safe = min(safe, len(text.rstrip(BROKEN)))
        if safe > shown:
            yield text[shown:safe]
            shown = safe
    if rest := writer.result(0).text[shown:]:
        yield rest


def held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the text's end may be the beginning of a stop string."""
    return max(
        (n for stop in stops for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])), default=0
    )


class _Writer:
    """The loop: rows are samples; those that are finished leave the batch."""

    def __init__(self, model: LeftModel, tokenizer: Tokenizer, prompt: str, settings: GenerateSettings) -> None:
        if any(not stop for stop in settings.stop):
            raise ConfigError("A stop string can't be empty.")
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.prompt = prompt_ids(tokenizer, prompt)
        if not self.prompt:
            raise ConfigError("An empty prompt needs a tokenizer with a boundary token; give a prompt.")
        self.dropped = 0
        if model.context is not None and len(self.prompt) >= model.context and not settings.window:
            raise ConfigError(
                f"The prompt has {len(self.prompt)} tokens and the model reads at most {model.context}: shorten it, or let the "
                "window slide (--window)."
            )
        count = settings.samples
        self.ids: list[list[int]] = [[] for _ in range(count)]
        self.log_probs: list[list[float]] = [[] for _ in range(count)]
        self.finished = ["max_tokens"] * count
        self.cut: list[int | None] = [None] * count  # where a stop string begins in the text
        self.generators = [
            torch.Generator().manual_seed(seed_for(settings.seed, "sample", row)) for row in range(count)
        ]

    @torch.inference_mode()
    def steps(self) -> Iterator[None]:
        """Yields after each step of all rows that are still going."""
        live = list(range(self.settings.samples))
        logits, state = self._read(live[:1])
        rows = torch.zeros(len(live), dtype=torch.long)
        if len(live) > 1:
            logits, state = logits.index_select(0, rows), state.select(rows)
        for number in range(self.settings.max_tokens):
            seen = (
                [self.prompt + self.ids[row] for row in live]
                if self.settings.repetition_penalty != 1.0
                else [()] * len(live)
            )
            chosen = choose(logits, seen, self.settings, [self.generators[row] for row in live])
            picked = (logits.gather(1, chosen[:, None]).squeeze(1) - logits.logsumexp(dim=1)).tolist()
            going = []
            for place, (row, index) in enumerate(zip(live, chosen.tolist(), strict=True)):
                self.ids[row].append(index)
                self.log_probs[row].append(picked[place])
                if not self._ends(row, index):
                    going.append(place)
            yield
            if not going or number + 1 == self.settings.max_tokens:
                return
            if len(going) < len(live):
                at = torch.tensor(going)
                live, chosen, state = [live[place] for place in going], chosen.index_select(0, at), state.select(at)
            if self._full(live):
                if not self.settings.window:
                    for row in live:
                        self.finished[row] = "context"
                    return
                logits, state = self._read(live)
            else:
                logits, state = self.model.extend(Tokens.of(chosen[:, None]), state)

    def _full(self, live: list[int]) -> bool:
        context = self.model.context
        return context is not None and len(self.prompt) + len(self.ids[live[0]]) - self.dropped > context

    def _read(self, live: list[int]) -> tuple[Tensor, DecodeState]:
        """Read each row from its beginning, or from half a context back when it doesn't fit."""
        context = self.model.context
        rows = [self.prompt + self.ids[row] for row in live]
        if context is not None and len(rows[0]) >= context:
            kept = max(1, context // 2)
            self.dropped = len(rows[0]) - kept
            rows = [row[-kept:] for row in rows]
        return self.model.extend(Tokens.of(rows), None)

    def _ends(self, row: int, index: int) -> bool:
        if index == self.tokenizer.end_id:
            self.finished[row] = "end"
            return True
        if self.settings.stop:
            text = self._decoded(row)
            places = [at for stop in self.settings.stop if (at := text.find(stop)) >= 0]
            if places:
                self.finished[row], self.cut[row] = "stop", min(places)
                return True
        return False

    def _decoded(self, row: int) -> str:
        ids = self.ids[row]
        if ids and ids[-1] == self.tokenizer.end_id:
            ids = ids[:-1]
        before = self.tokenizer.decode(self.prompt, skip_special=True)
        return self.tokenizer.decode(self.prompt + ids, skip_special=True)[len(before) :]

    def text(self, row: int) -> str:
        """What a row has written so far."""
        text = self._decoded(row)
        return text if self.cut[row] is None else text[: self.cut[row]]

    def result(self, row: int) -> Generation:
        ids = self.ids[row]
        return Generation(
            self.text(row),
            tuple(self.tokenizer.surface(index) for index in ids),
            tuple(ids),
            tuple(self.log_probs[row]),
            self.finished[row],
            self.dropped,
        )
