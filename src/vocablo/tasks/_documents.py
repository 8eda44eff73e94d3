"""How documents are read: cut into sentences, each a sequence of words, with nothing around them.

    text --text/sentences--> sentences --tokenizer--> sequences;  groups say how many make a document

A sentence may be as long as the whole document, where nothing ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Fences, Hidden, Tokens
from vocablo.nn.pooling import LEARNT
from vocablo.tasks._reading import Framed, Heads, Located, Reader, ReadSettings
from vocablo.text.sentences import split_sentences
from vocablo.text.tokenizer import Tokenizer


class DocumentReader(Reader):
    """Reads for one task, with a model of ``contract.DocumentModel``. ``read.context`` are words of a document at most."""

    most = 1 << 15  # words of documents: what a step holds in memory grows with them

    def __init__(self, model: Any, tokenizer: Tokenizer, settings: ReadSettings) -> None:
        self.tokenizer, self.settings, self.reads = tokenizer, settings, model.reads
        self.context = settings.context
        self.p = model.config.stack.dropout if settings.dropout is None else settings.dropout
        self.model_width, self.vocab = model.width, model.vocab
        self.frozen = settings.freeze
        self.names = ()
        self.attends = model.config.stack.pooling in LEARNT
        usual = ReadSettings()
        foreign = ("pooling", "language", "features", "lstm_width", "lstm_layers")
        asked = [name for name in foreign if getattr(settings, name) != getattr(usual, name)]
        if asked:
            raise ConfigError(
                f"read.{asked[0]} isn't for a model that reads documents: it sums words up in its own way (han: "
                "architecture.stack.pooling)."
            )

    @property
    def width(self) -> int:
        return self.model_width

    def heads(self, *, whole: bool = True) -> dict[str, nn.Module]:
        return {}

    def read(self, model: Any, heads: Heads, tokens: Tokens, groups: Fences | None = None) -> Hidden:
        """States of all words, and one vector of every document as ``pooled``."""
        if self.frozen and model.training:
            model.eval()
        return model(tokens, groups=groups)

    def texts(self, texts: Sequence[str], names: Sequence[str]) -> tuple[list[Framed], list[int], list[bool]]:
        """The sentences of all documents. Raises DataError for a document without words."""
        spans = [split_sentences(text) for text in texts]
        pieces = [text[begin:end] for text, some in zip(texts, spans, strict=True) for begin, end in some]
        ids = iter(self.tokenizer.encode_batch(pieces))
        framed: list[Framed] = []
        sizes, cut = [], []
        for some, name in zip(spans, names, strict=True):
            sentences = [words for words in (next(ids) for _ in some) if words]
            if not sentences:
                raise DataError(f"{name} has no words: a document needs one at least.")
            kept = self._within(sentences, name)
            framed += [(words, [0] * len(words)) for words in kept]
            sizes.append(len(kept))
            cut.append(sum(map(len, kept)) < sum(map(len, sentences)))
        return framed, sizes, cut

    def located(self, text: str) -> list[Located]:
        """The sentences of a text as ``texts`` makes them, with the text of every word."""
        (kept, _, _), found = self.texts([text], ["the text"]), []
        pieces = [(begin, self.tokenizer.encode(text[begin:end])) for begin, end in split_sentences(text)]
        for (ids, _), (begin, encoding) in zip(kept, (one for one in pieces if one[1].ids), strict=False):
            known = [index != self.tokenizer.unk_id for index in ids]
            found.append((ids, encoding.offsets[: len(ids)] + begin, known))
        return found

    def check(self, pair: bool) -> None:
        """Raise ConfigError for pairs, and for a tokenizer of another model."""
        if pair:
            raise ConfigError("A model that reads documents reads one text, not a pair: leave the second column out.")
        if self.tokenizer.size > self.vocab:
            raise ConfigError(
                f"The tokenizer has {self.tokenizer.size} tokens and the model {self.vocab}: they don't belong together."
            )

    def _within(self, sentences: list[list[int]], name: str) -> list[list[int]]:
        """The sentences up to the limit of words, the last one cut where it is reached."""
        room = self.context
        total = sum(map(len, sentences))
        if room is None or total <= room:
            return sentences
        self._refuse(name, total, room)
        kept = []
        for words in sentences:
            kept.append(words[:room])
            room -= len(kept[-1])
            if not room:
                break
        return kept
