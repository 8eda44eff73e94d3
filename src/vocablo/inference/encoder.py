"""What a model that reads both ways can be asked: BERT and its kin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vocablo.base import config
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.base.progress import tell
from vocablo.data.readers import read_documents
from vocablo.inference import attend as looking
from vocablo.inference import embed as embedding
from vocablo.inference import fill as filling
from vocablo.inference import neighbors as near
from vocablo.inference import pseudo, vectors
from vocablo.inference.attend import Attention
from vocablo.inference.embed import Embedder, Embeddings, EmbedSettings
from vocablo.inference.fill import Filled
from vocablo.inference.framing import Framing
from vocablo.inference.neighbors import Neighbors, WordReader
from vocablo.inference.pseudo import PseudoScore
from vocablo.inference.reading import asking
from vocablo.inference.sentence_folder import SentenceFolder
from vocablo.inference.vectors import VectorFile
from vocablo.inference.verbs import Asked
from vocablo.text.tokenizer import Tokenizer

Sources = str | Path | Sequence[str | Path]


@dataclass(frozen=True, slots=True)
class Similarity:
    """The cosine of the vectors of two texts, or of one word in both (``word`` isn't None)."""

    first: str
    second: str
    word: str | None
    cosine: float
    layers: tuple[int, ...]
    pooling: str


@dataclass(frozen=True, slots=True)
class NextSentence:
    """How probable it is that the second text follows the first in a document, rather than coming from another one."""

    first: str
    second: str
    prob: float


class EncoderModel(Asked):
    """A model that reads both ways, with its tokenizer and the heads that were saved beside it."""

    what = "an encoder"

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        heads: Mapping[str, nn.Module] | None = None,
        sentences: SentenceFolder | None = None,
    ) -> None:
        super().__init__(model, tokenizer)
        self.heads, self.sentences = dict(heads or {}), sentences

    def fill(self, text: str, *, k: int = 5, words: bool = False, among: Sequence[str] | None = None) -> Filled:
        """The k most probable tokens behind each mask, or the candidates ``among`` behind the only one."""
        self._need("fill")
        return filling.fill(self.model, self.tokenizer, text, k, words=words, among=among)

    def score(
        self,
        texts: str | Sequence[str],
        *,
        variant: str = "token",
        stride: int | None = None,
        convention: str = "vocablo",
    ) -> list[PseudoScore]:
        """Pseudo-log-likelihood of each text, in nats; ``variant`` is ``token`` or ``word_l2r``."""
        self._need("score")
        texts = [texts] if isinstance(texts, str) else list(texts)
        how = {"variant": variant, "stride": stride, "convention": convention}
        return list(pseudo.pseudo_log_likelihood(self.model, self.tokenizer, texts, **how))  # type: ignore[arg-type]

    def score_files(
        self,
        sources: Sources,
        *,
        documents: str = "line",
        column: str | None = None,
        encoding: str = "utf-8",
        variant: str = "token",
        stride: int | None = None,
        convention: str = "vocablo",
        quiet: bool = True,
    ) -> Iterator[PseudoScore]:
        """The same for every document of files, one after the other as they are scored."""
        self._need("score_files")
        texts = _texts(sources, documents, column, encoding, quiet)
        how = {"variant": variant, "stride": stride, "convention": convention, "quiet": quiet}
        return pseudo.pseudo_log_likelihood(self.model, self.tokenizer, texts, **how)  # type: ignore[arg-type]

    def embed(self, texts: str | Sequence[str], **settings: Any) -> Embeddings:
        """A vector for each text; ``settings`` are the fields of ``EmbedSettings``."""
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ConfigError("There is nothing to embed: give a text.")
        return embedding.embed(self.model, self.tokenizer, texts, self._settings(settings), self._limit)

    def embed_files(
        self,
        sources: Sources,
        out: str | Path,
        *,
        documents: str = "line",
        column: str | None = None,
        encoding: str = "utf-8",
        quiet: bool = True,
        **settings: Any,
    ) -> VectorFile:
        """The vectors of every document of files into ``out`` (.npy, .jsonl, .parquet), without holding them all."""
        vectors.check_out(Path(out))
        return self.embed_texts(_texts(sources, documents, column, encoding, quiet), out, quiet=quiet, **settings)

    def embed_texts(self, texts: Iterable[str], out: str | Path, *, quiet: bool = True, **settings: Any) -> VectorFile:
        """The same for texts from anywhere."""
        embedder = Embedder(self.model, self.tokenizer, self._settings(settings), self._limit)
        return vectors.write_vectors(embedder, texts, Path(out), quiet=quiet)

    def neighbors(
        self,
        sentence: str,
        word: str,
        sources: Sources,
        *,
        k: int = 10,
        layers: Sequence[int] = (-1,),
        occurrence: int | None = None,
        same: bool = False,
        documents: str = "line",
        column: str | None = None,
        encoding: str = "utf-8",
        quiet: bool = True,
    ) -> Neighbors:
        """The words of files nearest, in their context, to a word of a sentence; ``same``: only occurrences of that word."""
        reader = WordReader(self.model, self.tokenizer, layers)
        texts = _texts(sources, documents, column, encoding, quiet)
        return near.neighbors(reader, sentence, word, texts, k, occurrence=occurrence, same=same, quiet=quiet)

    def similarity(self, first: str, second: str, *, word: str | None = None, **settings: Any) -> Similarity:
        """The cosine of the vectors of two texts (``settings`` as for ``embed``), or of one word in both (``layers``)."""
        if word is None:
            made = self.embed([first, second], **settings)
            cosine = float(near.cosine(made.vectors[:1], made.vectors[1])[0])
            return Similarity(first, second, None, cosine, made.layers, made.pooling)
        if set(settings) - {"layers"}:
            raise ConfigError("A word's vector is the mean of its tokens: of the settings it takes layers only.")
        reader = WordReader(self.model, self.tokenizer, settings.get("layers", (-1,)))
        (_, one), (_, other) = reader.one(first, word), reader.one(second, word)
        return Similarity(first, second, word, float(near.cosine(one[None], other)[0]), reader.layers, "mean")

    def next_sentence(self, first: str, second: str) -> NextSentence:
        """The probability that the second text follows the first."""
        self._need("next_sentence")
        tokens = Framing(self.model, self.tokenizer).pair(first, second)
        with asking(self.model):
            pooled = self.model.forward(tokens).pooled
            log_odds = self.heads["next_sentence"](pooled)[0].double()
        return NextSentence(first, second, float(log_odds.softmax(0)[0]))

    def attend(
        self,
        text: str,
        second: str | None = None,
        *,
        layers: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> Attention:
        """The attention weights of a text, or of a pair read as one sequence."""
        framing = Framing(self.model, self.tokenizer)
        tokens = framing.one(text) if second is None else framing.pair(text, second)
        return looking.attend(self.model, self.tokenizer, tokens, layers=layers, heads=heads)

    def _lacking(self) -> dict[str, str]:
        lacking = {}
        if self.model.config.head is None:
            lacking |= dict.fromkeys(("fill", "score", "score_files"), "an output layer over the vocabulary")
        if "next_sentence" not in self.heads or not getattr(self.model.config, "pooler", False):
            lacking["next_sentence"] = "a next-sentence head, as `pretrain bert` with that objective makes"
        return lacking

    def _settings(self, given: Mapping[str, Any]) -> EmbedSettings:
        """What is asked for, then what the folder says, then the defaults."""
        folder, said = self.sentences, {}
        if folder is not None and folder.unknown is None:
            said = {"pooling": folder.pooling, "normalize": folder.normalize}
        elif folder is not None and "pooling" not in given:
            raise CheckpointError(
                f"{folder.unknown}: choose a pooling of the model's states instead, as in --pooling mean."
            )
        return config.build(EmbedSettings, said | dict(given), "embed")

    @property
    def _limit(self) -> int | None:
        return None if self.sentences is None else self.sentences.limit


def _texts(sources: Sources, documents: str, column: str | None, encoding: str, quiet: bool) -> Iterator[str]:
    """The documents of files; what can't be read is refused here, before work starts."""
    found = read_documents(
        sources, documents=documents, column=column, encoding=encoding, notes=None if quiet else tell
    )
    return (document.text for document in found)
