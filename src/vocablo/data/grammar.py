"""The embedded corpus: a probabilistic finite-state grammar of Spanish that knows its own exact next-word distribution.

``grammar_es.toml`` has phrases with features (topic, gender, number, tense, ...), none of them recursive, so a leftmost
derivation has finitely many stacks: those are the states of the machine, and a state carries whatever the rest of the
sentence must still agree with. Sentences are ambiguous, many state paths emit the same words, so the probability of the
next word comes from the forward algorithm (Rabiner 1989, section III.A): with belief a_t(s) = p(w_1..w_t, state s),

    p(w | w_1..w_t) = sum_{s, s'} a_t(s) p(s', w | s) / sum_s a_t(s).

Every model of Vocablo can thus be held against the best possible perplexity, which no training can pass.

Terminals are words: letters and digits that stand together, or one punctuation mark. The first word of a sentence has a
capital and is a terminal of its own, so a cased word tokenizer that splits off punctuation sees exactly the terminals.
A sentence is a document, on a line of its own; ``<end>`` closes it. ``render`` writes it as people do, ``split`` undoes it.
"""

from __future__ import annotations

import bisect
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from itertools import accumulate, count

import numpy as np

from vocablo.base.errors import DataError
from vocablo.base.random import generator, seed_for
from vocablo.data.grammar_rules import CONTROLLER, MARKS, TARGET, Productions, Symbol
from vocablo.data.lexicon import Lexicon

END = "<end>"
START = ("text",)
# So many first words' beliefs are kept: they are the most ambiguous ones, and the same in many sentences.
OPENING = 2
_WORD = re.compile(r"\w+|[^\w\s]")
_BEFORE = re.compile(r" (?=[.,;:?!])")
_AFTER = re.compile(r"(?<=[¿¡]) ")


def split(text: str) -> list[str]:
    """The terminals of a line of text: ``"¿Vas al banco?"`` -> ``["¿", "Vas", "al", "banco", "?"]``."""
    return _WORD.findall(text)


def render(words: Sequence[str]) -> str:
    """Spanish orthography of terminals; ``split(render(words)) == list(words)``."""
    return _AFTER.sub("", _BEFORE.sub("", " ".join(words)))


def _terminals(words: str | Sequence[str]) -> Sequence[str]:
    return split(words) if isinstance(words, str) else words


@dataclass(frozen=True, slots=True)
class AgreementItem:
    """A minimal pair: after ``prefix`` comes ``right``; ``wrong`` is the same word in another number or gender.

    ``distance`` counts words from the controller to the target (1: neighbours); ``attractors`` the nouns between them
    whose number or gender (that in which the pair differs) is the wrong form's.
    """

    prefix: tuple[str, ...]
    right: str
    wrong: str
    distance: int
    attractors: int
    feature: str  # "number" or "gender"


@dataclass(frozen=True, slots=True)
class _Beginnings:
    """How a symbol may begin: word -> [(probability, symbols still to come), ...], and the probability of deriving nothing."""

    arcs: dict[str, list[tuple[float, tuple[Symbol, ...]]]]
    probs: dict[str, float]  # of each word
    nothing: float
    sums: list[float]  # cumulative probabilities of ``choices``
    choices: list[tuple[str, tuple[Symbol, ...]]]  # for drawing; "" stands for nothing


