"""What the lecture claims of the Transformer, each as an experiment of a few minutes on the embedded grammar.

    order    without positions an encoder can't tell "Juan golpeó a Pedro" from "Pedro golpeó a Juan"
    length   sinusoidal encodings go on beyond the length that was trained, a learned table doesn't
    parts    residual connections, normalisation and feed-forward layers each do something for training
    heads    several heads against one of the same width

``order`` trains small encoders to tell a masked word; the others train small decoders to tell the next word, which teaches
by every word and so faster. All use the one training loop. Losses are means over targets, in nats; variants see the same
text in the same order.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
from typing import Any

import torch
from torch import Tensor, nn

from vocablo.base.errors import ConfigError, nearest
from vocablo.base.progress import Progress
from vocablo.base.random import generator, seed_for
from vocablo.contract import Batch, Target, Term, Tokens
from vocablo.data.grammar import Grammar
from vocablo.data.store import Store
from vocablo.models import transformer
from vocablo.nn.layers import Layer
from vocablo.pretexts import causal
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.page import page, paragraph, section, table
from vocablo.views.svg import Series, curves

SENTENCES, HELD_OUT, WIDTH = 30_000, 1_000, 64
POSITIONS = {
    "none": {"kind": "none"},
    "learned": {"kind": "learned"},
    "sinusoidal": {"kind": "sinusoidal"},
    "rotary": {"kind": "rotary"},
}


@dataclass(frozen=True, slots=True)
class Claim:
    """The outcome of an experiment: a table, and curves as SVG. ``seconds`` is what it took here."""

    name: str
    claim: str
    protocol: str
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    seconds: float
    drawings: dict[str, str] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        parts = [paragraph(self.claim), paragraph(self.protocol), table(self.header, self.rows)]
        return "".join(parts + [section(title, svg) for title, svg in self.drawings.items()])

    def html(self) -> str:
        """A page of one file."""
        return page(f"The claim: {self.name}", [self._repr_html_()])


@dataclass(frozen=True, slots=True)
class Curve:
    """How one variant trained: (step, loss) points smoothed over ten steps, and the norm of each layer's first gradient."""

    points: tuple[tuple[float, float], ...]
    first_gradients: tuple[float, ...]


def run(name: str, *, steps: int | None = None, seed: int = 0, quiet: bool = False) -> Claim:
    """Carry out one experiment. ``steps`` of training for each variant (default: the experiment's own).

    Raises ConfigError for an unknown name.
    """
    if name not in EXPERIMENTS:
        raise ConfigError(f"There is no claim {name!r}{nearest(name, EXPERIMENTS)}")
    experiment, own = EXPERIMENTS[name]
    begun = time.perf_counter()
    claim, protocol, header, rows, drawings = experiment(steps or own, seed, quiet)
    return Claim(name, claim, protocol, header, tuple(rows), time.perf_counter() - begun, drawings)


Outcome = tuple[str, str, tuple[str, ...], Sequence[tuple[Any, ...]], dict[str, str]]


# ---- Order

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


