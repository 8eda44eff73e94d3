"""The lecture's question: which word comes next, and with what probability?

A model predicts tokens, people ask for words. A word's probability is the sum over all ways to spell it in tokens, each
times the probability that the word then ends, that is, that the next token doesn't go on with it:

    p(word | prompt) = sum over paths t_1..t_n of the word:  p(t_1..t_n | prompt) * (1 - sum_{t joins} p(t | prompt, t_1..t_n))

Paths are explored best first. What lies on paths that weren't explored is at most ``left_out``, and what would go on with the
prompt's own last word is ``continues``; words, ``continues`` and ``left_out`` sum to 1.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
import torch
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.contract import DecodeState, LeftModel, Tokens
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.svg import Bar, bars

ROWS = 32  # paths that go through the model at once
BUDGET = 2048  # paths that are looked at for one question
CHILDREN = 256  # of a path, the most probable first
SMALL = 1e-7  # a path less probable than this isn't explored


@dataclass(frozen=True, slots=True)
class NextToken:
    """A token, its id and its probability."""

    token: str
    id: int
    prob: float


@dataclass(frozen=True, slots=True)
class NextTokens:
    """The most probable next tokens."""

    prompt: str
    tokens: tuple[NextToken, ...]

    def _repr_html_(self) -> str:
        return bars([Bar(one.token, one.prob) for one in self.tokens], title=self.prompt + " ...")


@dataclass(frozen=True, slots=True)
class NextWord:
    """A word, its probability, and the tokens of its most probable spelling."""

    word: str
    prob: float
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NextWords:
    """The most probable next words, or the candidates that were named. Every ``prob`` is a lower bound: the truth is at
    most ``left_out`` above it."""

    prompt: str
    words: tuple[NextWord, ...]
    left_out: float
    continues: float

    def _repr_html_(self) -> str:
        title = escape(self.prompt) + " ..."
        return bars([Bar(one.word, one.prob) for one in self.words], title=title)


@torch.inference_mode()
def next_tokens(model: LeftModel, tokenizer: Tokenizer, prompt: str, k: int) -> NextTokens:
    """The k most probable tokens after the prompt, which is taken as it is."""
    _check_k(k)
    logits, _ = read(model, tokenizer, prompt)
    probs, ids = logits[0].float().softmax(dim=0).topk(min(k, logits.shape[1]))
    rows = zip(ids.tolist(), probs.tolist(), strict=True)
    return NextTokens(prompt, tuple(NextToken(tokenizer.surface(index), index, prob) for index, prob in rows))


def read(model: LeftModel, tokenizer: Tokenizer, prompt: str) -> tuple[Tensor, DecodeState]:
    """Logits [1, V] after a boundary and the prompt, and the state to go on with.

    Raises ConfigError for a prompt that is longer than the model's context.
    """
    ids = prompt_ids(tokenizer, prompt)
    if model.context is not None and len(ids) > model.context:
        raise ConfigError(f"The prompt has {len(ids)} tokens and the model reads at most {model.context}: shorten it.")
    return model.extend(Tokens.of([ids]), None)


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """A prompt's ids, behind the boundary where the tokenizer has one."""
    ids = tokenizer.encode(prompt).ids
    return ids if tokenizer.end_id is None else [tokenizer.end_id, *ids]


@torch.inference_mode()
def next_words(
    model: LeftModel, tokenizer: Tokenizer, prompt: str, k: int, among: Sequence[str] | None = None
) -> NextWords:
    """The k most probable words after the prompt, or the probability of each candidate in ``among``.

    Spaces at the prompt's end are ignored: they belong to the word that comes. Punctuation marks and ``<end>`` are words of
    their own. Raises ConfigError for an empty candidate or one with spaces in it.
    """
    _check_k(k)
    for word in among or ():
        if not word or word.split() != [word]:
            raise ConfigError(f"A candidate is one word without spaces; got {word!r}.")
    search = _Search(model, tokenizer, prompt.rstrip(" "), None if among is None else list(among))
    search.run(k)
    found = search.found
    if among is not None:
        words = [NextWord(word, *found.get(word, (0.0, ()))[:2]) for word in among]
    else:
        words = [NextWord(word, prob, tokens) for word, (prob, tokens, _) in found.items()]
    ranked = sorted(words, key=lambda one: -one.prob)[: max(k, len(among or ()))]
    return NextWords(prompt, tuple(ranked), max(search.left_out, 0.0), search.continues)


def _check_k(k: int) -> None:
    if k < 1:
        raise ConfigError(f"k is at least 1; got {k}.")


