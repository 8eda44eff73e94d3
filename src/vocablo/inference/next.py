"""What comes next: the most probable tokens, and the most probable words with all their token paths summed.

A word's probability is the sum over the token paths that spell it, each up to where the word ends: the next token opens
another word or mark, is white space, or is ``<end>`` (``text.words.WordTable``). Paths are followed best first, and what was
not followed is returned as a bound. What the question is:

* The prompt's last word is finished: after "en el" the words after "el" are asked for, not "ella". Probabilities are
  those given that, and ``finished`` is how probable the model thought it. So tokenizers of all kinds answer the same question.
* A space at the prompt's end belongs to the next word, since most tokenizers have it there (a lone space token before a
  word is a path that a model has hardly seen). It is taken off, and the paths have to begin with it.
* Punctuation and ``<end>`` are words too.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError
from vocablo.contract import LeftModel
from vocablo.inference.reading import Floats, asking, device_of, flat, prompt_ids
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import word_like
from vocablo.views.svg import Bar, bars

BUDGET = 2000  # paths that are read for one question at most
FLOOR = 1e-7  # paths less probable than this aren't kept
ENOUGH = 0.1  # no path over this share of the k-th word's probability is left unread
ENOUGH_NAMED = 1e-3
ROW_TOKENS = 4096  # tokens in the copies of the prompt's state that are held at a time

Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token as a person sees it, its id and its probability."""

    token: str
    id: int
    prob: float


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The most probable tokens after a prompt, the best first."""

    prompt: str
    tokens: tuple[NextToken, ...]

    def _repr_html_(self) -> str:
        return bars([Bar(one.token, one.prob) for one in self.tokens], title=self.prompt)


@dataclass(frozen=True, slots=True)
class NextWord:
    """A word, its probability and the tokens of its most probable path.

    ``known`` is False for a candidate with a part that the vocabulary can't spell: its probability of 0 says no more than that.
    """

    word: str
    prob: float
    tokens: tuple[str, ...]
    known: bool = True


@dataclass(frozen=True, slots=True)
class NextWords:
    """Words after a prompt, the most probable first.

    ``left_out``: at most so much probability is missing, in all words of the language together, because paths were not
    followed. ``finished``: the probability that the prompt's last word ends where the prompt does, which is given here.
    """

    prompt: str
    words: tuple[NextWord, ...]
    left_out: float
    finished: float

    def _repr_html_(self) -> str:
        return bars([Bar(one.word, one.prob) for one in self.words], title=self.prompt)


def next_tokens(model: LeftModel, tokenizer: Tokenizer, prompt: str, k: int = 10) -> NextTokens:
    """The k most probable next tokens. Raises ConfigError for a prompt over the model's context."""
    probs = _Reader(model, tokenizer, prompt).first
    best = np.argsort(-probs, kind="stable")[: _positive(k)].tolist()
    return NextTokens(prompt, tuple(NextToken(tokenizer.surface(token), token, float(probs[token])) for token in best))


def next_words(
    model: LeftModel,
    tokenizer: Tokenizer,
    prompt: str,
    k: int = 10,
    among: Sequence[str] | None = None,
    *,
    budget: int = BUDGET,
) -> NextWords:
    """The k most probable next words; or the candidates ``among`` (words, or phrases of several), all of them.

    ``budget``: how many token paths are read at most. A candidate that the vocabulary can't spell has probability 0.
    Raises ConfigError for a prompt over the model's context.
    """
    _positive(k)
    tables = _Tables.of(tokenizer)
    asked = prompt[:-1] if prompt.endswith(" ") and tables.led.any() else prompt
    reader = _Reader(model, tokenizer, asked)
    allowed = _allowed(tables, asked, asked != prompt)
    finished = float(reader.first[allowed].sum())
    if finished <= 0:
        raise ConfigError(f"The model gives no probability to a word that ends where the prompt {prompt!r} does.")
    reader.first = np.where(allowed, reader.first / finished, 0.0)
    if among is None:
        search = _Search(reader, tables, k, budget)
        search.run()
        found, left_out = search.best(), search.left_out
    elif tables.single:
        found, left_out = _spelled_out(reader, tables, among), 0.0
    else:
        named = _Named(reader, tables, asked, among, budget)
        named.run()
        found, left_out = named.best(), named.left_out
    unknown = (
        tokenizer.unk_id if among is not None else None
    )  # among all words, the unknown one is a word as the others
    words = tuple(
        NextWord(word, prob, tuple(map(tokenizer.surface, path)), unknown is None or unknown not in path)
        for word, prob, path in found
    )
    return NextWords(prompt, words, left_out, finished)


