"""A small BERT on Spanish novels, and then on film dialogue: does it leave the plateau, and what has it learnt?

    python bench/spanish_bert.py --minutes 30 --adapt 8

BERT-mini is pre-trained with BERT's own objective on 95 of 100 novels of 1840-1920 and asked about the other five: perplexity
of the hidden tokens as it goes, whole words behind a mask beside a unigram and a 5-gram over the same token ids, whether a
passage follows another, and the lecture's sentences, unedited. Then the same model goes on with film and television dialogue;
the perplexity of both kinds of text before and after says what was gained and what was forgotten. ``--work`` keeps the
models, and what is there already isn't trained again.
"""

from __future__ import annotations

import json
import math
import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

import vocablo
from _harness import SHARED, need, options, report
from vocablo.base.random import generator
from vocablo.contract import Fences, Tokens
from vocablo.data.store import Store
from vocablo.pretexts import masked
from vocablo.text.templates import Template
from vocablo.views.terminal import table

CONTEXT, BATCH, VOCAB = 64, 32, 8000
LECTURE = (  # of the lecture's slides; the mask stands where they ask for a word
    "Voy a guardar el queso en la [MASK].",
    "Voy a guardar el [MASK] en la heladera.",
    "Voy a guardar el queso en el [MASK] para conservarlo fresco.",
    "Saqué dinero del [MASK].",
    "Me siento en el [MASK].",
    "Juan golpeó a [MASK].",
)
OURS = (
    "Señor mío, no [MASK] lo que dice.",
    "La madre besó a su [MASK] en la frente.",
    "Abrió la [MASK] y salió a la calle.",
)


