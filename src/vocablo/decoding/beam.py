"""Beam search over the one step protocol: prompts or sources, in one batch, every step one read of all running rows.

    score(y) = log p(y | x) / length(y)^alpha  +  coverage            the settings' docstring has both

A step looks at the 2K best continuations of each text's K hypotheses. Those among the first K that end are finished and leave
the beam; the K best of the others run on (with K ends at most, 2K are always enough). This, and the rule by which a text is
done, are those of transformers' ``generate``; early stopping "full", "estimate" and "bound" are its True, False and
"never". The state's rows move only when the kept hypotheses aren't where they were, and texts that are done leave the batch.
With G groups every text is G problems of a beam of K / G; they meet in the diversity penalty only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vocablo.base.errors import ConfigError
from vocablo.decoding.banks import Banks
from vocablo.decoding.candidates import Candidates, best, joined, normaliser
from vocablo.decoding.rules import Rules, discouraged
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import Ones, Start

NONE = -1  # where there is no token


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A text that was found: its tokens with ``<end>``, log p of each (the model's own, in nats), and the score of the search.

    ``finished_by`` is ``end``, ``max_tokens`` or ``context`` (the model reads no more).
    """

    ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    score: float
    finished_by: str

    @property
    def log_prob(self) -> float:
        """log p(text | what it goes on from), by the chain rule."""
        return sum(self.log_probs)


def search(start: Start, settings: DecodeSettings, end: int | None) -> list[list[Hypothesis]]:
    """The ``n_best`` hypotheses of each text, best first; fewer where the beam found fewer.

    A beam may be wider than the vocabulary here (``settings.fits`` refuses it): wide enough, it sees every sequence.
    Raises ConfigError when no text can be written under the settings, or ``coverage`` is asked of a family that doesn't
    tell its attention.
    """
    if settings.coverage and start.attended is None:
        raise ConfigError(
            "coverage needs to be told of the attention on a source at every step, which recurrent translators do and this model "
            "doesn't: set it to 0."
        )
    running = _Search(start, settings, end)
    while running.step():
        pass
    return running.results()


def penalty(length: int, settings: DecodeSettings) -> float:
    """What a log-probability of ``length`` tokens is divided by."""
    base = length if settings.length_form == "power" else (5 + length) / 6
    return float(base**settings.length_penalty)