def order(steps: int, seed: int, quiet: bool) -> Outcome:
    """Who hit whom: accuracy on pairs of names that were trained on in neither order."""
    couples = list(combinations(NAMES, 2))
    kept_back = set(generator(seed, "held-out pairs").permutation(len(couples))[:9].tolist())
    both = [
        [pair for i, (a, b) in enumerate(couples) if (i in kept_back) is out for pair in ((a, b), (b, a))]
        for out in (True, False)
    ]
    unseen, seen = both
    tokenizer = Tokenizer.train(
        "word", [" ".join(NAMES), ACCOUNT], specials={"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    )
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


# ---- Experiments on the grammar's text


@functools.cache
def _text(seed: int) -> tuple[Tokenizer, Store, Store]:
    """A word tokenizer, and sentences of the grammar to train on and to hold out."""
    grammar = Grammar()
    lines = list(islice(grammar.text(seed, SENTENCES), SENTENCES))
    unseen = list(islice(grammar.text(seed + 1, HELD_OUT), HELD_OUT))
    tokenizer = Tokenizer.train("word", [*lines, " ".join(grammar.words)])
    return tokenizer, Store.from_documents(lines, tokenizer), Store.from_documents(unseen, tokenizer)


def length(steps: int, seed: int, quiet: bool) -> Outcome:
    """Train on sequences of 32 tokens, and ask for the next words of longer ones."""
    tokenizer, store, unseen = _text(seed)
    trained, longest = 32, 128
    lengths = (16, 32, 48, 64, 96, 128)
    rows, lines = [], []
    for kind, position in POSITIONS.items():
        model = small("gpt", tokenizer.size, seed, {"position": position}, context=longest)
        learn(model, _pretext(store, seed, trained), steps, seed, f"length: {kind}", quiet)
        losses = [held_out(model, _pretext(store, seed, context), unseen) for context in lengths]
        rows.append((kind, *(f"{loss:.3f}" for loss in losses)))
        lines.append(Series(kind, tuple(zip(map(float, lengths), losses, strict=True))))
    marks = {float(context): f"{context}{' (trained)' * (context == trained)}" for context in lengths}
    return (
        "Las codificaciones sinusoidales escalan a secuencias de cualquier longitud; un embedding aprendido requiere una "
        "longitud fija: rows of a learned table beyond the trained length were never trained.",
        f"Trained on blocks of {trained} tokens for {steps} steps; the loss of held-out blocks of 16 to {longest}.",
        ("positions", *(f"{context} tokens" for context in lengths)),
        rows,
        {"Held-out loss by length": curves(lines, x="tokens in a sequence", y="nats", marks=marks)},
    )


class Nothing(nn.Module):
    """A part that adds nothing to its residual branch."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class WithoutResiduals(Layer):
    """A layer whose parts replace what they read instead of adding to it."""

    def forward(self, x: Tensor, mix: Any, rows: Tensor | None = None) -> Tensor:
        return self.feed_forward_norm(self.feed_forward(self.attention_norm(mix(self.attention, x))))


def _without_norms(model: Any) -> None:
    for layer in model.layers:
        layer.attention_norm = layer.feed_forward_norm = nn.Identity()


def _without_feed_forward(model: Any) -> None:
    for layer in model.layers:
        layer.feed_forward = Nothing()


def _without_residuals(model: Any) -> None:
    for layer in model.layers:
        layer.__class__ = WithoutResiduals


VARIANTS: dict[str, Callable[[Any], None]] = {
    "whole": lambda model: None,
    "no residuals": _without_residuals,
    "no normalisation": _without_norms,
    "no feed-forward": _without_feed_forward,
}


def parts(steps: int, seed: int, quiet: bool) -> Outcome:
    """Six layers, each time without one of the layer's parts."""
    tokenizer, store, unseen = _text(seed)
    rows, losses, gradients = [], [], []
    for name, change in VARIANTS.items():
        model = small(
            "gpt", tokenizer.size, seed, {"stack": {"layers": 6}, "norm": {"place": "post", "final": False}}, context=32
        )
        change(model)
        pretext = _pretext(store, seed, 32)
        curve = learn(model, pretext, steps, seed, f"parts: {name}", quiet)
        norms = curve.first_gradients
        rows.append((name, f"{held_out(model, pretext, unseen):.3f}", f"{norms[0]:.1e}", f"{norms[-1]:.1e}"))
        losses.append(Series(name, curve.points))
        gradients.append(Series(name, tuple((float(i + 1), math.log10(max(g, 1e-12))) for i, g in enumerate(norms))))
    return (
        "Conexiones residuales, normalización y feed-forward: what each does for the loss, and for the gradient that reaches "
        "the first layers.",
        f"Post-norm decoders of 6 layers, 64 wide, {steps} steps with the same text; gradients are those of the first "
        "step, as the norm over a layer's parameters.",
        ("layer", "held-out loss", "gradient, layer 1", "gradient, layer 6"),
        rows,
        {
            "Loss": curves(losses, x="step", y="nats"),
            "First gradient by layer": curves(gradients, x="layer", y="log10 of its norm"),
        },
    )


def heads(steps: int, seed: int, quiet: bool) -> Outcome:
    """The same width and the same number of parameters, split into more heads."""
    tokenizer, store, unseen = _text(seed)
    rows, lines = [], []
    for count in (1, 2, 4, 8):
        model = small("gpt", tokenizer.size, seed, {"attention": {"heads": count}}, context=32)
        pretext = _pretext(store, seed, 32)
        curve = learn(model, pretext, steps, seed, f"heads: {count}", quiet)
        size = sum(parameter.numel() for parameter in model.parameters())
        rows.append((str(count), f"{size:,}", f"{held_out(model, pretext, unseen):.3f}"))
        lines.append(Series(f"{count} head{'s' * (count > 1)}", curve.points))
    return (
        "Varias cabezas miran distintas partes a la vez: several heads against one, at equal width and parameters.",
        f"Decoders of 2 layers, 64 wide, {steps} steps with the same text.",
        ("heads", "parameters", "held-out loss"),
        rows,
        {"Loss": curves(lines, x="step", y="nats")},
    )


EXPERIMENTS: dict[str, tuple[Callable[[int, int, bool], Outcome], int]] = {
    "order": (order, 1200),
    "length": (length, 600),
    "parts": (parts, 400),
    "heads": (heads, 600),
}


def small(family: str, vocab: int, seed: int, changes: dict[str, Any], *, context: int) -> Any:
    """A small Transformer with fresh weights that depend on the seed alone.

    They start from N(0, 1 / width): with GPT-2's 0.02, sinusoids of size 1 would drown the words for long.
    """
    common: dict[str, Any] = {
        "stack": {"layers": 2, "width": WIDTH},
        "attention": {"heads": 4},
        "dropout": 0.0,
        "init": {"std": WIDTH**-0.5},
    }
    merged = {key: {**common.get(key, {}), **value} for key, value in changes.items()}
    torch.manual_seed(seed_for(seed, "init"))
    return transformer.build(transformer.config_for(family, "tiny", vocab, context, common | merged))


def _pretext(store: Store, seed: int, context: int) -> causal.Pretext:
    return causal.Pretext(store, causal.Config(), seed=seed, batch=32, micro=None, context=context)


def learn(model: Any, pretext: Any, steps: int, seed: int, title: str, quiet: bool, lr: float = 2e-3) -> Curve:
    """Train for ``steps`` steps."""
    gradients: list[float] = []

    def first(_: Any, __: Any, ___: Any) -> None:
        if not gradients:
            norms = [[p.grad.norm() for p in layer.parameters() if p.grad is not None] for layer in model.layers]
            gradients.extend(float(torch.stack(norm).norm()) for norm in norms)

    settings = TrainSettings(steps=steps, batch=pretext.batch, lr=lr, warmup=0.1, seed=seed)
    trainer = Trainer(model, pretext, settings)
    hook = trainer.optimizer.register_step_pre_hook(first)
    losses: list[float] = []
    with Progress(title, steps, "steps", quiet=quiet) as progress:
        for step in trainer:
            losses.append(step.loss)
            progress.advance(1, f"loss {step.loss:.3f}")
    hook.remove()
    model.eval()
    smooth = [
        (float(i + 1), sum(losses[max(0, i - 9) : i + 1]) / min(10, i + 1))
        for i in range(0, steps, max(1, steps // 100))
    ]
    return Curve(tuple(smooth), tuple(gradients))


@torch.inference_mode()
def held_out(model: Any, pretext: Any, store: Store) -> float:
    """Mean loss of a held-out store's tokens, in nats."""
    total, count = 0.0, 0
    for batch in pretext.validation(store):
        term = pretext.terms(model, batch, None)[0]["causal"]
        total, count = total + float(term.total), count + term.count
    return total / count