def _positive(k: int) -> int:
    if k < 1:
        raise ConfigError(f"k is at least 1; got {k}.")
    return k


@dataclass(frozen=True, slots=True)
class _Tables:
    """What the search needs of every token: bool [V] each, and its bytes, with a space where a lost one has to be."""

    tokenizer: Tokenizer
    data: list[bytes]
    joins: NDArray[np.bool_]  # goes on with the word before it
    space: NDArray[np.bool_]
    led: NDArray[np.bool_]  # begins with a space
    open: NDArray[np.bool_]  # a word that ends in it may go on
    apart: bool  # the white space between tokens is lost
    single: bool  # a word is one token, so there is one way to spell it

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> _Tables:
        joins, special = tokenizer.words.joins, tokenizer.special_ids
        going = joins.any()
        surfaces = tokenizer.surfaces
        apart = tokenizer.spelling in ("words", "wordpiece")
        led = np.array([not apart and one.startswith(" ") for one in surfaces])
        opens = np.array([going and i not in special and _in_word(one) for i, one in enumerate(surfaces)])
        data = tokenizer.token_bytes
        if apart:
            data = [one if joined else b" " + one for one, joined in zip(data, joins.tolist(), strict=True)]
        single = tokenizer.spelling == "words"
        return cls(tokenizer, data, joins, tokenizer.words.space, led, opens, apart, single)


def _in_word(text: str) -> bool:
    """Whether a text ends within a word, by the rule of ``WordTable``: then what joins it is a part of that word."""
    return bool(text) and word_like(text[-1])


def _allowed(tables: _Tables, prompt: str, led: bool) -> NDArray[np.bool_]:
    """The tokens that can follow: those with the space that was taken off the prompt, or else no part of its last word."""
    if led:
        return tables.led
    if tables.apart or _in_word(prompt):
        return ~tables.joins
    return np.ones(len(tables.joins), dtype=bool)


