"""Multi30k, translated: BLEU over minutes of training, by the published recipes.

    python bench/multi30k.py --system transformer-tiny --minutes 30        # en-de, published 41.02
    python bench/multi30k.py --system tutorial-transformer --minutes 60    # de-en, published 36.52
    python bench/multi30k.py --system rnn-attention --minutes 30           # de-en, published 28.1 to 28.3
    python bench/multi30k.py --system rnn --minutes 30                     # de-en, the same without attention

transformer-tiny    4 + 4 layers, 128 wide, 4 heads, feed-forward 256, one table of BPE pieces; dropout 0.3, label smoothing
                    0.1, Adam (0.9, 0.98), 5e-3 with an inverse root after 2,000 steps, 8,192 tokens a step; the mean of the last
                    ten snapshots (an epoch apart), beam 5 (LividWo/Revisit-MMT). Its files are lower-cased and in BPE
                    pieces; BLEU is of their words.
tutorial-transformer  3 + 3 layers, 256 wide, 8 heads, feed-forward 512, learned positions, 9,038,341 parameters; Adam at 5e-4,
                    128 pairs a step, clip 1; the snapshot of the best held-out loss, greedy (bentrevett/pytorch-seq2seq, 6).
                    spaCy's tokens, lower-cased, words that come twice. The RNNs read and are measured likewise.

Minutes are of training alone. BLEU of test 2016 along the way is greedy, by the weights of that moment. Words that the
vocabulary lacks are written as <unk> and count as wrong.
"""

from __future__ import annotations

import copy
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from _harness import SHARED, options, report
from vocablo.base import registry
from vocablo.base.errors import ConfigError
from vocablo.data.examples import TextExample
from vocablo.data.parallel import read_parallel
from vocablo.decoding.settings import DecodeSettings
from vocablo.measures.bleu import bleu
from vocablo.tasks import translate
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._pairs import PairReader
from vocablo.tasks._reading import ReadSettings
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.terminal import table

LONG = 100_000  # steps: the minutes end a run, not these
MARKS = 10
TINY = {
    "stack": {"layers": 4, "width": 128, "dropout": 0.3},
    "embed": {"dropout": 0.3},
    "attention": {"heads": 4},
    "feed_forward": {"width": 256},
}
TUTORIAL = {
    "stack": {"layers": 3, "width": 256, "dropout": 0.1},
    "embed": {"dropout": 0.1},
    "position": {"kind": "learned"},
    "attention": {"heads": 8, "dropout": 0.1},
    "feed_forward": {"width": 512, "dropout": 0.1},
    "head": {"tied": False, "bias": True},
}
ADAM = {"weight_decay": 0.0, "steps": LONG}
RECIPES: dict[str, dict[str, Any]] = {
    "transformer-tiny": {
        "family": ("transformer", "tiny"), "changes": TINY, "context": 256, "published": 41.02, "smoothing": 0.1, "beam": 5,
        "average": 10, "train": {"lr": 5e-3, "warmup": 2000, "schedule": "inverse-sqrt", "betas": (0.9, 0.98), "clip": None,
                                 "batch_tokens": 8192, **ADAM},
    },
    "tutorial-transformer": {
        "family": ("transformer", "mini"), "changes": TUTORIAL, "context": 100, "published": 36.52, "smoothing": 0.0,
        "beam": 1, "average": None,
        "train": {"lr": 5e-4, "warmup": 0, "schedule": "constant", "betas": (0.9, 0.999), "clip": 1.0, "batch": 128, **ADAM},
    },
}  # fmt: skip
for name, kind, published in (("rnn-attention", "additive", 28.3), ("rnn", "none", 20.61)):
    RECIPES[name] = {
        **RECIPES["tutorial-transformer"], "family": ("seq2seq-rnn", "small"), "changes": {"attention": {"kind": kind}},
        "published": published, "train": {**RECIPES["tutorial-transformer"]["train"], "lr": 1e-3},
    }  # fmt: skip


