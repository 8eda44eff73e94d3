"""N-gram language models with interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998, section 3).

    p_k(w | h) = max(c(h w) - D(c(h w)), 0) / c(h .)  +  g(h) p_(k-1)(w | h')        h' is h without its first word
    g(h)       = (D_1 N_1(h .) + D_2 N_2(h .) + D_3 N_3+(h .)) / c(h .)              p_0 is uniform over the vocabulary

where c are counts in the highest order and, below it, continuation counts: in how many different left contexts h w occurs.
N-grams that begin where a document begins have no left context and keep their counts. The discounts of each order come from
its counts of counts: Y = n_1 / (n_1 + 2 n_2), D_r = r - (r + 1) Y n_(r+1) / n_r for r = 1, 2, 3 and more.

The one boundary token ends every document and stands before its first word; contexts never cross it. Entries are kept as
in an ARPA file, with the interpolated log p of each and log g of each as a context (natural, so that an ARPA file's 1e-100
has room): p(w | h) is that of the longest h w that occurs, times the g of every longer context. A k-gram's key is (number
of its first k - 1 words) * V + (its last word), sorted, so a table is three arrays, 16 bytes an n-gram. Every k-gram's
first k - 1 words are an entry too; its last k - 1 words are one in what is counted here, but not in every ARPA file.

The family obeys ``contract.LeftModel``: the hidden state *is* the history, ``order - 1`` ids (and, with a cache, the ids
before them); -1 stands for nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from vocablo.base.config import Settings, merge
from vocablo.base.config import build as build_settings
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import Progress
from vocablo.contract import Hidden, Tokens

FAMILIES = {"ngram": "n-gram with interpolated modified Kneser-Ney smoothing"}
SIZES = {"tiny": 2, "mini": 3, "small": 4, "medium": 5, "base": 6, "large": 7}
COUNTED = True
NOTHING = -1
CHUNK = 1 << 16  # targets that are looked up at once


class Cache(Settings):
    """A cache (Kuhn & De Mori 1990): the share of ``weight`` goes to the words of the last ``length`` tokens, by count.

    The words it has seen carry over from one document to the next. Length 0 is no cache.
    """

    length: int = Field(default=0, ge=0)
    weight: float = Field(default=0.1, ge=0, lt=1)


class Config(Settings):
    """An n-gram model. ``boundary`` and ``entries`` (n-grams of each order) are set when it is fitted."""

    vocab: int = Field(ge=2)
    order: int = Field(default=5, ge=1, le=12)
    cache: Cache = Cache()
    boundary: int = 0
    entries: tuple[int, ...] = ()


def config_for(family: str, size: str, vocab: int, context: int, changes: Mapping[str, Any]) -> Config:
    """The configuration at a size, which is the order; ``changes`` win. ``context`` doesn't matter here."""
    if size not in SIZES:
        raise ConfigError(f"{family} has no size {size!r}{nearest(size, SIZES)}")
    return build_settings(
        Config, merge([("size", {"vocab": vocab, "order": SIZES[size]}), ("model", changes)])[0], "model"
    )


def family_of(config: Config) -> str:
    """The family that a configuration belongs to."""
    return "ngram"


def build(config: Config) -> NGram:
    """An empty model, to be fitted or filled by ``load_state_dict``."""
    return NGram(config)


@dataclass(frozen=True)
class History:
    """What an n-gram carries on: the last ids of each sequence, [B, width], -1 where there was nothing."""

    ids: Int[Tensor, "B W"]

    def select(self, rows: Int[Tensor, "B2"]) -> History:
        return History(self.ids.index_select(0, rows))


