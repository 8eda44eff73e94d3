"""How a model of each way of reading tells a whole text, as one ``Likelihood``: what ``compare`` puts into its columns.

A kind of score is a way of reading. Only the chain rule gives the probability of the text itself, so only it has bits per
byte; of the others, sums over tokens told with more than what stands before them, the unit per word is theirs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from vocablo.base.errors import ConfigError
from vocablo.base.progress import Progress
from vocablo.inference import pseudo
from vocablo.inference.framing import Framing
from vocablo.inference.reading import spans
from vocablo.inference.score import grouped, perplexity
from vocablo.measures.likelihood import Likelihood
from vocablo.text.tokenizer import Tokenizer
from vocablo.text.words import count_words

Told = Sequence[tuple[Tokenizer, Likelihood | None]]


class Scorer(Protocol):
    """A kind of score: its name, what it means in a line, and what its perplexity is called."""

    ABOUT: str
    MEASURE: str

    def kind(self, variant: str) -> str: ...
    def able(self, asked: Any) -> bool: ...
    def check(self, asked: Any, texts: Sequence[str], stride: int | None) -> None: ...
    def score(self, asked: Any, texts: Sequence[str], stride: int | None, variant: str, quiet: bool) -> Likelihood: ...
    def notes(self, told: Told, variant: str) -> list[str]: ...


class Chain:
    """Models that read from left to right: the numbers of ``vocablo perplexity``."""

    ABOUT = "log p(text) = sum log p(w_t | what stands before it), each document with its <end>"
    MEASURE = "perplexity"

    def kind(self, variant: str) -> str:
        return "chain rule"

    def able(self, asked: Any) -> bool:
        return "perplexity" in asked.verbs

    def check(self, asked: Any, texts: Sequence[str], stride: int | None) -> None:
        """Raise ConfigError for a text over the context without a stride, or a stride that doesn't fit."""
        if asked.model.context is None:
            return
        tokenizer = asked.tokenizer
        ends = 1 if tokenizer.end_id is None else 0  # without a boundary, the first token is only read
        next(iter(spans(_longest(tokenizer, texts) + 1 - 2 * ends, asked.model.context, stride)), None)

    def score(self, asked: Any, texts: Sequence[str], stride: int | None, variant: str, quiet: bool) -> Likelihood:
        return perplexity(asked.model, asked.tokenizer, texts, stride=stride, quiet=quiet)

    def notes(self, told: Told, variant: str) -> list[str]:
        policies = sorted({one.policy for _, one in told if one is not None})
        return [] if len(policies) < 2 else [f"texts are not read in one way: first token {'; '.join(policies)}"]


class Pseudo:
    """Models that read both ways: each token told from all the others (``inference.pseudo``)."""

    ABOUT = (
        "sum log p(w_t | all the other tokens), not the probability of the text, and never ranked beside a chain rule"
    )
    MEASURE = "pseudo-perplexity"

    def kind(self, variant: str) -> str:
        return f"pseudo-log-likelihood ({variant})"

    def able(self, asked: Any) -> bool:
        return "score" in asked.verbs

    def check(self, asked: Any, texts: Sequence[str], stride: int | None) -> None:
        """Raise as ``Chain.check``."""
        framing, longest = Framing(asked.model, asked.tokenizer), _longest(asked.tokenizer, texts)
        room = framing.room
        if room is None:
            return
        if stride is None and longest > room:
            raise ConfigError(
                f"The text has {longest} tokens and the model reads {room} of them: pass --stride {max(room // 2, 1)} "
                "(stride=, in Python) to read it in overlapping windows."
            )
        if stride is not None and not 1 <= stride <= room:
            raise ConfigError(f"stride is at least 1 and at most the {room} tokens that fit; got {stride}.")

    def score(self, asked: Any, texts: Sequence[str], stride: int | None, variant: str, quiet: bool) -> Likelihood:
        total = Likelihood()
        how: Any = {"variant": variant, "stride": stride, "quiet": quiet}
        for one in pseudo.pseudo_log_likelihood(asked.model, asked.tokenizer, texts, **how):
            scored = sum(value is not None for value in one.log_probs)
            words, size = count_words(one.text), len(one.text.encode())
            total += Likelihood(one.log_prob, scored, words, size, one.unknown, exact=False, policy=one.kind)
        return total

    def notes(self, told: Told, variant: str) -> list[str]:
        several = any(one is not None and one.tokens > one.words for tokenizer, one in told if tokenizer.kind != "word")
        if variant != "token" or not several:
            return []
        return [
            "pieces of a word give one another away in pseudo-log-likelihood: --variant word_l2r hides them together"
        ]


class TwoWay:
    """Models that tell each token from what stands before it, and again from what stands after it (ELMo): the mean of both."""

    ABOUT = (
        "half of sum log p(w_t | what stands before it) + log p(w_t | what stands after it), without the <end>; not the "
        "probability of the text"
    )
    MEASURE = "two-way perplexity"

    def kind(self, variant: str) -> str:
        return "forward + backward"

    def able(self, asked: Any) -> bool:
        return "score" in asked.verbs

    def check(self, asked: Any, texts: Sequence[str], stride: int | None) -> None:
        """Raise DataError for a text over the context: no windows are read."""
        longest = max(texts, key=lambda text: len(asked.tokenizer.encode(text).ids))
        Framing(asked.model, asked.tokenizer).require(asked.tokenizer.encode(longest).ids, longest)

    def score(self, asked: Any, texts: Sequence[str], stride: int | None, variant: str, quiet: bool) -> Likelihood:
        total = Likelihood()
        with Progress("scoring", None, "tokens", quiet=quiet) as progress:
            for some in grouped(texts):
                for one in asked.score(some, variant="both"):
                    words, size = count_words(one.text), len(one.text.encode())
                    half, count = one.log_prob / 2, len(one.ids)
                    total += Likelihood(half, count, words, size, one.unknown, exact=False, policy=one.kind)
                    progress.advance(count)
        return total

    def notes(self, told: Told, variant: str) -> list[str]:
        return []


def _longest(tokenizer: Tokenizer, texts: Sequence[str]) -> int:
    return max(map(len, tokenizer.encode_batch(list(texts))), default=0)


SCORERS: dict[str, Scorer] = {"left": Chain(), "two_way": TwoWay(), "both": Pseudo()}