@dataclass
class Corpus:
    """Pairs of each part, the tokenizer, and how a written text becomes words."""

    train: list[TextExample]
    dev: list[TextExample]
    test: list[TextExample]
    tokenizer: Tokenizer
    words: Callable[[str], list[str]]


def pieces() -> Corpus:
    """en-de in BPE pieces as they are published; one vocabulary of all pieces of the training text."""
    folder = SHARED / "multi30k_bpe"
    parts = [read_parallel(folder / f"{part}.en", folder / f"{part}.de") for part in ("train", "valid", "test.2016")]
    counts = Counter(piece for one in parts[0] for text in (one.text, str(one.label)) for piece in text.split())
    tokenizer = Tokenizer.of_words([piece for piece, _ in counts.most_common()])
    return Corpus(*parts, tokenizer, lambda text: text.replace("@@ ", "").split())


def spacy_words() -> Corpus:
    """de-en in spaCy's tokens, lower-cased; of each language the words that come twice, and the tutorial's four specials."""
    try:
        import spacy
    except ImportError:
        raise ConfigError("This system reads spaCy's tokens: pip install spacy (no model is needed).") from None
    nlp = {side: spacy.blank(side) for side in ("de", "en")}

    def split(side: str, text: str) -> str:
        """Tokens with single spaces between; a token that is white space itself, as double spaces are, is made visible."""
        tokens = nlp[side].tokenizer(text.strip())
        return " ".join(
            "".join(f"␣{ord(mark):x}" for mark in token.text) if token.is_space else token.text.lower()
            for token in tokens
        )

    folder, parts = SHARED / "multi30k" / "raw", []
    for part in ("train", "val", "test_2016_flickr"):
        raw = read_parallel(folder / f"{part}.de", folder / f"{part}.en")
        parts.append([TextExample(one.id, split("de", one.text), None, split("en", str(one.label))) for one in raw])
    sides = []
    for side in (lambda one: one.text, lambda one: str(one.label)):
        counts = Counter(word for one in parts[0] for word in side(one).split())
        kept = [word for word, count in counts.most_common() if count >= 2]
        sides.append(Tokenizer.of_words(kept, specials={"pad": "<pad>", "cls": "<sos>"}))
    source, target = sides
    return Corpus(*parts, target.with_source(source), str.split)


def prepared(recipe: dict[str, Any], corpus: Corpus, seed: int) -> tuple[Any, Any, Lesson, Trainer]:
    """The model, its task, and a trainer over the training pairs."""
    family, size = recipe["family"]
    module = registry.load("vocablo.models", registry.owners("vocablo.models", "FAMILIES")[family])
    tokenizer = corpus.tokenizer
    own = None if tokenizer.source is tokenizer else tokenizer.size
    config = module.config_for(family, size, tokenizer.source.size, recipe["context"], recipe["changes"])
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = module.build(config.paired((tokenizer.end_id,), own)).to(device)
    task = translate.Task(
        PairReader(model, tokenizer, ReadSettings()), translate.Config(smoothing=recipe["smoothing"]), ()
    )
    settings = TrainSettings(seed=seed, **recipe["train"])
    encoded = task.encode(corpus.train, "train", learn=True)
    lesson = Lesson(task, encoded, task.heads(), seed=seed, batch=settings.batch, batch_tokens=settings.batch_tokens)
    return model, task, lesson, Trainer(model, lesson, settings)


def measured(model: Any, task: Any, corpus: Corpus, examples: Sequence[TextExample], beam: int) -> float:
    """BLEU x 100 of what is written."""
    found = task.predict(model, {}, examples, settings=lambda _: DecodeSettings(beam=beam, max_tokens=60))
    gold = [corpus.words(str(one.label)) for one in examples]
    return 100 * bleu(gold, [corpus.words(one.output) for one in found]).value


