"""What vectors of words can be asked: neighbours, analogies, similarity, and vectors of texts as the means of their words'.

    analogy A B C: which word is to C as B is to A?    argmax_w cos(w, b - a + c)    w none of the three (Mikolov et al. 2013)

Vectors have length 1 before they are compared or added. A word is asked for as it is spelled, else as the tokenizer reads
it (in lower case, where it lowers case). Special tokens are no words.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import tell
from vocablo.data.readers import read_documents
from vocablo.inference.vectors import VectorFile, write_vectors
from vocablo.inference.verbs import Asked
from vocablo.text.tokenizer import Tokenizer

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NearWord:
    """A word and the cosine of its vector with what was asked for."""

    word: str
    cosine: float


@dataclass(frozen=True, slots=True)
class WordNeighbors:
    """The words nearest to ``word``; ``searched`` words were compared."""

    word: str
    neighbors: tuple[NearWord, ...]
    searched: int


@dataclass(frozen=True, slots=True)
class Analogy:
    """``answers`` are the words that are to ``third`` as ``second`` is to ``first``, the likeliest one first."""

    first: str
    second: str
    third: str
    answers: tuple[NearWord, ...]
    searched: int


@dataclass(frozen=True, slots=True)
class WordSimilarity:
    """The cosine of two words, or of two texts."""

    first: str
    second: str
    cosine: float


@dataclass(frozen=True, slots=True, eq=False)
class WordEmbeddings:
    """The vectors [B, D] of texts, float32: the means of their words'. Of ``words`` words ``unknown`` had no vector."""

    texts: tuple[str, ...]
    vectors: Floats
    normalize: bool
    words: int
    unknown: int

    @property
    def width(self) -> int:
        """D."""
        return int(self.vectors.shape[1])


