"""What a model that tells words from both sides can be asked (ELMo), and its score.

    forward   sum_t log p(w_t | <end>, w_1 .. w_(t-1))        backward   sum_t log p(w_t | w_(t+1) .. w_n, <end>)

Both together, their sum, are what the model was trained on; it isn't the log-probability of the text, and is ranked with
nothing but its like. Neither direction tells the boundaries. Words that the vocabulary lacks are read by their letters; told
they are as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocablo.base.errors import ConfigError, nearest
from vocablo.base.progress import Progress
from vocablo.data.order import by_length
from vocablo.inference.encoder import EncoderModel, _texts
from vocablo.inference.framing import Framing, flat_frames
from vocablo.inference.reading import Ints, asking, device_of
from vocablo.inference.score import WordScore, grouped
from vocablo.inference.verbs import Asked
from vocablo.measures.likelihood import perplexity_of
from vocablo.text.characters import OpenTokenizer
from vocablo.text.tokenizer import Tokenizer

VARIANTS = ("both", "forward", "backward")


@dataclass(frozen=True, slots=True)
class TwoWayScore:
    """A text told from both sides, in nats: ``forward`` and ``backward`` have one number for each of ``tokens``.

    ``variant`` says what ``log_probs`` and ``log_prob`` are: one of them, or their sums (``both``). ``unknown`` counts the
    tokens that stand for words which the model doesn't tell.
    """

    text: str
    tokens: list[str]
    ids: list[int]
    forward: list[float]
    backward: list[float]
    variant: str
    unknown: int
    convention: str = "vocablo"

    @property
    def kind(self) -> str:
        """What the numbers are; scores of different kinds are not comparable."""
        return "forward + backward" if self.variant == "both" else self.variant

    @property
    def log_probs(self) -> list[float]:
        """Of each token, as ``variant`` says."""
        if self.variant == "both":
            return [one + other for one, other in zip(self.forward, self.backward, strict=True)]
        return self.forward if self.variant == "forward" else self.backward

    @property
    def log_prob(self) -> float:
        """The sum."""
        return sum(self.log_probs)

    @property
    def value(self) -> float:
        """What texts are ranked by."""
        return self.log_prob

    @property
    def words(self) -> list[WordScore]:
        """The tokens as words, which they are here."""
        pairs = zip(self.tokens, self.log_probs, strict=True)
        return [WordScore(token, value, place, place + 1) for place, (token, value) in enumerate(pairs)]

    @property
    def forward_perplexity(self) -> float:
        """Per token."""
        return perplexity_of(sum(self.forward), len(self.tokens))

    @property
    def backward_perplexity(self) -> float:
        """Per token."""
        return perplexity_of(sum(self.backward), len(self.tokens))


def score(model: Any, tokenizer: Tokenizer, texts: Sequence[str], *, variant: str = "both") -> list[TwoWayScore]:
    """Score each text from both sides. Raises ConfigError for a model without output layer, or another ``variant``."""
    if variant not in VARIANTS:
        raise ConfigError(f"There is no variant {variant!r}{nearest(variant, VARIANTS)}")
    framing = Framing(model, tokenizer)
    encodings = [tokenizer.encode(text) for text in texts]
    for text, encoding in zip(texts, encodings, strict=True):
        framing.require(encoding.ids, text)
    frames = [framing.frame(encoding.ids) for encoding in encodings]
    found: list[tuple[list[float], list[float]]] = [([], [])] * len(texts)
    with asking(model):
        for group in by_length([len(frame) for frame in frames]):
            for place, both in zip(group, _read(model, [frames[place] for place in group]), strict=True):
                found[place] = both
    told = model.told(torch.tensor([0, *(index for one in encodings for index in one.ids)]))[1:].tolist()
    unknown = iter(index == model.config.unknown for index in told)
    return [
        TwoWayScore(text, encoding.tokens, encoding.ids, *both, variant, sum(next(unknown) for _ in encoding.ids))
        for text, encoding, both in zip(texts, encodings, found, strict=True)
    ]


def _read(model: Any, frames: Sequence[Ints]) -> Iterator[tuple[list[float], list[float]]]:
    """The log-probabilities of the words within each pair of boundaries, from either side."""
    device = device_of(model)
    tokens = flat_frames(frames, device)
    states = model.forward(tokens).states
    starts = tokens.fences.starts()
    inner = np.concatenate(
        [np.arange(begin + 1, begin + length - 1) for begin, length in zip(starts, tokens.fences.lengths, strict=False)]
    )
    at = torch.from_numpy(inner).to(device)
    ids = tokens.ids.index_select(0, at)
    forward = model.target_log_probs(states, at - 1, ids, "forward").double().cpu().numpy()
    backward = model.target_log_probs(states, at + 1, ids, "backward").double().cpu().numpy()
    cuts = np.cumsum([length - 2 for length in tokens.fences.lengths])[:-1]
    for one, other in zip(np.split(forward, cuts), np.split(backward, cuts), strict=True):
        yield one.tolist(), other.tolist()


class TwoWayLanguageModel(Asked):
    """A model that tells words from both sides, with its tokenizer, whose unknown words it reads by their letters."""

    what = "a model that tells words from both sides"
    sentences = None

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        super().__init__(model, OpenTokenizer.of(tokenizer, model))

    def score(self, texts: str | Sequence[str], *, variant: str = "both") -> list[TwoWayScore]:
        """Each text told forward and backward, in nats; ``variant``: both together, ``forward`` or ``backward``."""
        self._need("score")
        return score(self.model, self.tokenizer, [texts] if isinstance(texts, str) else list(texts), variant=variant)

    def score_files(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        documents: str = "line",
        column: str | None = None,
        encoding: str = "utf-8",
        variant: str = "both",
        quiet: bool = True,
    ) -> Iterator[TwoWayScore]:
        """The same for every document of files, one after the other as they are scored."""
        self._need("score_files")
        texts = _texts(sources, documents, column, encoding, quiet)
        with Progress("scoring", None, "tokens", quiet=quiet) as progress:
            for some in grouped(texts):
                found = score(self.model, self.tokenizer, some, variant=variant)
                progress.advance(sum(len(one.ids) for one in found))
                yield from found

    embed: Any = EncoderModel.embed
    embed_files: Any = EncoderModel.embed_files
    embed_texts: Any = EncoderModel.embed_texts
    neighbors: Any = EncoderModel.neighbors
    similarity: Any = EncoderModel.similarity
    _settings: Any = EncoderModel._settings
    _limit: Any = EncoderModel._limit

    def _lacking(self) -> dict[str, str]:
        if self.model.config.head is None:
            return dict.fromkeys(("score", "score_files"), "an output layer over words, which published weights lack")
        return {}
