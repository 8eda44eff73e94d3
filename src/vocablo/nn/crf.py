"""A linear-chain conditional random field on the tags of a sentence (Lafferty et al. 2001; Lample et al. 2016).

    score(y)   = a[y_1] + sum_t e_t[y_t] + sum_t T[y_(t-1), y_t] + b[y_n]      e: scores of the tags, word by word
    log p(y)   = score(y) - log Z,      Z = sum over all y' of exp(score(y'))
    forward    alpha_t[k] = e_t[k] + log sum_j exp(alpha_(t-1)[j] + T[j, k]),   log Z = log sum_k exp(alpha_n[k] + b[k])
    Viterbi    the same with max in the place of log sum exp, and a trace of where each maximum came from

Sentences lie flat behind one another; the recursions go over all of them at once, time by time, longest first.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vocablo.contract import Fences
from vocablo.nn.recurrent import Packing
from vocablo.nn.within import members


class CRF(nn.Module):
    """Scores of neighbouring tags, and of the first and the last one; all zero at the start."""

    part = "crf"

    def __init__(self, tags: int) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(tags, tags))  # [from, to]
        self.first = nn.Parameter(torch.zeros(tags))
        self.last = nn.Parameter(torch.zeros(tags))

    def log_prob(self, scores: Float[Tensor, "M K"], fences: Fences, tags: Int[Tensor, "M"]) -> Float[Tensor, "B"]:
        """log p of the tags of each sentence, in nats. ``scores`` are e, of the words of all sentences."""
        return self.score(scores, fences, tags) - self.log_partition(scores, fences)

    def score(self, scores: Float[Tensor, "M K"], fences: Fences, tags: Int[Tensor, "M"]) -> Float[Tensor, "B"]:
        """The unnormalised score of the tags of each sentence."""
        of = members(fences, scores.device)
        inner = torch.ones(len(tags), dtype=torch.bool, device=tags.device)
        inner[fences.first()] = False
        at = inner.nonzero().squeeze(1)
        words = scores.gather(1, tags[:, None]).squeeze(1)
        pairs = tags.index_select(0, at - 1) * len(self.first) + tags.index_select(0, at)
        steps = self.transitions.flatten().index_select(0, pairs)
        ends = self.first.index_select(0, tags.index_select(0, fences.first()))
        ends = ends + self.last.index_select(0, tags.index_select(0, fences.last()))
        return ends.index_add(0, of, words).index_add(0, of.index_select(0, at), steps)

    def log_partition(self, scores: Float[Tensor, "M K"], fences: Fences) -> Float[Tensor, "B"]:
        """log Z of each sentence, by the forward algorithm."""
        packing = Packing.of(fences, scores.device)
        steps = scores.index_select(0, packing.order).split(packing.sizes.tolist())
        alpha = self.first + steps[0]  # [B, K], longest first
        done: list[Tensor] = []  # of sentences that are over, the shortest first
        for step in steps[1:]:
            done.append(alpha[len(step) :].flip(0))
            going = alpha[: len(step)]
            alpha = step + torch.logsumexp(going[:, :, None] + self.transitions, dim=1)
        done.append(alpha.flip(0))
        ends = torch.cat(done).flip(0).index_select(0, packing.unsorted)
        return torch.logsumexp(ends + self.last, dim=1)

    @torch.no_grad()
    def viterbi(self, scores: Float[Tensor, "M K"], fences: Fences) -> Int[Tensor, "M"]:
        """The most probable tags of each sentence."""
        packing = Packing.of(fences, scores.device)
        steps = scores.index_select(0, packing.order).split(packing.sizes.tolist())
        best = self.first + steps[0]
        came, over = [], []  # where each maximum came from; sentences that are over
        for step in steps[1:]:
            over.append(best[len(step) :])
            most, place = (best[: len(step), :, None] + self.transitions).max(dim=1)
            came.append(place)
            best = step + most
        over.append(best)
        tag = (over[-1] + self.last).argmax(1)
        path = [tag]
        for place, ended in zip(reversed(came), reversed(over[:-1]), strict=True):
            before = place.gather(1, tag[:, None]).squeeze(1)
            tag = torch.cat([before, (ended + self.last).argmax(1)])
            path.append(tag)
        return torch.cat(path[::-1]).index_select(0, packing.inverse)

    @torch.enable_grad()
    def marginals(self, scores: Float[Tensor, "M K"], fences: Fences) -> Float[Tensor, "M K"]:
        """p(y_t = k) of each word: the derivative of log Z by its score of the tag k."""
        with torch.inference_mode(False):
            free = scores.detach().clone().requires_grad_()
            quiet = CRF(len(self.first)).to(free.device)
            quiet.load_state_dict({name: value.detach().clone() for name, value in self.state_dict().items()})
            return torch.autograd.grad(quiet.log_partition(free, fences).sum(), free)[0].detach()
