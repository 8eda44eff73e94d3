"""Without positions an encoder can't tell "Juan golpeó a Pedro" from "Pedro golpeó a Juan".

Small encoders are trained to tell a masked word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import torch

from vocablo.base.random import generator
from vocablo.contract import Batch, Target, Term, Tokens
from vocablo.evaluation.claims._small import POSITIONS, SPECIALS, Outcome, learn, small
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.svg import Series, curves

ABOUT = "without positions an encoder can't tell who hit whom"
STEPS = 1200

NAMES = ["Juan", "Pedro", "María", "Lucía", "Tomás", "Elena", "Diego", "Rosa", "Marta", "Julio"]
ACCOUNT = "{} golpeó a {} . quien golpeó es {}"


class Accounts:
    """A pretext of one kind of text: who hit whom, told twice; the last word is masked. What the training loop asks for."""

    names = ("masked",)

    def __init__(self, pairs: Sequence[tuple[str, str]], tokenizer: Tokenizer, seed: int, batch: int) -> None:
        self.pairs, self.tokenizer, self.seed, self.batch = pairs, tokenizer, seed, batch
        self.template = Template.of(tokenizer)
        self.tokens = sum(self.read([pair]).tokens.fences.total for pair in pairs)
        self.steps_per_epoch = max(1, len(pairs) // batch)

    def read(self, pairs: Sequence[tuple[str, str]]) -> Batch:
        """The accounts of some pairs (who, whom), the name at their end masked."""
        rows = [self.tokenizer.encode(ACCOUNT.format(who, whom, who)).ids for who, whom in pairs]
        tokens = Tokens.of([self.template.single(list(row)) for row in rows])
        at = tokens.fences.last() - 1  # before [SEP]
        value = tokens.ids[at].clone()
        tokens.ids[at] = self._mask()
        return Batch(tokens, {"masked": Target(at, value, len(pairs))})

    def _mask(self) -> int:
        assert self.tokenizer.mask_id is not None
        return self.tokenizer.mask_id

    def micro_batches(self, step: int, rank: int = 0, world: int = 1) -> list[Batch]:
        chosen = generator(self.seed, "pairs", step).integers(len(self.pairs), size=self.batch)
        return [self.read([self.pairs[i] for i in chosen])]

    def terms(self, model: Any, batch: Batch, state: Any) -> tuple[dict[str, Term], Any]:
        target = batch.targets["masked"]
        log_probs = model.target_log_probs(model(batch.tokens).states, target.at, target.value)
        return {"masked": Term(-log_probs.sum(), target.count)}, None

    def continues(self, step: int) -> bool:
        return False

    def validation(self, store: Any, rank: int = 0, world: int = 1, batches: int | None = None) -> Iterator[Batch]:
        yield self.read(store)

    def modules(self) -> None:
        return None

    def check(self, model: Any) -> None:
        pass

    def fingerprint(self) -> dict[str, Any]:
        return {"pretext": "accounts", "pairs": self.pairs, "batch": self.batch, "seed": self.seed}


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """Who hit whom: accuracy on pairs of names that were trained on in neither order."""
    couples = list(combinations(NAMES, 2))
    kept_back = set(generator(seed, "held-out pairs").permutation(len(couples))[:9].tolist())
    both = [
        [pair for i, (a, b) in enumerate(couples) if (i in kept_back) is out for pair in ((a, b), (b, a))]
        for out in (True, False)
    ]
    unseen, seen = both
    tokenizer = Tokenizer.train("word", [" ".join(NAMES), ACCOUNT], specials=SPECIALS)
    rows, lines = [], []
    for kind, position in POSITIONS.items():
        model = small("bert", tokenizer.size, seed, {"position": position}, context=16)
        pretext = Accounts(seen, tokenizer, seed, batch=32)
        curve = learn(model, pretext, steps, seed, f"order: {kind}", quiet, lr=1e-3)
        batch = pretext.read(unseen)
        target = batch.targets["masked"]
        with torch.inference_mode():
            logits = model.logits(model(batch.tokens).states[target.at])
        right = float((logits.argmax(1) == target.value).float().mean())
        same = _difference(model, tokenizer)
        rows.append((kind, f"{right:.0%}", f"{curve.points[-1][1]:.3f}", f"{same:.1e}"))
        lines.append(Series(kind, curve.points))
    return (
        "Sin posiciones, un encoder no distingue «Juan golpeó a Pedro» de «Pedro golpeó a Juan»: who hit whom can't be told "
        "from a set of words, and two candidates leave 50% and a loss of log 2 = 0.693.",
        f"{len(seen)} accounts «{ACCOUNT.format('X', 'Y', '[MASK]')}» are trained on and {len(unseen)} others asked; 2 layers, "
        f"64 wide, {steps} steps. The last column is how far the sentence's vectors (the mean of its tokens') differ at most "
        "when the two names change places.",
        ("positions", "right on unseen pairs", "training loss", "difference of vectors"),
        rows,
        {"Loss": curves(lines, x="step", y="nats")},
    )


@torch.inference_mode()
def _difference(model: Any, tokenizer: Tokenizer) -> float:
    template = Template.of(tokenizer)
    texts = ("Juan golpeó a Pedro", "Pedro golpeó a Juan")
    means = [model(Tokens.of([template.single(list(tokenizer.encode(text).ids))])).states.mean(0) for text in texts]
    return float((means[0] - means[1]).abs().max())