class _Reader:
    """Probabilities of the next token after a prompt (``first``), and after the prompt and a path."""

    def __init__(self, model: LeftModel, tokenizer: Tokenizer, prompt: str) -> None:
        self.model, self.device = model, device_of(model)
        self.ids = np.array(prompt_ids(model, tokenizer, prompt))
        if model.context is not None and len(self.ids) > model.context:
            raise ConfigError(
                f"The prompt has {len(self.ids)} tokens and the model reads {model.context}: shorten the prompt."
            )
        self.room = None if model.context is None else model.context - len(self.ids)
        self.rows = max(4, min(64, ROW_TOKENS // len(self.ids)))
        with asking(model):
            logits, self.state = model.extend(flat([self.ids], self.device), None)
            self.first = _probabilities(logits)[0]

    def fits(self, path: Path) -> bool:
        return self.room is None or len(path) <= self.room

    def after(self, paths: Sequence[Path]) -> Iterator[tuple[int, Floats]]:
        """For each path, its place in ``paths`` and the probabilities [V] after it. Paths of a length are read together."""
        order = sorted(range(len(paths)), key=lambda place: len(paths[place]))
        for _, places in itertools.groupby(order, key=lambda place: len(paths[place])):
            alike = list(places)
            for group in (alike[start : start + self.rows] for start in range(0, len(alike), self.rows)):
                with asking(self.model):
                    copies = self.state.select(torch.zeros(len(group), dtype=torch.long, device=self.device))
                    tokens = flat([np.array(paths[place]) for place in group], self.device)
                    probs = _probabilities(self.model.extend(tokens, copies)[0])
                yield from zip(group, probs, strict=True)


def _probabilities(logits: torch.Tensor) -> Floats:
    return logits.double().softmax(1).cpu().numpy()


@dataclass(order=True)
class _Open:
    """A path that may go on, with the text that it spells; ``before``: no word has begun yet."""

    key: float  # minus the probability: the heap gives the most probable first
    path: Path
    text: bytes = field(compare=False)
    before: bool = field(compare=False)


class _Best:
    """Best-first search over token paths; subclasses say what follows a path that was read."""

    enough = ENOUGH

    def __init__(self, reader: _Reader, tables: _Tables, budget: int) -> None:
        self.reader, self.tables, self.budget = reader, tables, budget
        self.heap: list[_Open] = []
        self.dropped = 0.0
        self.found: dict[str, tuple[float, float, Path]] = {}  # word: all paths, the best path's share, that path

    def run(self) -> None:
        """Read paths until what is left is too improbable to matter, or the budget is used up."""
        self.go_on(_Open(-1.0, (), b"", True), self.reader.first)
        spent = 0
        while self.heap and spent < self.budget and -self.heap[0].key > (least := self.enough * self.threshold()):
            batch = []
            while self.heap and len(batch) < min(self.reader.rows, self.budget - spent) and -self.heap[0].key > least:
                batch.append(heapq.heappop(self.heap))
            spent += len(batch)
            for place, probs in self.reader.after([one.path for one in batch]):
                self.go_on(batch[place], probs)

    @property
    def left_out(self) -> float:
        """The probability of all paths that were not read."""
        return min(self.dropped - sum(one.key for one in self.heap), 1.0)

    def threshold(self) -> float:
        """Paths that are improbable relative to this needn't be read."""
        raise NotImplementedError

    def go_on(self, node: _Open, probs: Floats) -> None:
        """Count the words that end after ``node`` and keep the paths that go on; ``probs`` [V] follow it."""
        raise NotImplementedError

    def count(self, word: str, prob: float, path: Path) -> None:
        total, best, best_path = self.found.get(word, (0.0, -1.0, ()))
        self.found[word] = (total + prob, *((prob, path) if prob > best else (best, best_path)))

    def push(self, prob: float, path: Path, text: bytes, before: bool) -> None:
        if prob < FLOOR * self.floor() or not self.reader.fits(path):
            self.dropped += prob
        else:
            heapq.heappush(self.heap, _Open(-prob, path, text, before))

    def floor(self) -> float:
        return 1.0


class _Search(_Best):
    """The k most probable words."""

    def __init__(self, reader: _Reader, tables: _Tables, k: int, budget: int) -> None:
        super().__init__(reader, tables, budget)
        self.k = k

    def threshold(self) -> float:
        if len(self.found) < self.k:
            return 0.0
        return heapq.nlargest(self.k, (total for total, _, _ in self.found.values()))[-1]

    def best(self) -> list[tuple[str, float, Path]]:
        ranked = sorted(self.found.items(), key=lambda item: -item[1][0])[: self.k]
        return [(word, total, path) for word, (total, _, path) in ranked]

    def go_on(self, node: _Open, probs: Floats) -> None:
        tables, joint = self.tables, -node.key * probs
        if node.before:
            self._begin(node, joint)
            return
        self.count(_word(node.text), float(joint[~tables.joins].sum()), node.path)
        self._follow(node, joint, tables.joins, False)

    def _begin(self, node: _Open, joint: Floats) -> None:
        """No word has begun: white space waits on, every other token opens a word, and many are whole ones."""
        tables = self.tables
        self._follow(node, joint, tables.space, True)
        self._follow(node, joint, tables.open & ~tables.space, False)
        for token in np.flatnonzero(~tables.open & ~tables.space & (joint > 0)).tolist():
            self.count(_word(node.text + tables.data[token]), float(joint[token]), (*node.path, token))

    def _follow(self, node: _Open, joint: Floats, which: NDArray[np.bool_], before: bool) -> None:
        """Keep the paths that go on with ``which`` tokens."""
        kept = which & (joint >= FLOOR)
        self.dropped += float(joint[which & ~kept].sum())
        for token in np.flatnonzero(kept).tolist():
            self.push(float(joint[token]), (*node.path, token), node.text + self.tables.data[token], before)


class _Named(_Best):
    """The probabilities of given words or phrases: only paths that spell one of them are followed."""

    enough = ENOUGH_NAMED

    def __init__(self, reader: _Reader, tables: _Tables, prompt: str, among: Sequence[str], budget: int) -> None:
        super().__init__(reader, tables, budget)
        self.names: dict[bytes, list[str]] = {}
        self.usual = {name: _usual(tables.tokenizer, prompt, name) for name in among}
        for name in among:
            ids = _ids(tables.tokenizer, name)
            self.found[name] = (0.0, -1.0, tuple(ids))
            if tables.tokenizer.unk_id not in ids:
                self.names.setdefault(b"".join(tables.data[token] for token in ids).strip(), []).append(name)
        self.prefixes = {text[:size] for text in self.names for size in range(1, len(text) + 1)}
        self.tokens_of: dict[bytes, list[int]] = {}
        for token, data in enumerate(tables.data):
            self.tokens_of.setdefault(data, []).append(token)

    def run(self) -> None:
        """The search, and then the usual spelling of each name that it didn't get to within the budget."""
        super().run()
        spellings = {one.path for one in self.heap}
        for name in (name for names in self.names.values() for name in names):
            path = self.usual[name]
            if (
                path is None
                or not self.reader.fits(path)
                or not any(path[:n] in spellings for n in range(len(path) + 1))
            ):
                continue  # every part of the path was read, so it is counted
            probs = [self.reader.first, *(found for _, found in sorted(self.reader.after(_prefixes(path))))]
            prob = math.prod(float(before[token]) for before, token in zip(probs, path, strict=False))
            ends = float(probs[-1][~self.tables.joins].sum()) if self.tables.open[path[-1]] else 1.0
            self.count(name, prob * ends, path)

    def threshold(self) -> float:
        return min((self.found[name][0] for names in self.names.values() for name in names), default=1.0)

    def floor(self) -> float:
        return 0.0

    def best(self) -> list[tuple[str, float, Path]]:
        ranked = sorted(self.found.items(), key=lambda item: -item[1][0])
        return [(name, total, path) for name, (total, _, path) in ranked]

    def go_on(self, node: _Open, probs: Floats) -> None:
        tables, prob = self.tables, -node.key
        if node.text in self.names:
            ends = prob * float(probs[~tables.joins].sum()) if tables.open[node.path[-1]] else prob
            for name in self.names[node.text]:
                self.count(name, ends, node.path)
        for token, text in self._begin() if node.before else self._inside(node.text):
            if probs[token] > 0:
                self.push(prob * float(probs[token]), (*node.path, token), text, not text)

    def _begin(self) -> Iterator[tuple[int, bytes]]:
        for token, data in enumerate(self.tables.data):
            text = data.lstrip()
            if text in self.prefixes or self.tables.space[token]:
                yield token, text

    def _inside(self, text: bytes) -> Iterator[tuple[int, bytes]]:
        for size in {len(name) for name in self.prefixes if len(name) > len(text) and name.startswith(text)}:
            for longer in {name for name in self.prefixes if len(name) == size and name.startswith(text)}:
                for token in self.tokens_of.get(longer[len(text) :], ()):
                    yield token, longer


def _prefixes(path: Path) -> list[Path]:
    return [path[:size] for size in range(1, len(path) + 1)]


def _usual(tokenizer: Tokenizer, prompt: str, name: str) -> Path | None:
    """How the tokenizer spells a name after the prompt; None where it then spells the prompt in another way."""
    before = tokenizer.encode(prompt).ids
    whole = tokenizer.encode(f"{prompt} {name.strip()}" if prompt else name.strip()).ids
    return tuple(whole[len(before) :]) if whole[: len(before)] == before and len(whole) > len(before) else None


def _spelled_out(reader: _Reader, tables: _Tables, among: Sequence[str]) -> list[tuple[str, float, Path]]:
    """Probabilities of candidates for tokenizers that spell a word in one way only."""
    paths = {name: tuple(_ids(tables.tokenizer, name)) for name in among}
    unknown = tables.tokenizer.unk_id
    usable = [path for path in paths.values() if unknown not in path]
    needed = {path[:size] for path in usable for size in range(1, len(path))}
    needed |= {path for path in usable if tables.open[path[-1]]}
    for path in needed:
        if not reader.fits(path):
            raise ConfigError(
                "The prompt and the candidates together are longer than the model's context: shorten them."
            )
    order = sorted(needed)
    after = {(): reader.first} | {order[place]: probs for place, probs in reader.after(order)}
    found = []
    for name, path in paths.items():
        prob = 0.0
        if unknown not in path:
            prob = float(np.prod([after[path[:size]][token] for size, token in enumerate(path)]))
            prob *= float(after[path][~tables.joins].sum()) if tables.open[path[-1]] else 1.0
        found.append((name, prob, path))
    return sorted(found, key=lambda item: -item[1])


def _ids(tokenizer: Tokenizer, name: str) -> list[int]:
    ids = tokenizer.encode(name.strip()).ids
    if not ids:
        raise ConfigError(f"A candidate has to be a word or several; got {name!r}.")
    return ids


def _word(text: bytes) -> str:
    return text.decode("utf-8", errors="replace").strip()