def by_length(lengths: Sequence[int], budget: int, most: int = 1024) -> Iterator[list[int]]:
    """Indices in batches of like length, longest first: at most ``budget`` tokens, the shorter ones counted as the longest."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    while order:
        size = min(max(1, budget // max(lengths[order[0]], 1)), most)
        yield order[:size]
        order = order[size:]


@dataclass
class _Kept:
    """The finished hypotheses of P problems, best first: [P, K] and [P, K, T]; -inf where there is none."""

    scores: Tensor
    ids: Tensor
    logs: Tensor

    def merge(self, scores: Tensor, ids: Tensor, logs: Tensor) -> None:
        """Keep the best K of these and what is there."""
        room = self.scores.shape[1]
        every = torch.cat([self.scores, scores], 1)
        self.scores, chosen = every.topk(room, dim=1)
        width = ids.shape[2]
        grow = width - self.ids.shape[2]
        old_ids = torch.nn.functional.pad(self.ids, (0, grow), value=NONE)
        old_logs = torch.nn.functional.pad(self.logs, (0, grow))
        at = chosen[:, :, None].expand(-1, -1, width)
        self.ids = torch.cat([old_ids, ids], 1).gather(1, at)
        self.logs = torch.cat([old_logs, logs], 1).gather(1, at)

    def rows(self, at: Tensor) -> _Kept:
        return _Kept(self.scores[at], self.ids[at], self.logs[at])


class _Search:
    """P problems (text by text, the groups of each together) of K hypotheses; K is 1 before the first step."""

    def __init__(self, start: Start, settings: DecodeSettings, end: int | None) -> None:
        self.settings, self.end = settings, end
        self.groups, self.width = settings.groups, settings.beam // settings.groups
        self.limit = settings.max_tokens if start.room is None else min(settings.max_tokens, start.room)
        self.cut = "max_tokens" if self.limit == settings.max_tokens else "context"
        self.start, self.device = start, start.logits.device
        self.rules = Rules(settings, end, self.limit)
        self.banks = Banks(settings.include, self.device) if settings.include else None
        self.ones = Ones()
        self.texts = torch.arange(start.count, device=self.device)  # those that are still running
        self.done: list[list[Hypothesis]] = [[] for _ in range(start.count)]
        copies = torch.arange(start.count, device=self.device).repeat_interleave(self.groups)
        alone = self.groups == 1
        self.state = start.state if alone else start.state.select(copies)
        self.logits = start.logits.clone() if alone else start.logits[copies]  # rules write into scores
        self.before = start.history if alone else start.history[copies]
        problems = len(copies)
        self.scores = torch.zeros(problems, 1, device=self.device)
        self.ids = torch.zeros(problems, 1, 0, dtype=torch.long, device=self.device)
        self.logs = torch.zeros(problems, 1, 0, device=self.device)
        self.kept = self._nothing(problems)
        self.met = None if self.banks is None else self.banks.begin(problems, self.device)
        self.seen: Tensor | None = None  # attention on the source so far, [P, K, S]

    def _nothing(self, problems: int) -> _Kept:
        scores = torch.full((problems, self.width), -math.inf, device=self.device)
        ids = torch.full((problems, self.width, 0), NONE, dtype=torch.long, device=self.device)
        return _Kept(scores, ids, torch.zeros(problems, self.width, 0, device=self.device))

    def step(self) -> bool:
        """One more token of every running hypothesis; whether any goes on."""
        if not len(self.texts) or not self.limit:
            return False
        number = self.ids.shape[2]
        found = self._candidates(number)
        last = number + 1 == self.limit
        ended = found.tokens == self.end if self.end is not None else torch.zeros_like(found.tokens, dtype=torch.bool)
        self._finish(found, ended, last)
        if last:
            self._leave(torch.ones(len(self.texts), dtype=torch.bool, device=self.device))
            return False
        self._keep(found, ended)
        going = self._going(number + 1)
        if not bool(going.all()):
            self._leave(~going)
        if not len(self.texts):
            return False
        self._read()
        return True

    def _candidates(self, number: int) -> Candidates:
        """The best continuations of every problem, best first."""
        settings, width = self.settings, self.ids.shape[1]
        logits = self.logits.float()
        self._look()
        norm = normaliser(logits)
        raw = edited = logits
        history = None
        if settings.repetition_penalty != 1 or settings.no_repeat or settings.exclude:
            before = self.before.repeat_interleave(width, 0)
            history = torch.cat([before, self.ids.flatten(0, 1)], 1)
        if settings.repetition_penalty != 1:
            assert history is not None
            of = norm if settings.searches else None  # greedy penalises as ``choose`` does
            edited = discouraged(logits, of, history, settings.repetition_penalty)
        forced = self.rules.forced(number) is not None
        if settings.constrained:
            edited = self.rules.edit(edited if edited is not raw else raw, self._history(history), number)
        if self.banks is not None and self.met is not None and self.end is not None and not forced:
            unmet = ~self.met.all(2).flatten()
            edited[unmet, self.end] = -math.inf
        shift = torch.zeros_like(norm) if forced else norm
        found = self._best(edited, shift)
        rows = self._rows(found.parents)
        found.logs = raw[rows, found.tokens] - norm[rows]
        return found

    def _history(self, history: Tensor | None) -> Tensor:
        return self.ids.flatten(0, 1) if history is None else history

    def _best(self, scores: Tensor, shift: Tensor) -> Candidates:
        """``scores`` less ``shift`` is what a token adds to its row's score."""
        width = self.ids.shape[1]
        running = self.scores.flatten() - shift
        if self.groups == 1:
            # Banks are dealt the best of every hypothesis, or one that has met all might offer nothing.
            count = 2 * self.width * (1 if self.banks is None else width)
            found = joined(*best(scores, 2 * self.width), running, width, count)
        else:
            found = self._diverse(scores, running)
        return found if self.banks is None else self._with_offers(found, scores, running)

    def _diverse(self, scores: Tensor, running: Tensor) -> Candidates:
        """Group after group: a token's score is lowered for every earlier hypothesis that takes it at this step."""
        texts, width = len(self.texts), self.ids.shape[1]
        by_group = scores.view(texts, self.groups, width, -1)
        sums = running.view(texts, self.groups, width)
        parts: list[Candidates] = []
        taken = torch.zeros(texts, 0, dtype=torch.long, device=self.device)
        for group in range(self.groups):
            here = by_group[:, group].flatten(0, 1)
            if taken.shape[1]:
                rows = taken.repeat_interleave(width, 0)
                here = here.scatter_add(1, rows, torch.full_like(rows, -self.settings.diversity, dtype=here.dtype))
            found = joined(*best(here, 2 * self.width), sums[:, group].flatten(), width, 2 * self.width)
            lowered = (found.tokens[:, :, None] == taken[:, None, :]).sum(2) * self.settings.diversity
            found.plain = found.scores + lowered
            ended = found.tokens == self.end if self.end is not None else torch.zeros_like(found.tokens).bool()
            picked = (
                found.scores.masked_fill(ended, -math.inf).topk(min(self.width, found.scores.shape[1]), dim=1).indices
            )
            taken = torch.cat([taken, found.tokens.gather(1, picked)], 1)
            parts.append(found)
        fold = lambda name: torch.stack([getattr(part, name) for part in parts], 1).flatten(0, 1)  # noqa: E731
        return Candidates(fold("scores"), fold("parents"), fold("tokens"), fold("plain"))

    def _with_offers(self, found: Candidates, scores: Tensor, running: Tensor) -> Candidates:
        """Also the tokens that constraints ask for, and what each candidate has met then."""
        assert self.banks is not None
        assert self.met is not None
        problems, width = self.ids.shape[:2]
        progress = self.banks.progress(self.ids.flatten(0, 1))
        met = self.met.flatten(0, 1)
        tokens, needed = self.banks.offers(progress, met)
        added = (scores.gather(1, tokens) + running[:, None]).masked_fill(~needed, -math.inf).view(problems, -1)
        tokens = tokens.view(problems, -1)
        parents = torch.arange(width, device=self.device).repeat_interleave(needed.shape[1]).expand(problems, -1)
        key, old = parents * scores.shape[1] + tokens, found.parents * scores.shape[1] + found.tokens
        double = (key[:, :, None] == old[:, None, :]).any(2)
        double |= (key[:, :, None] == key[:, None, :]).tril(-1).any(2)
        added = added.masked_fill(double, -math.inf)
        join = lambda one, other: torch.cat([one, other], 1)  # noqa: E731
        every = join(found.scores, added)
        more = Candidates(every, join(found.parents, parents), join(found.tokens, tokens), join(found.plain, added))
        more.met, more.banks = self.banks.after(progress, met, self._rows(more.parents), more.tokens)
        return more

    def _rows(self, parents: Int[Tensor, "P n"]) -> Int[Tensor, "P n"]:
        """Row of the state of each parent."""
        problems, width = self.ids.shape[:2]
        return torch.arange(problems, device=self.device)[:, None] * width + parents

    def _look(self) -> None:
        """Add up the attention of the step that was just read."""
        if self.settings.coverage and self.start.attended is not None:
            now = self.start.attended(self.state).view(*self.ids.shape[:2], -1)
            if self.seen is not None:  # a state may leave places out that no source has any more
                now = self.seen + torch.nn.functional.pad(now, (0, self.seen.shape[2] - now.shape[2]))
            self.seen = now

    def _finish(self, found: Candidates, ended: Tensor, last: bool) -> None:
        """Candidates that end, or that are cut here, become hypotheses."""
        first = torch.arange(found.scores.shape[1], device=self.device) < self.width
        over = (ended | last) & (first if found.met is None else torch.ones_like(first))
        if found.met is not None:
            over = over & found.met.all(2)
        over = over & (found.scores > -math.inf)
        if not bool(over.any()):
            return
        scores = found.plain / penalty(self.ids.shape[2] + 1, self.settings)
        if self.seen is not None:
            scores = scores + self.settings.coverage * self._covered(found.parents)
        scores = scores.masked_fill(~over, -math.inf)
        scores, at = scores.topk(min(self.width, scores.shape[1]), dim=1)
        self.kept.merge(scores, *self._grown(found, at))

    def _covered(self, parents: Int[Tensor, "P n"]) -> Float[Tensor, "P n"]:
        """sum_j log min(sum_i p_ij, 1); places beyond a source have no attention and count nothing."""
        assert self.seen is not None
        there = self.seen.amax(1, keepdim=True) > 0
        logs = self.seen.clamp(1e-9, 1.0).log().masked_fill(~there, 0.0).sum(2)
        return logs.gather(1, parents)

    def _grown(self, found: Candidates, at: Int[Tensor, "P m"]) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities of the chosen candidates, their last one with them."""
        pick = lambda values: values.gather(1, at)  # noqa: E731
        back = pick(found.parents)[:, :, None].expand(-1, -1, self.ids.shape[2])
        ids = torch.cat([self.ids.gather(1, back), pick(found.tokens)[:, :, None]], 2)
        return ids, torch.cat([self.logs.gather(1, back), pick(found.logs)[:, :, None]], 2)

    def _keep(self, found: Candidates, ended: Tensor) -> None:
        """The beam of the next step, and the state's rows that it goes on from (``self.moves``)."""
        open_scores = found.scores.masked_fill(ended, -math.inf)
        width = min(self.width, open_scores.shape[1])
        if found.met is not None and found.banks is not None and self.banks is not None:
            at = self.banks.dealt(open_scores, found.banks, width)
            self.met = found.met.gather(1, at[:, :, None].expand(-1, -1, found.met.shape[2]))
        else:
            at = open_scores.topk(width, dim=1).indices
        parents = found.parents.gather(1, at)
        self.moves = self._rows(parents)
        if self.seen is not None:
            self.seen = self.seen.gather(1, parents[:, :, None].expand(-1, -1, self.seen.shape[2]))
        self.ids, self.logs = self._grown(found, at)
        self.scores = found.plain.gather(1, at).masked_fill(open_scores.gather(1, at) == -math.inf, -math.inf)

    def _going(self, length: int) -> Tensor:
        """bool [texts]: whether anything better may still come (early stopping, in the settings' docstring)."""
        running = self.scores.amax(1)
        policy = "full" if self.settings.beam == 1 else self.settings.early_stopping  # a beam of 1 is greedy
        far = self.limit if policy == "bound" and self.settings.length_penalty > 0 else length
        worst = self.kept.scores[:, -1]
        going = worst == -math.inf
        if policy != "full":
            going = going | (running / penalty(far, self.settings) > worst)
        going = going & (running > -math.inf)
        return going.view(-1, self.groups).any(1)

    def _leave(self, over: Tensor) -> None:
        """Texts that are done: their hypotheses are taken down, and their rows go."""
        rows = over.repeat_interleave(self.groups)
        numbers = self.texts[over].tolist()
        for number, found in zip(numbers, self._read_off(self.kept.rows(rows)), strict=True):
            self.done[number] = found
        if bool(over.all()):
            self.texts = self.texts[:0]
            return
        stay = ~rows
        self.texts, self.kept, self.before = self.texts[~over], self.kept.rows(stay), self.before[stay]
        self.ids, self.logs, self.scores = self.ids[stay], self.logs[stay], self.scores[stay]
        self.moves = self.moves[stay]
        self.met = None if self.met is None else self.met[stay]
        self.seen = None if self.seen is None else self.seen[stay]

    def _read(self) -> None:
        """Move the state to the hypotheses that are kept, and read their last tokens."""
        rows, before = self.moves.flatten(), len(self.logits)
        if len(rows) != before or not torch.equal(rows, torch.arange(before, device=self.device)):
            own = self.ids.shape[2] > 1  # not the state that the search was given
            self.state = getattr(self.state, "move", self.state.select)(rows) if own else self.state.select(rows)
        self.logits, self.state = self.start.extend(self.ones(self.ids[:, :, -1].flatten()), self.state)

    def _read_off(self, kept: _Kept) -> Iterator[list[Hypothesis]]:
        """The best hypotheses of each text, those of its groups together."""
        for at in range(0, len(kept.scores), self.groups):
            part = slice(at, at + self.groups)
            scores = kept.scores[part].flatten()
            order = scores.argsort(descending=True, stable=True)[: self.settings.n_best]
            ids, logs = kept.ids[part].flatten(0, 1)[order].tolist(), kept.logs[part].flatten(0, 1)[order].tolist()
            yield [
                self._hypothesis(row, log, score)
                for row, log, score in zip(ids, logs, scores[order].tolist(), strict=True)
                if score > -math.inf
            ]

    def _hypothesis(self, row: list[int], logs: list[float], score: float) -> Hypothesis:
        ids = [token for token in row if token != NONE]
        why = "end" if ids and ids[-1] == self.end else self.cut
        return Hypothesis(tuple(ids), tuple(logs[: len(ids)]), score, why)

    def results(self) -> list[list[Hypothesis]]:
        empty = [number for number, found in enumerate(self.done) if not found]
        if empty and self.limit:
            raise ConfigError(
                f"No text of at most {self.limit} tokens was found that these settings allow: raise max_tokens or beam, "
                "or ask for less with include (--must), exclude (--ban), min_tokens and no_repeat."
            )
        return self.done