class NGram(nn.Module):
    """An n-gram model; its tables are buffers, so that it is saved and loaded as any other family."""

    reads = "left"
    context = None

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vocab = config.vocab
        self._allocate(config)

    def _allocate(self, config: Config) -> None:
        self.config = config
        self.carries = config.cache.length > 0
        sizes = config.entries or (config.vocab,) + (0,) * (config.order - 1)
        for k, size in enumerate(sizes, 1):
            if k > 1:
                self.register_buffer(f"keys_{k}", torch.zeros(size, dtype=torch.int64))
            self.register_buffer(f"log_probs_{k}", torch.zeros(size))
            if k < config.order:
                self.register_buffer(f"log_rest_{k}", torch.zeros(size))

    @property
    def entries(self) -> int:
        """N-grams of all orders."""
        return sum(self.config.entries)

    @property
    def width(self) -> int:
        """Ids of a history: what the longest context and the cache look at."""
        return max(self.config.order - 1 + self.config.cache.length, 1)

    def table(self, name: str, k: int) -> Tensor:
        """A buffer of order k: ``keys``, ``log_probs`` or ``log_rest`` (log g of each entry as a context)."""
        return getattr(self, f"{name}_{k}")

    # Counting

    def fit(self, store: Any, progress: Progress | None = None) -> None:
        """Count a token store, whose documents all end with the boundary token. Raises DataError for an empty one."""
        self.count(np.asarray(store.tokens), np.asarray(store.documents), progress)

    def count(self, tokens: NDArray[Any], documents: NDArray[np.int64], progress: Progress | None = None) -> None:
        """Fit to ``tokens`` [N] with document starts [D + 1]; each document ends with the same boundary token."""
        if len(tokens) == 0:
            raise DataError("There is no text to count.")
        boundary = int(tokens[documents[1] - 1])
        if int(tokens.max()) >= self.vocab:
            raise DataError(f"The text has token id {int(tokens.max())} and the model a vocabulary of {self.vocab}.")
        stream, depth = _stream(tokens, documents, boundary)
        orders = self.config.order
        grams = _count_orders(stream, depth, orders, self.vocab)
        self._allocate(
            self.config.model_copy(update={"boundary": boundary, "entries": tuple(len(g.raw) for g in grams)})
        )
        below = np.full(self.vocab, 1.0 / self.vocab)
        for k, gram in enumerate(grams, 1):
            counts = gram.raw if k == orders else _continuations(gram, grams[k], k == 1)
            parents = gram.keys // self.vocab if k > 1 else np.zeros(self.vocab, dtype=np.int64)
            contexts = len(grams[k - 2].raw) if k > 1 else 1
            kept, rest = _discounted(counts, parents, contexts)
            probs = kept + rest[parents] * (below[gram.suffix] if k > 1 else below)
            self.table("log_probs", k).copy_(torch.from_numpy(np.log(probs)))
            if k > 1:
                self.table("keys", k).copy_(torch.from_numpy(gram.keys))
                self.table("log_rest", k - 1).copy_(torch.from_numpy(np.log(rest)))
            below = probs
            if progress is not None:
                progress.advance(len(tokens) / orders, f"order {k}: {len(gram.raw):,} n-grams")

    # The protocol

    def forward(
        self, tokens: Tokens, source: Tokens | None = None, state: History | None = None, keep: tuple[int, ...] = ()
    ) -> Hidden:
        """Histories after every token, [N, width]; ``state`` goes on from earlier ones."""
        before = state.ids if state is not None else tokens.ids.new_full((tokens.fences.count, self.width), NOTHING)
        windows, last = [], []
        for row, ids in enumerate(tokens.ids.split(tokens.fences.lengths)):
            joined = torch.cat([before[row], ids])
            windows.append(joined[1:].unfold(0, self.width, 1))
            last.append(joined[-self.width :])
        states = windows[0] if len(windows) == 1 else torch.cat(windows)
        return Hidden(states, state=History(torch.stack(last)))

    def extend(self, tokens: Tokens, state: History | None) -> tuple[Float[Tensor, "B V"], History]:
        """Read more tokens of each of B sequences; log-probabilities of what comes next."""
        history = self.forward(tokens, state=state).state
        return self.logits(history.ids), history

    def logits(self, states: Int[Tensor, "M W"]) -> Float[Tensor, "M V"]:
        """log p of every token after each history: normalised."""
        recent, contexts = self._contexts(states)
        rows = []
        for m in range(states.shape[0]):
            log_probs = self.table("log_probs", 1).double()
            for k, found in enumerate(contexts, 2):
                number = int(found[m])
                if number < 0:
                    continue
                log_probs = log_probs + self.table("log_rest", k - 1)[number]
                keys = self.table("keys", k)
                edges = torch.tensor([number * self.vocab, (number + 1) * self.vocab])
                low, high = torch.searchsorted(keys, edges).tolist()
                log_probs[keys[low:high] - number * self.vocab] = self.table("log_probs", k)[low:high].double()
            rows.append(log_probs)
        return self._cached(torch.stack(rows), recent).float()

    def target_log_probs(
        self, states: Int[Tensor, "N W"], at: Int[Tensor, "M"], ids: Int[Tensor, "M"]
    ) -> Float[Tensor, "M"]:
        """log p(ids[m] | states[at[m]]) in nats."""
        parts = [
            self._look_up(states[at[begin : begin + CHUNK]], ids[begin : begin + CHUNK])
            for begin in range(0, len(ids), CHUNK)
        ]
        return torch.cat(parts) if parts else torch.zeros(0)

    def _look_up(self, states: Tensor, ids: Tensor) -> Tensor:
        recent, contexts = self._contexts(states)
        log_probs = self.table("log_probs", 1)[ids].double()
        for k, numbers in enumerate(contexts, 2):
            rest = self.table("log_rest", k - 1)
            if len(rest) == 0:  # so there is no longer context either
                break
            log_probs = log_probs + torch.where(numbers >= 0, rest[numbers.clamp(min=0)].double(), 0.0)
            if len(self.table("log_probs", k)):
                place = self._find(k, numbers, ids)
                longer = self.table("log_probs", k)[place.clamp(min=0)].double()
                log_probs = torch.where(place >= 0, longer, log_probs)
        if self.config.cache.length:
            share, any_seen = cache_shares(recent, ids)
            log_probs = torch.where(any_seen, mix(log_probs, share, self.config.cache.weight), log_probs)
        return log_probs.float()

    def _contexts(self, states: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The cache's ids, and the number of the context of each length 1..order-1 (-1: it never occurred)."""
        orders, cache = self.config.order, self.config.cache.length
        recent = states[:, states.shape[1] - cache :] if cache else states[:, :0]
        if orders == 1:
            return recent, []
        history = states[:, states.shape[1] - orders + 1 :]
        # Nothing before the last boundary belongs to the context.
        later = (history == self.config.boundary).flip(1).cumsum(1).flip(1)
        crossed = torch.zeros_like(history, dtype=torch.bool)
        crossed[:, :-1] = later[:, 1:] > 0
        history = history.masked_fill(crossed, NOTHING)
        found = []
        for length in range(1, orders):
            words = history[:, orders - 1 - length :]
            numbers = words[:, 0]
            for k in range(2, length + 1):
                numbers = self._find(k, numbers, words[:, k - 1])
            found.append(numbers)
        return recent, found

    def _find(self, k: int, contexts: Tensor, ids: Tensor) -> Tensor:
        """The number of each k-gram (context, id), or -1."""
        keys = self.table("keys", k)
        if len(keys) == 0:
            return torch.full_like(ids, NOTHING)
        wanted = contexts * self.vocab + ids
        # Numpy's search: torch's splits every 200 look-ups over threads, which costs more than it gains on a busy machine.
        place = torch.from_numpy(np.searchsorted(keys.numpy(), wanted.numpy())).clamp(max=len(keys) - 1)
        return torch.where((keys[place] == wanted) & (contexts >= 0), place, NOTHING)

    def _cached(self, log_probs: Tensor, recent: Tensor) -> Tensor:
        if not self.config.cache.length:
            return log_probs
        for m, row in enumerate(recent):
            words = row[row != NOTHING]
            if len(words):
                share = torch.bincount(words, minlength=self.vocab).double() / len(words)
                log_probs[m] = mix(log_probs[m], share, self.config.cache.weight)
        return log_probs

    def flops_per_token(self, context: int) -> int:
        """None: tables are looked up."""
        return 0


def cache_shares(recent: Int[Tensor, "M C"], ids: Int[Tensor, "M"]) -> tuple[Float[Tensor, "M"], Bool[Tensor, "M"]]:
    """Which share of what the cache holds (-1: nothing) each id is, and whether it holds anything."""
    seen = (recent != NOTHING).sum(1)
    return (recent == ids[:, None]).sum(1) / seen.clamp(min=1), seen > 0


def mix(log_probs: Float[Tensor, "*M"], share: Float[Tensor, "*M"], weight: float) -> Float[Tensor, "*M"]:
    """log((1 - weight) p + weight share)."""
    return ((1 - weight) * log_probs.exp() + weight * share).log()


@dataclass(frozen=True)
class _Grams:
    """The distinct k-grams: sorted keys (k > 1), raw counts, the number of each one's last k - 1 words, and whether it
    begins where a document does."""

    keys: NDArray[np.int64]
    raw: NDArray[np.int64]
    suffix: NDArray[np.int64]
    first: NDArray[np.bool_]


def _stream(
    tokens: NDArray[Any], documents: NDArray[np.int64], boundary: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The text with a boundary before each document too, and at each place the words since then, that boundary included."""
    lengths = np.diff(documents) + 1
    starts = np.cumsum(lengths) - lengths
    stream = np.full(lengths.sum(), boundary, dtype=np.int64)
    depth = np.arange(len(stream)) - np.repeat(starts, lengths) + 1
    stream[depth > 1] = tokens[documents[0] : documents[-1]]
    return stream, depth


def _count_orders(stream: NDArray[np.int64], depth: NDArray[np.int64], orders: int, vocab: int) -> list[_Grams]:
    """The k-grams of each order, numbered; every order's numbers come from those of the one below it, one place earlier."""
    words = depth > 1  # the boundary before a document is a context and nothing that is predicted
    raw = np.bincount(stream[words], minlength=vocab)
    none = np.zeros(0, dtype=np.int64)
    grams = [_Grams(none, raw, none, np.zeros(vocab, dtype=bool))]
    numbers = stream
    for k in range(2, orders + 1):
        ends = np.flatnonzero(depth >= k)
        keys, at, inverse = np.unique(numbers[ends - 1] * vocab + stream[ends], return_index=True, return_inverse=True)
        suffix = numbers[ends[at]]
        grams.append(_Grams(keys, np.bincount(inverse, minlength=len(keys)), suffix, depth[ends[at]] == k))
        following = np.full(len(stream), NOTHING, dtype=np.int64)
        following[ends] = inverse
        numbers = following
    return grams


def _continuations(gram: _Grams, longer: _Grams, unigrams: bool) -> NDArray[np.int64]:
    """In how many different left contexts each k-gram occurs; those at the start of documents keep their counts."""
    counts = np.bincount(longer.suffix, minlength=len(gram.raw))
    return counts if unigrams else np.where(gram.first, gram.raw, counts)


def _discounted(
    counts: NDArray[np.int64], parents: NDArray[np.int64], contexts: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What discounting leaves of each relative frequency, and the weight of the shorter context for each context."""
    discounts = _discounts(counts)[np.minimum(counts, 3)]
    totals = np.bincount(parents, weights=counts, minlength=contexts)
    freed = np.bincount(parents, weights=discounts, minlength=contexts)
    rest = np.ones(contexts)  # a context that nothing follows leaves all to the shorter one
    np.divide(freed, totals, out=rest, where=totals > 0)
    kept = (counts - discounts) / np.maximum(totals[parents], 1)
    return kept, rest


def _discounts(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """D for counts 0, 1, 2 and 3 or more. Where the counts of counts can't give one (tiny corpora), r / 2 stands in."""
    n1, n2, n3, n4 = (int((counts == r).sum()) for r in (1, 2, 3, 4))
    found = [0.0]
    y = n1 / (n1 + 2 * n2) if n1 else math.nan
    for r, (here, above) in enumerate(((n1, n2), (n2, n3), (n3, n4)), 1):
        value = r - (r + 1) * y * above / here if here else math.nan
        found.append(value if 0 < value < r else r / 2)
    return np.array(found)
