"""What a model that reads from left to right can be asked: n-gram, recurrent network and GPT alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vocablo.base import config
from vocablo.base.progress import tell
from vocablo.data.readers import read_documents
from vocablo.inference import attend as looking
from vocablo.inference import generate as generating
from vocablo.inference import next as asking
from vocablo.inference import score as scoring
from vocablo.inference.attend import Attention
from vocablo.inference.generate import GenerateSettings, Generation
from vocablo.inference.next import NextTokens, NextWords
from vocablo.inference.phrases import as_tokens
from vocablo.inference.reading import device_of, flat, prompt_ids
from vocablo.inference.score import Score
from vocablo.inference.verbs import Asked
from vocablo.measures.likelihood import Likelihood


class LanguageModel(Asked):
    """A model that reads from left to right, with its tokenizer: what ``load`` returns for n-gram, RNN and GPT alike."""

    what = "a model that reads from left to right"
    also = ("stream",)

    def next(self, prompt: str, *, k: int = 10, among: Sequence[str] | None = None) -> NextWords:
        """The k most probable next words (or the named candidates), each the sum over its token paths."""
        return asking.next_words(self.model, self.tokenizer, prompt, k, among=among)

    def next_tokens(self, prompt: str, *, k: int = 10) -> NextTokens:
        """The k most probable next tokens."""
        return asking.next_tokens(self.model, self.tokenizer, prompt, k)

    def score(
        self, texts: str | Sequence[str], *, end: bool = False, stride: int | None = None, convention: str = "vocablo"
    ) -> list[Score]:
        """Log-probability by the chain rule, in nats, of each text; ``end`` adds that of the text ending there."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        return scoring.score(self.model, self.tokenizer, texts, end=end, stride=stride, convention=convention)

    def score_files(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        documents: str = "line",
        column: str | None = None,
        encoding: str = "utf-8",
        end: bool = False,
        stride: int | None = None,
        convention: str = "vocablo",
        quiet: bool = True,
    ) -> Iterator[Score]:
        """The same for every document of files, one after the other as they are scored."""
        notes = None if quiet else tell
        found = read_documents(sources, documents=documents, column=column, encoding=encoding, notes=notes)
        texts = (document.text for document in found)
        how = {"end": end, "stride": stride, "convention": scoring.convention_named(convention)}
        return scoring.score_each(self.model, self.tokenizer, texts, quiet=quiet, **how)

    def perplexity(
        self,
        sources: str | Path | Sequence[str | Path],
        *,
        documents: str = "file",
        column: str | None = None,
        encoding: str = "utf-8",
        stride: int | None = None,
        carry: bool = False,
        quiet: bool = True,
    ) -> Likelihood:
        """Perplexity and bits per byte of files; every document's ``<end>`` is counted. See ``read_documents``."""
        listed = [sources] if isinstance(sources, (str, Path)) else list(sources)
        notes = None if quiet else tell
        texts = (
            document.text
            for document in read_documents(listed, documents=documents, column=column, encoding=encoding, notes=notes)
        )
        return scoring.perplexity(self.model, self.tokenizer, texts, stride=stride, carry=carry, quiet=quiet)

    def generate(self, prompt: str = "", **settings: Any) -> list[Generation]:
        """Continuations of a prompt; ``settings`` are the fields of ``GenerateSettings``.

        ``include``, ``exclude`` and ``prefix`` may be given as text.
        """
        return generating.generate(self.model, self.tokenizer, prompt, self._settings(settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """One continuation, piece by piece, as it is generated."""
        return generating.stream(self.model, self.tokenizer, prompt, self._settings(settings))

    def _settings(self, given: dict[str, Any]) -> GenerateSettings:
        return config.build(GenerateSettings, as_tokens(self.tokenizer, given), "generate")

    def attend(
        self, text: str, *, layers: Sequence[int] | None = None, heads: Sequence[int] | None = None
    ) -> Attention:
        """The attention weights of a text, read as ``score`` reads it: after the boundary, if there is one."""
        self._need("attend")
        ids = np.array(prompt_ids(self.model, self.tokenizer, text))
        tokens = flat([ids], device_of(self.model))
        return looking.attend(self.model, self.tokenizer, tokens, layers=layers, heads=heads)

    def _lacking(self) -> dict[str, str]:
        return {} if hasattr(self.model.config, "attention") else {"attend": "a model with attention"}