class Grammar:
    """A probabilistic finite-state machine over Spanish words, whose states are made when first visited.

    State 0 is the empty stack, where the sentence is complete; any other is a top symbol and the state below it. All states
    with the same top symbol share its beginnings, so the machine is never written out.
    """

    def __init__(self) -> None:
        raw = tomllib.loads(files("vocablo.data").joinpath("grammar_es.toml").read_text(encoding="utf-8"))
        self.lexicon = Lexicon(raw)
        self.productions = Productions(raw["features"], raw["rules"], self.lexicon.tables)
        self._cache: dict[Symbol, _Beginnings] = {}
        self._stack: list[tuple[Symbol, int]] = [("", 0)]
        self._number: dict[tuple[Symbol, int], int] = {}
        self._openings: dict[tuple[str, ...], tuple[dict[int, float], float]] = {}
        self._start = self._push((START,), 0)

    # The machine

    def _push(self, symbols: Sequence[Symbol], below: int) -> int:
        for symbol in reversed(symbols):
            key = (symbol, below)
            below = self._number.get(key, -1)
            if below < 0:
                below = self._number[key] = len(self._stack)
                self._stack.append(key)
        return below

    def _begin(self, symbol: Symbol) -> _Beginnings:
        found = self._cache.get(symbol)
        if found is None:
            found = self._cache[symbol] = self._beginnings(symbol)
        return found

    def _beginnings(self, symbol: Symbol) -> _Beginnings:
        arcs: dict[tuple[str, tuple[Symbol, ...]], float] = {}
        nothing = 0.0
        for weight, marked in [(1.0, (symbol,))] if isinstance(symbol, str) else self.productions[symbol]:
            body = tuple(item for item in marked if item not in MARKS)
            for i, item in enumerate(body):
                after = body[i + 1 :]
                inner = [((item, ()), 1.0)] if isinstance(item, str) else self._shares(item)
                for (word, rest), share in inner:
                    arcs[word, rest + after] = arcs.get((word, rest + after), 0.0) + weight * share
                weight *= 0.0 if isinstance(item, str) else self._begin(item).nothing
                if not weight:
                    break
            nothing += weight
        table: dict[str, list[tuple[float, tuple[Symbol, ...]]]] = {}
        for (word, rest), weight in arcs.items():
            table.setdefault(word, []).append((weight, rest))
        probs = {word: sum(weight for weight, _ in options) for word, options in table.items()}
        return _Beginnings(table, probs, nothing, list(accumulate([*arcs.values(), nothing])), [*arcs, ("", ())])

    def _shares(self, symbol: Symbol) -> Iterator[tuple[tuple[str, tuple[Symbol, ...]], float]]:
        return (((word, rest), w) for word, options in self._begin(symbol).arcs.items() for w, rest in options)

    def _levels(self, state: int) -> Iterator[tuple[float, _Beginnings, int]]:
        """The symbols of a stack that may begin here, with their probabilities: a lower one if those above derive nothing."""
        weight = 1.0
        while state and weight:
            symbol, state = self._stack[state]
            begin = self._begin(symbol)
            yield weight, begin, state
            weight *= begin.nothing

    def _follow(self, state: int, word: str) -> Iterator[tuple[float, int]]:
        """(probability, next state) of every way to read ``word`` in a state."""
        for weight, begin, below in self._levels(state):
            for share, rest in begin.arcs.get(word, ()):
                yield weight * share, self._push(rest, below)

    def _ending(self, state: int) -> float:
        """The probability of ``<end>`` in a state."""
        weight = 1.0
        while state and weight:
            symbol, state = self._stack[state]
            weight *= self._begin(symbol).nothing
        return weight

    # Exact probabilities

    def _forward(self, words: Sequence[str]) -> Iterator[tuple[dict[int, float], float]]:
        """Beliefs after 0, 1, 2, ... words, each normalised, with the probability that the last word had."""
        belief: dict[int, float] = {self._start: 1.0}
        yield belief, 1.0
        for at, word in enumerate(words):
            opening = tuple(words[: at + 1]) if at < OPENING else ()
            known = self._openings.get(opening)
            if known is None:
                known = self._step(belief, word)
                if not known[1]:
                    raise DataError(
                        f"The grammar has no sentence in which word {at + 1}, {word!r}, follows "
                        f"{' '.join(words[:at]) or 'the start'!r}. {self._allowed(belief)}"
                    )
                if opening:
                    self._openings[opening] = known
            belief = known[0]
            yield known

    def _step(self, belief: dict[int, float], word: str) -> tuple[dict[int, float], float]:
        ahead: dict[int, float] = {}
        for state, share in belief.items():
            for weight, target in self._follow(state, word):
                ahead[target] = ahead.get(target, 0.0) + share * weight
        total = sum(ahead.values())
        return {state: share / total for state, share in ahead.items()}, total

    def _allowed(self, belief: dict[int, float]) -> str:
        probs = self._mix(belief)
        likely = sorted(probs, key=lambda word: -probs[word])[:8]
        return "Allowed there: " + ", ".join(likely) + (", ..." if len(probs) > 8 else ".")

    def _mix(self, belief: dict[int, float]) -> dict[str, float]:
        mixed: dict[str, float] = {}
        for state, share in belief.items():
            for weight, begin, _ in self._levels(state):
                for word, prob in begin.probs.items():
                    mixed[word] = mixed.get(word, 0.0) + share * weight * prob
            end = share * self._ending(state)
            if end:
                mixed[END] = mixed.get(END, 0.0) + end
        return mixed

    def next_word(self, words: str | Sequence[str]) -> dict[str, float]:
        """The exact distribution of the word after a prefix (its words, or text to split), ``<end>`` included.

        Raises DataError, naming the word, if no sentence of the grammar begins with the prefix.
        """
        *_, (belief, _) = self._forward(_terminals(words))
        return self._mix(belief)

    def word_log_probs(self, words: str | Sequence[str]) -> list[float]:
        """log p of each word given those before it and of ``<end>`` after the last, in nats: len(words) + 1 values."""
        beliefs, probs = zip(*self._forward(_terminals(words)), strict=True)
        end = sum(share * self._ending(state) for state, share in beliefs[-1].items())
        return [*map(math.log, probs[1:]), math.log(end) if end else -math.inf]

    def log_prob(self, words: str | Sequence[str]) -> float:
        """log p(words, <end>) in nats; minus infinity if the words are only the beginning of sentences."""
        return sum(self.word_log_probs(words))

    def perplexity(self, sentences: Iterable[str | Sequence[str]]) -> float:
        """The best possible perplexity per word on these sentences, each one's ``<end>`` counted as a word."""
        total, words = 0.0, 0
        for sentence in sentences:
            logs = self.word_log_probs(sentence)
            total += sum(logs)
            words += len(logs)
        if not words:
            raise DataError("There is no sentence to take the perplexity of.")
        return math.exp(-total / words)

    def next_matrix(self, words: str | Sequence[str]) -> np.ndarray:
        """Exact next-word distributions after each prefix: float64 [len(words) + 1, size + 1], ``<end>`` in the last column."""
        terminals = _terminals(words)
        matrix = np.zeros((len(terminals) + 1, self.size + 1))
        for row, (belief, _) in zip(matrix, self._forward(terminals), strict=True):
            for word, prob in self._mix(belief).items():
                row[self._index[word]] = prob
        return matrix

    # The vocabulary

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All terminals that some sentence has, sorted; without ``<end>``."""
        seen: set[Symbol] = set()
        queue: list[Symbol] = [START]
        while queue:
            symbol = queue.pop()
            if symbol not in seen:
                seen.add(symbol)
                if not isinstance(symbol, str):
                    queue.extend(item for _, body in self.productions[symbol] for item in body if item not in MARKS)
        return tuple(sorted(symbol for symbol in seen if isinstance(symbol, str)))

    @property
    def size(self) -> int:
        """How many terminals there are, without ``<end>``."""
        return len(self.words)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate((*self.words, END))}

    # Text

    def _draw(self, uniforms: Iterator[float]) -> list[str]:
        words: list[str] = []
        stack: list[Symbol] = [START]
        while stack:
            begin = self._begin(stack.pop())
            at = bisect.bisect_right(begin.sums, next(uniforms) * begin.sums[-1])
            word, rest = begin.choices[min(at, len(begin.choices) - 1)]
            if word:
                words.append(word)
                stack.extend(reversed(rest))
        return words

    def sample(self, rng: np.random.Generator) -> list[str]:
        """The words of one sentence, without ``<end>``."""
        return self._draw(iter(rng.random, None))

    def sentence(self, seed: int, index: int) -> list[str]:
        """The words of sentence ``index`` of the endless text named by ``seed``: a pure function of the two."""
        # The index is the counter of a counter-based generator, so any sentence is reached without those before it.
        rng = np.random.Generator(np.random.Philox(key=seed_for(seed, "grammar"), counter=[0, index, 0, 0]))
        return self._draw(u for _ in count() for u in rng.random(32).tolist())

    def text(self, seed: int, sentences: int) -> Iterator[str]:
        """The first ``sentences`` lines of the text named by ``seed``."""
        return (render(self.sentence(seed, index)) for index in range(sentences))

    def generate(self, seed: int, words: int) -> Iterator[str]:
        """Lines of the text named by ``seed`` until there are at least ``words`` words (``<end>`` not counted)."""
        for index in count():
            if words <= 0:
                return
            sentence = self.sentence(seed, index)
            words -= len(sentence)
            yield render(sentence)

    # Agreement

    def agreement(self, seed: int, n: int) -> list[AgreementItem]:
        """``n`` minimal pairs, drawn as the text is, of words that agree with one before them.

        The wrong form has probability exactly 0 under the grammar.
        """
        items: list[AgreementItem] = []
        for index in count():
            items.extend(self._pairs(self._derive(generator(seed, "agreement", index))))
            if len(items) >= n:
                return items[:n]
        raise AssertionError("count() is endless")

    def _derive(self, rng: np.random.Generator) -> list[str]:
        """A sentence drawn from the rules themselves, marks included."""
        out: list[str] = []
        stack: list[Symbol] = [START]
        while stack:
            symbol = stack.pop()
            if isinstance(symbol, str):
                out.append(symbol)
                continue
            options = self.productions[symbol]
            sums = list(accumulate(weight for weight, _ in options))
            stack.extend(reversed(options[bisect.bisect_left(sums, rng.random() * sums[-1])][1]))
        return out

    def _pairs(self, marked: list[str]) -> Iterator[AgreementItem]:
        words: list[str] = []
        controller = None
        for i, item in enumerate(marked):
            if item == CONTROLLER:
                controller = len(words)
            elif item == TARGET and controller is not None:
                yield from self._pair(words, controller, marked[i + 1])
            if item not in MARKS:
                words.append(item)

    def _pair(self, words: list[str], controller: int, right: str) -> Iterator[AgreementItem]:
        allowed = self.next_word(words)
        between = words[controller + 1 :]
        for feature, wrong in self.lexicon.flips.get(right, ()):
            if wrong != right and wrong not in allowed:
                own = self.lexicon.noun_features(words[controller], feature)
                attractors = sum(
                    bool(other) and not (other & own)
                    for other in (self.lexicon.noun_features(word, feature) for word in between)
                )
                yield AgreementItem(tuple(words), right, wrong, len(words) - controller, attractors, feature)
