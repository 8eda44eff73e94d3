"""What stands behind a mask: the most probable tokens, and several masks together.

* A mask is one token. Each mask is answered alone, with the others still masked: p(token | the text).
* Several masks together (``joint``): they are filled from left to right, each in the text where those before it are filled
  and those behind it are still masks, and the best ``k`` fillings so far are gone on with (a beam). Their log-probability
  is the sum of these steps; another order of filling would give another one.
* Candidates of one's own (``among``) may be of several tokens. Each gets as many masks as it has tokens, and these are
  filled from left to right with its own, so its probability is one among all fillings of as many tokens. Nothing says how
  probable it is that there are so many: candidates of different lengths are comparable only roughly, and ``tokens`` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import BothModel
from vocablo.data.order import by_length
from vocablo.inference.framing import Framing, flat_frames, mask_of
from vocablo.inference.reading import Floats, Ints, asking, device_of, spelled
from vocablo.text.tokenizer import Encoding, Tokenizer
from vocablo.views.svg import Bar, bars


@dataclass(frozen=True, slots=True)
class Candidate:
    """What may stand behind a mask: its text, probability and log-probability (nats), and the tokens that spell it.

    ``piece``: it goes on with the word before it, so it is no word of its own.
    """

    word: str
    prob: float
    log_prob: float
    tokens: tuple[str, ...]
    piece: bool


@dataclass(frozen=True, slots=True)
class Blank:
    """One mask, which stands at ``begin`` in the text, and its candidates, the most probable first."""

    begin: int
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Filling:
    """All masks filled together: the whole text, the tokens in the order of the masks, and the sum of the steps in nats."""

    text: str
    tokens: tuple[str, ...]
    log_prob: float


@dataclass(frozen=True, slots=True)
class Filled:
    """The answers for each mask of a text alone and, where there are several, for all of them together."""

    text: str
    masks: tuple[Blank, ...]
    joint: tuple[Filling, ...]

    def _repr_html_(self) -> str:
        drawn = [bars([Bar(one.word, one.prob) for one in mask.candidates], title=self.text) for mask in self.masks]
        return "".join(drawn) + "".join(f"<p>{escape(one.text)}</p>" for one in self.joint)


def fill(
    model: BothModel,
    tokenizer: Tokenizer,
    text: str,
    k: int = 5,
    *,
    words: bool = False,
    among: Sequence[str] | None = None,
) -> Filled:
    """The k most probable tokens behind each mask of a text; see the module's docstring for several masks and ``among``.

    ``words`` leaves out pieces of words, punctuation and special tokens (the probabilities stay those among all tokens).
    Raises DataError for a text without a mask, or over the context; ConfigError for ``among`` with several masks.
    """
    if k < 1:
        raise ConfigError(f"k is at least 1; got {k}.")
    encoding = tokenizer.encode(text)
    places = np.flatnonzero(np.array(encoding.ids, dtype=np.int64) == mask_of(tokenizer))
    if not len(places):
        raise DataError(
            f"There is no mask in {text!r}: write {tokenizer.specials['mask']} where a word is to be found."
        )
    filler = _Filler(model, tokenizer, text, encoding, places)
    if among is not None:
        if len(places) > 1:
            raise ConfigError(f"among answers one mask, and this text has {len(places)}: leave one, or leave it out.")
        return Filled(text, (Blank(int(encoding.offsets[places[0], 0]), filler.among(among)),), ())
    kept = _words(tokenizer) if words else np.ones(tokenizer.size, dtype=bool)
    return Filled(text, filler.alone(k, kept), filler.joint(k, kept) if len(places) > 1 else ())


def _words(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """bool [V]: tokens that are words of letters or digits, or open one."""
    named = np.array([any(character.isalnum() for character in surface) for surface in tokenizer.surfaces])
    named[list(tokenizer.special_ids)] = False
    return named & ~_pieces(tokenizer)


def _pieces(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """bool [V]: tokens that go on with the word before them."""
    return tokenizer.words.joins & np.array([not surface[:1].isspace() for surface in tokenizer.surfaces])


class _Filler:
    """One text with masks."""

    def __init__(self, model: BothModel, tokenizer: Tokenizer, text: str, encoding: Encoding, places: Ints) -> None:
        self.model, self.tokenizer, self.text, self.encoding = model, tokenizer, text, encoding
        self.framing, self.mask = Framing(model, tokenizer), mask_of(tokenizer)
        self.framing.require(encoding.ids, text)
        self.places, self.sequence = places + self.framing.before, self.framing.frame(encoding.ids)
        self.pieces = _pieces(tokenizer)

    def alone(self, k: int, kept: NDArray[np.bool_]) -> tuple[Blank, ...]:
        """Each mask with the others still masked."""
        found = self._log_probs([self.sequence], [self.places])
        return tuple(
            Blank(int(begin), tuple(self._candidate([token], row[token]) for token in _best(row, k, kept)))
            for begin, row in zip(self.encoding.offsets[self.places - self.framing.before, 0], found, strict=True)
        )

    def joint(self, k: int, kept: NDArray[np.bool_]) -> tuple[Filling, ...]:
        """The best fillings of all masks, from left to right with a beam of ``k``."""
        beam = [(0.0, self.sequence)]
        for place in self.places:
            found = self._log_probs([sequence for _, sequence in beam], [np.array([place])] * len(beam))
            grown = []
            for (total, sequence), row in zip(beam, found, strict=True):
                for token in _best(row, k, kept):
                    filled = sequence.copy()
                    filled[place] = token
                    grown.append((total + float(row[token]), filled))
            beam = sorted(grown, key=lambda one: -one[0])[:k]
        return tuple(self._filling(total, sequence) for total, sequence in beam)

    def among(self, candidates: Sequence[str]) -> tuple[Candidate, ...]:
        """Candidates of any number of tokens, the most probable first."""
        spellings = [self._spelling(candidate) for candidate in candidates]
        sequences, hidden = [], []
        for whole, begin, end in spellings:
            sequence = self.framing.frame(whole)
            for place in range(begin, end):
                copy = sequence.copy()
                copy[place + self.framing.before : end + self.framing.before] = self.mask
                sequences.append(copy)
                hidden.append(np.array([place + self.framing.before]))
        wanted = np.array([token for whole, begin, end in spellings for token in whole[begin:end]])
        values = self._log_probs(sequences, hidden)[np.arange(len(wanted)), wanted]
        cuts = np.cumsum([end - begin for _, begin, end in spellings])[:-1]
        found = [
            self._candidate(whole[begin:end], part.sum(), candidate)
            for candidate, (whole, begin, end), part in zip(candidates, spellings, np.split(values, cuts), strict=True)
        ]
        return tuple(sorted(found, key=lambda one: -one.log_prob))

    def _spelling(self, candidate: str) -> tuple[list[int], int, int]:
        """The tokens of the text with a candidate in the mask's place, and which of them are the candidate's."""
        begin, end = self.encoding.offsets[self.places[0] - self.framing.before].tolist()
        written = self.tokenizer.specials["mask"]
        begin += self.text[begin:end].index(written)  # some tokenizers count the space before a mask as its own
        text = self.text[:begin] + candidate + self.text[begin + len(written) :]
        if not candidate.strip():
            raise ConfigError("A candidate is empty: name words, as in --among sillón banco.")
        encoding = self.tokenizer.encode(text)
        offsets = encoding.offsets
        inside = np.flatnonzero((offsets[:, 1] > begin) & (offsets[:, 0] < begin + len(candidate)))
        first, last = int(inside[0]), int(inside[-1]) + 1
        around = text[offsets[first, 0] : begin] + text[begin + len(candidate) : offsets[last - 1, 1]]
        if around.strip():
            raise ConfigError(
                f"The candidate {candidate!r} shares a token with the text around the mask: add a space there."
            )
        if self.tokenizer.unk_id in encoding.ids[first:last]:
            raise ConfigError(f"The vocabulary can't spell the candidate {candidate!r}: choose another.")
        self.framing.require(encoding.ids, text)
        return encoding.ids, first, last

    def _log_probs(self, sequences: Sequence[Ints], places: Sequence[Ints]) -> Floats:
        """log p [M, V] at the given places of each sequence, in order."""
        found: list[Floats] = [np.zeros(0)] * len(sequences)
        device = device_of(self.model)
        with asking(self.model):
            for group in by_length([len(sequence) for sequence in sequences]):
                states = self.model.forward(flat_frames([sequences[one] for one in group], device)).states
                starts = np.cumsum([0, *(len(sequences[one]) for one in group)])
                at = np.concatenate([starts[i] + places[one] for i, one in enumerate(group)])
                logits = self.model.logits(states.index_select(0, torch.from_numpy(at).to(device)))
                rows = logits.double().log_softmax(1).cpu().numpy()
                cuts = np.cumsum([len(places[one]) for one in group])[:-1]
                for one, part in zip(group, np.split(rows, cuts), strict=True):
                    found[one] = part
        return np.concatenate(found)

    def _candidate(self, ids: Sequence[int], log_prob: float, word: str | None = None) -> Candidate:
        piece = bool(self.pieces[ids[0]])
        shown = self.tokenizer.surface(ids[0]).strip() if word is None else word
        return Candidate(shown, float(np.exp(log_prob)), float(log_prob), spelled(self.tokenizer, ids), piece)

    def _filling(self, total: float, sequence: Ints) -> Filling:
        before = self.framing.before
        own = sequence[before : before + len(self.encoding.ids)]
        filled = own[self.places - before]
        return Filling(self._written(filled), spelled(self.tokenizer, filled.tolist()), total)

    def _written(self, filled: Ints) -> str:
        """The text with the masks' own characters replaced, so that all else stays as it was written."""
        parts, at = [], 0
        written = self.tokenizer.specials["mask"]
        for token, place in zip(filled.tolist(), self.places - self.framing.before, strict=True):
            begin, end = self.encoding.offsets[place].tolist()
            begin += self.text[begin:end].index(written)
            before, word = self.text[at:begin], self.tokenizer.surface(token).strip()
            parts += [before.rstrip() if self.pieces[token] else before, word]
            at = begin + len(written)
        return "".join(parts) + self.text[at:]


def _best(row: Floats, k: int, kept: NDArray[np.bool_]) -> list[int]:
    """The k most probable tokens of those that are kept; a model may have rows that no token of the tokenizer has."""
    ranked = np.where(np.pad(kept, (0, len(row) - len(kept))), row, -np.inf)
    return [int(token) for token in np.argsort(-ranked, kind="stable")[:k] if np.isfinite(ranked[token])]