def novels(data: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Ninety-five novels to train on, and every twentieth."""
    files = _unpacked(data, "eltec_spa", folder)
    return [path for i, path in enumerate(files) if i % 20], files[::20]


def films(data: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Dialogue of films and series, a file each: those to go on with, and every twentieth."""
    files = _unpacked(data, "activ_es", folder, "plain")
    return [path for i, path in enumerate(files) if i % 20], files[::20]


def _unpacked(data: Path, name: str, folder: Path, under: str = "") -> list[Path]:
    with tarfile.open(need(data / f"{name}.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    inside = folder / name / under
    return [
        path for path in sorted(inside.rglob("*")) if path.suffix in (".txt", ".run") and path.stat().st_size > 4000
    ]


def trained(out: Path, files: tuple[list[Path], list[Path]], minutes: float, dtype: str, **settings: Any) -> Path:
    """Pre-train, unless it was done."""
    if not (out / "model.safetensors").exists():
        lengths = [f"train.dtype={dtype}", "train.evaluate_every=250", "train.evaluate_batches=40"]
        more = [*settings.pop("overrides", ()), f"context={CONTEXT}", f"train.batch={BATCH}", *lengths]
        data = {"validation_text": [str(path) for path in files[1]]}
        vocablo.pretrain(
            "bert", text=files[0], data=data, out=out, minutes=minutes, overrides=more, resume=out.exists(), **settings
        )
    return out


def curve(out: Path) -> list[dict[str, float]]:
    """The evaluations of a run, with the seconds of training that came before each."""
    seconds, found = 0.0, []
    for line in (out / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        seconds += row.get("seconds", 0.0)
        if "validation_loss_masked" in row:
            found.append(
                {
                    "step": row["step"],
                    "minutes": seconds / 60,
                    "loss": row["validation_loss_masked"],
                    "perplexity": math.exp(row["validation_loss_masked"]),
                    "follows": row["validation_accuracy_next_sentence"],
                }
            )
    return found


def hidden_loss(model: Any, store: Store, most: int = 100) -> float:
    """Nats of a hidden token of held-out text, over the same sequences and masks for every model of one tokenizer."""
    settings = {"tokenizer": model.tokenizer, "seed": 0, "batch": 64, "micro": 64, "context": CONTEXT}
    pretext = masked.Pretext(store, masked.Config(), **settings)
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch in pretext.validation(store, batches=most):
            term = pretext.terms(model.model, batch, None)[0]["masked"]
            total, count = total + float(term.total), count + term.count
    return total / count


def whole_words(store: Store, tokenizer: Any, count: int) -> list[tuple[list[int], int]]:
    """Windows of held-out text, and the place in each of a word of one token: letters only, nothing joined before or behind."""
    table, body = tokenizer.words, CONTEXT - Template.of(tokenizer).special_count()
    letters = np.array([surface.strip().isalpha() for surface in tokenizer.surfaces]) & ~table.joins
    letters[list(tokenizer.special_ids)] = False
    ids = np.asarray(store.tokens).astype(np.int64)
    alone = letters[ids[:-1]] & ~table.joins[ids[1:]]
    rng = generator(0, "words")
    found = []
    for place in rng.permutation(np.flatnonzero(alone))[:count].tolist():
        begin = max(0, min(place - body // 2, len(ids) - body))
        found.append((ids[begin : begin + body].tolist(), place - begin))
    return found


def ranks(rows: torch.Tensor, wanted: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """How many kept tokens are more probable than the wanted one, for each row [M, V]."""
    mine = rows.gather(1, wanted[:, None])
    return ((rows > mine) & kept).sum(1)


def told_words(encoder: Any, ngram: Any, train: Store, windows: Sequence[tuple[list[int], int]]) -> Iterator[dict]:
    """Shares of the hidden words that are the first, or among the first five, of those a model finds most probable."""
    tokenizer, model = encoder.tokenizer, encoder.model
    template, mask = Template.of(tokenizer), tokenizer.mask_id
    ahead = len(template.alone.specials[0])
    wanted = torch.tensor([ids[place] for ids, place in windows])
    kept = torch.ones(tokenizer.size, dtype=torch.bool)
    kept[list(tokenizer.special_ids)] = False
    counts = torch.from_numpy(np.bincount(np.asarray(train.tokens), minlength=tokenizer.size)).double()
    found = {
        "unigram": ranks(counts.expand(len(wanted), -1), wanted, kept),
        "5-gram, from the left": [],
        "BERT-mini": [],
    }
    with torch.inference_mode():
        for begin in range(0, len(windows), 64):
            some = windows[begin : begin + 64]
            here = wanted[begin : begin + 64]
            flat, at, length = [], [], 0
            for ids, place in some:
                framed = template.single([*ids[:place], mask, *ids[place + 1 :]])
                flat += framed
                at.append(length + ahead + place)
                length += len(framed)
            sizes = [len(template.single(ids)) for ids, _ in some]
            positions = torch.cat([torch.arange(size) for size in sizes])
            states = model(Tokens(torch.tensor(flat), Fences.of(sizes), positions)).states
            found["BERT-mini"].append(ranks(model.logits(states[at]).float(), here, kept))
            left = [[-1] * 4 + ids[:place] for ids, place in some]
            histories = torch.tensor([ids[-ngram.model.width :] for ids in left])
            found["5-gram, from the left"].append(ranks(ngram.model.logits(histories), here, kept))
    for name, one in found.items():
        rank = one if isinstance(one, torch.Tensor) else torch.cat(one)
        yield {"model": name, "words": len(rank), "top 1": share(rank < 1), "top 5": share(rank < 5)}


def share(flags: torch.Tensor) -> str:
    return f"{100 * flags.double().mean().item():.1f} %"


def sentences(encoder: Any, text: str) -> Iterator[dict[str, Any]]:
    """The most probable words behind the mask of each sentence, and how often its own words come in the training text."""
    words = re.findall(r"\w+", text)
    found, counts = np.unique(np.array(words), return_counts=True)
    often = dict(zip(found.tolist(), counts.tolist(), strict=True))
    for sentence in (*LECTURE, *OURS):
        best = encoder.fill(sentence, k=5, words=True).masks[0].candidates
        own = [word for word in re.findall(r"\w+", sentence.replace("[MASK]", "")) if len(word) > 3]
        yield {
            "sentence": sentence,
            "filled with": ", ".join(f"{one.word} {one.prob:.2f}" for one in best),
            "its words in the text": ", ".join(f"{word} {often.get(word, 0):,}" for word in own),
        }


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), minutes=(30.0, "of pre-training on the novels"),
        adapt=(8.0, "minutes of going on with the films"), dtype=("bf16", "of the training"),
        words=(3000, "hidden words of the held-out novels"), work=("", "keep the models here"),
    )  # fmt: skip
    data = Path(chosen.data)
    with ExitStack() as stack:
        work = Path(chosen.work or stack.enter_context(tempfile.TemporaryDirectory()))
        text = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        old, new = novels(data, text), films(data, text)
        first = trained(
            work / "novels", old, chosen.minutes, chosen.dtype, size="mini", overrides=[f"tokenizer.vocab={VOCAB}"]
        )
        encoder = vocablo.load(first)
        read = lambda files: [path.read_text(encoding="utf-8") for path in files]  # noqa: E731
        train, held_out, films_held_out = (
            Store.from_documents(read(files), encoder.tokenizer) for files in (old[0], old[1], new[1])
        )
        if not (work / "ngram").exists():
            vocablo.pretrain("ngram", text=old[0], tokenizer=first, out=work / "ngram", data={"validation": 0.0})
        steps = curve(first)
        blind = masked.Pretext(
            train, masked.Config(), tokenizer=encoder.tokenizer, seed=0, batch=1, micro=1, context=CONTEXT
        ).plateau()[1]
        fills = list(
            told_words(
                encoder, vocablo.load(work / "ngram"), train, whole_words(held_out, encoder.tokenizer, chosen.words)
            )
        )
        shown = list(sentences(encoder, "\n".join(read(old[0]))))
        before = {"novels": hidden_loss(encoder, held_out), "films": hidden_loss(encoder, films_held_out)}
        second = trained(work / "films", new, chosen.adapt, chosen.dtype, init_from=first)
        adapted = vocablo.load(second)
        after = {"novels": hidden_loss(adapted, held_out), "films": hidden_loss(adapted, films_held_out)}
    domains = [
        {"held-out text": name, "before": math.exp(before[name]), "after": math.exp(after[name])} for name in before
    ]
    parts = [f"A blind predictor's loss on the hidden tokens is {blind:.3f} nats."]
    for rows in (steps, fills, shown, domains):
        cells = [tuple(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()) for row in rows]
        parts.append(table(tuple(rows[0]), cells))
    result = {"blind": blind, "curve": steps, "words": fills, "sentences": shown, "domains": domains}
    report("spanish_bert", "\n\n".join(parts), result, chosen.out)


if __name__ == "__main__":
    main()