@dataclass(order=True)
class _Path:
    """An unfinished word: ``-prob`` first, so that the most probable comes first out of a heap."""

    key: float
    ids: tuple[int, ...] = field(compare=False)
    text: str = field(compare=False)

    @property
    def prob(self) -> float:
        return -self.key


class _Search:
    """Best-first search over token paths; ``found`` has word -> (probability, tokens, probability of the best path)."""

    def __init__(self, model: LeftModel, tokenizer: Tokenizer, prompt: str, among: list[str] | None) -> None:
        self.model, self.tokenizer, self.among = model, tokenizer, among
        self.table = tokenizer.words
        self.found: dict[str, tuple[float, tuple[str, ...], float]] = {}
        self.heap: list[_Path] = []
        self.left_out = self.continues = 0.0
        logits, self.state = read(model, tokenizer, prompt)
        probs = logits[0].double().softmax(dim=0).numpy()
        # A word begins with a token that opens one, or with white space; right after a boundary anything may come.
        fresh = not prompt or prompt[-1].isspace()
        opens = np.ones(len(probs), dtype=bool) if fresh else self.table.begins | self.table.space
        self.continues = float(probs[~opens].sum())
        self._branch(_Path(-1.0, (), ""), probs, opens)

    def run(self, k: int) -> None:
        """Explore until the k best words are sure, the named ones are summed, or the budget is spent."""
        looked = 0
        while self.heap and looked < BUDGET and self.heap[0].prob > SMALL:
            if self.among is None and self._settled(k):
                break
            batch = [heapq.heappop(self.heap) for _ in range(min(ROWS, len(self.heap)))]
            looked += len(batch)
            state = self.state.select(torch.zeros(len(batch), dtype=torch.long))
            logits, _ = self.model.extend(Tokens.of([path.ids for path in batch]), state)
            for path, probs in zip(batch, logits.double().softmax(dim=1).numpy(), strict=True):
                self._expand(path, probs)
        self.left_out += sum(path.prob for path in self.heap)

    def _settled(self, k: int) -> bool:
        probs = sorted((entry[0] for entry in self.found.values()), reverse=True)
        return len(probs) >= k and probs[k - 1] >= self.heap[0].prob

    def _expand(self, path: _Path, probs: np.ndarray) -> None:
        if not path.text.strip():  # white space so far: the word itself is still to come
            self._branch(path, probs, np.ones(len(probs), dtype=bool))
            return
        joins = self.table.joins
        ended = float(probs[~joins].sum())
        self._finish(path, path.prob * ended)
        self._branch(path, probs, joins)

    def _branch(self, path: _Path, probs: np.ndarray, allowed: np.ndarray) -> None:
        """Put the path's children among ``allowed`` where they belong: finished words, open paths, or left out."""
        share = np.where(allowed, probs, 0.0) * path.prob
        at = self._wanted(path.text, share) if self.among is not None else np.flatnonzero(share > SMALL)
        if self.among is None and len(at) > CHILDREN:
            at = at[np.argpartition(-share[at], CHILDREN)[:CHILDREN]]
        self.left_out += float(share.sum() - share[at].sum()) if self.among is None else 0.0
        for index in at.tolist():
            child = _Path(-float(share[index]), (*path.ids, index), path.text + self.tokenizer.surface(index))
            if self._complete(index):
                self._finish(child, child.prob)
            else:
                heapq.heappush(self.heap, child)

    def _complete(self, index: int) -> bool:
        """Whether nothing can go on with this token: special tokens, and vocabularies of whole words."""
        return index in self.tokenizer.special_ids or not self.table.joins.any()

    def _wanted(self, text: str, share: np.ndarray) -> np.ndarray:
        """Children that spell on towards a named candidate."""
        spelled = text.lstrip()
        kept = []
        for index in np.flatnonzero(share > 0).tolist() if not spelled else self._joining():
            longer = (text + self.tokenizer.surface(index)).lstrip()
            if any(word.startswith(longer) for word in self.among or ()):
                kept.append(index)
        return np.array(kept, dtype=np.int64)

    def _joining(self) -> list[int]:
        return np.flatnonzero(self.table.joins).tolist()

    def _finish(self, path: _Path, prob: float) -> None:
        word = path.text.strip() or path.text
        total, tokens, best = self.found.get(word, (0.0, (), 0.0))
        if path.prob > best:
            tokens, best = tuple(self.tokenizer.surface(index) for index in path.ids), path.prob
        self.found[word] = (total + prob, tokens, best)