class WordModel(Asked):
    """Vectors of words, with the tokenizer that has the words."""

    what = "vectors of words"
    also = ("id", "vector", "nearest_rows", "hint")

    def __init__(self, model: Any, tokenizer: Tokenizer) -> None:
        super().__init__(model, tokenizer)
        self._vectors: Floats = model.vectors.detach().float().cpu().numpy()
        self._words = tokenizer.vocabulary
        self._ids = {word: index for index, word in enumerate(self._words) if index not in tokenizer.special_ids}
        self.known = np.array(sorted(self._ids.values()), dtype=np.int64)
        self._unit: Floats | None = None

    @property
    def count(self) -> int:
        """How many words have a vector."""
        return len(self.known)

    def id(self, word: str) -> int | None:
        """The row of a word, or None; see the module's docstring."""
        found = self._ids.get(word)
        if found is None and word:
            ids = self.tokenizer.encode(word).ids
            found = ids[0] if len(ids) == 1 and ids[0] not in self.tokenizer.special_ids else None
        return found

    def vector(self, word: str) -> Floats:
        """The vector [D] of a word. Raises DataError for one that has none."""
        return self._vectors[self._need_id(word)]

    def neighbors(self, word: str, *, k: int = 10) -> WordNeighbors:
        """The k words whose vectors have the greatest cosines with this one's."""
        row = self._need_id(word)
        return WordNeighbors(word, self._nearest(self.unit[row], [row], k), len(self.known))

    def analogy(self, first: str, second: str, third: str, *, k: int = 5) -> Analogy:
        """The k words that are to ``third`` as ``second`` is to ``first``: analogy("hombre", "rey", "mujer")."""
        rows = [self._need_id(word) for word in (first, second, third)]
        a, b, c = self.unit[rows]
        answers = self._nearest(b - a + c, rows, k)
        return Analogy(first, second, third, answers, len(self.known))

    def similarity(self, first: str, second: str) -> WordSimilarity:
        """The cosine of two words' vectors, or of two texts' (the means of their words')."""
        one, other = self.embed([first, second], normalize=True).vectors
        return WordSimilarity(first, second, float(one @ other))

    def embed(self, texts: str | Sequence[str], *, normalize: bool = False) -> WordEmbeddings:
        """A vector for each text. Raises DataError for a text none of whose words has one."""
        listed = [texts] if isinstance(texts, str) else list(texts)
        return _Embedder(self, normalize).whole(listed)

    def embed_texts(
        self, texts: Iterable[str], out: str | Path, *, normalize: bool = False, quiet: bool = True
    ) -> VectorFile:
        """The vectors of texts in a file (.npy, .jsonl or .parquet)."""
        return write_vectors(_Embedder(self, normalize), texts, Path(out), quiet=quiet)  # type: ignore[arg-type]

    def embed_files(
        self,
        sources: str | Path | Sequence[str | Path],
        out: str | Path,
        *,
        documents: str = "line",
        column: str | None = None,
        encoding: str = "utf-8",
        normalize: bool = False,
        quiet: bool = True,
    ) -> VectorFile:
        """The same for every document of files."""
        notes = None if quiet else tell
        found = read_documents(sources, documents=documents, column=column, encoding=encoding, notes=notes)
        return self.embed_texts((one.text for one in found), out, normalize=normalize, quiet=quiet)

    @property
    def unit(self) -> Floats:
        """The vectors [V, D] with length 1; a vector of zeros stays one."""
        if self._unit is None:
            norms = np.linalg.norm(self._vectors, axis=1, keepdims=True)
            self._unit = (self._vectors / np.where(norms > 0, norms, 1)).astype(np.float32)
        return self._unit

    def nearest_rows(self, wanted: Floats, without: Sequence[int], k: int) -> list[tuple[int, float]]:
        """The k rows of words with the greatest cosines with a vector [D], and these."""
        norm = float(np.linalg.norm(wanted)) or 1.0
        cosines = self.unit[self.known] @ (wanted / norm)
        cosines[np.isin(self.known, without)] = -np.inf
        k = min(k, len(cosines) - len(set(without)))
        best = np.argpartition(-cosines, k - 1)[:k] if k > 0 else []
        return [(int(self.known[at]), float(cosines[at])) for at in sorted(best, key=lambda at: -cosines[at])]

    def _nearest(self, wanted: Floats, without: Sequence[int], k: int) -> tuple[NearWord, ...]:
        if k < 1:
            raise ConfigError(f"k is at least 1; got {k}.")
        return tuple(NearWord(self._words[row], cosine) for row, cosine in self.nearest_rows(wanted, without, k))

    def _need_id(self, word: str) -> int:
        found = self.id(word)
        if found is None:
            raise DataError(f"There is no vector of {word!r}{self.hint(word)}")
        return found

    def hint(self, word: str) -> str:
        """The known word that is spelled most like an unknown one, among those with its first letters."""
        alike = [known for known in self._ids if known[:2].casefold() == word[:2].casefold()]
        close = difflib.get_close_matches(word, alike, n=1, cutoff=0.5)
        return f": did you mean {close[0]!r}?" if close else "."


class _Embedder:
    """Means of words' vectors, for ``write_vectors``; it counts the words, and those without a vector."""

    layers: tuple[int, ...] = ()
    truncated = windowed = 0

    def __init__(self, asked: WordModel, normalize: bool) -> None:
        self.asked = asked
        self.settings = SimpleNamespace(pooling="mean", normalize=normalize)
        self.tokens = self.unknown = 0

    def embed(self, texts: Sequence[str]) -> Floats:
        """[B, D]."""
        return np.stack([self._one(text) for text in texts])

    def whole(self, texts: Sequence[str]) -> WordEmbeddings:
        if not texts:
            raise DataError("There is nothing to embed: give a text.")
        vectors = self.embed(texts)
        return WordEmbeddings(tuple(texts), vectors, self.settings.normalize, self.tokens, self.unknown)

    def _one(self, text: str) -> Floats:
        asked, special = self.asked, self.asked.tokenizer.special_ids
        whole = asked.id(text)
        ids = asked.tokenizer.encode(text).ids if whole is None else [whole]
        rows = [one for one in ids if one not in special]
        self.tokens, self.unknown = self.tokens + len(ids), self.unknown + len(ids) - len(rows)
        if not rows:
            raise DataError(f"No word of {text!r} has a vector{asked.hint(text)}")
        mean = asked._vectors[rows].mean(0)
        if self.settings.normalize:
            mean = mean / (float(np.linalg.norm(mean)) or 1.0)
        return mean.astype(np.float32)