def loss(model: Any, lesson: Lesson, held_out: Any) -> float:
    """Mean -log p of held-out tokens, each given those before it, in nats."""
    device, total, count = next(model.parameters()).device, 0.0, 0
    model.eval()
    with torch.no_grad():
        for batch in lesson.validation(held_out):
            term = lesson.terms(model, batch.to(device), None)[0]["nll"]
            total, count = total + float(term.total), count + term.count
    model.train()
    return total / count


def run(system: str, minutes: float, seed: int) -> dict[str, Any]:
    recipe = RECIPES[system]
    corpus = pieces() if system == "transformer-tiny" else spacy_words()
    model, task, lesson, trainer = prepared(recipe, corpus, seed)
    held_out, test = (task.encode(part, "held out", learn=True) for part in (corpus.dev, corpus.test))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{system}: {parameters:,} parameters, vocabularies {corpus.tokenizer.source.size:,} and {corpus.tokenizer.size:,}"
    )
    curve: list[dict[str, float]] = []
    snapshots: list[dict[str, Any]] = []
    best, best_loss, seconds, tokens = copy.deepcopy(model.state_dict()), math.inf, 0.0, 0
    begun = time.perf_counter()
    for step in trainer:
        seconds, tokens = seconds + step.seconds, tokens + step.tokens
        if recipe["average"] and trainer.done % lesson.steps_per_epoch == 0:
            snapshots = [*snapshots, copy.deepcopy(model.state_dict())][-recipe["average"] :]
        over = seconds >= 60 * minutes
        if over or seconds >= 60 * minutes * (len(curve) + 1) / MARKS:
            dev = loss(model, lesson, held_out)
            if dev < best_loss:
                best, best_loss = copy.deepcopy(model.state_dict()), dev
            curve.append({
                "minutes": seconds / 60, "steps": trainer.done, "epochs": trainer.done / lesson.steps_per_epoch,
                "dev perplexity": math.exp(dev), "BLEU": measured(model, task, corpus, corpus.test, 1),
            })  # fmt: skip
            model.train()
            print("  ".join(f"{name} {value:.2f}" for name, value in curve[-1].items()), flush=True)
        if over:
            trainer.stop("minutes")
    if recipe["average"] and snapshots:
        best = {name: sum(one[name].double() for one in snapshots).div(len(snapshots)).to(tensor.dtype) for name, tensor in best.items()}  # fmt: skip
    model.load_state_dict(best)
    return {
        "system": system, "seed": seed, "parameters": parameters, "minutes": seconds / 60, "tokens_per_second": tokens / seconds,
        "weights": f"mean of {len(snapshots)} epochs" if recipe["average"] and snapshots else "best held-out loss",
        "test perplexity": math.exp(loss(model, lesson, test)),
        "BLEU": measured(model, task, corpus, corpus.test, recipe["beam"]), "beam": recipe["beam"],
        "published": recipe["published"], "wall_seconds": time.perf_counter() - begun, "curve": curve,
    }  # fmt: skip


def main() -> None:
    asked = options(
        __doc__,
        system=("transformer-tiny", " | ".join(RECIPES)),
        minutes=(10.0, "of training"),
        seed=(0, "of weights and order"),
    )
    if asked.system not in RECIPES:
        raise SystemExit(f"There is no system {asked.system!r}: {', '.join(RECIPES)}")
    found = run(asked.system, asked.minutes, asked.seed)
    rows = [tuple(f"{value:.2f}" for value in line.values()) for line in found["curve"]]
    said = (
        f"{table(tuple(found['curve'][0]), rows)}\n  {found['weights']}, beam {found['beam']}: BLEU {found['BLEU']:.2f} (published "
        f"{found['published']}), test perplexity {found['test perplexity']:.3f}, {found['tokens_per_second']:,.0f} tokens/s of both sides"
    )
    report(f"multi30k-{asked.system}", said, found, asked.out)


if __name__ == "__main__":
    main()
