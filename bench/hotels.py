"""What attention looks at where it is known what decides: reviews of hotels whose adjectives add up to their label.

    python bench/hotels.py                # a few minutes
    python bench/hotels.py --seeds 1 --only han

``data/reviews.py`` makes the reviews (2,000 to learn from, 500 others held out), ``finetune classify`` learns them with its usual
settings and the smallest sizes; the figure is the accuracy of the last step. Of models that attend, the weight (of word in
sentence x sentence in document) that lies on deciding words, the adjectives that count and *no*, beside their share of all words.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import vocablo
from _harness import options, report
from vocablo import api
from vocablo.data import reviews
from vocablo.views.terminal import table

MODELS: dict[str, tuple[str, str, tuple[str, ...]]] = {  # name -> what it is called, its start, changes
    "han": ("HAN", "han:tiny", ()),
    "han-mean": ("HN-AVE", "han:tiny", ("architecture.stack.pooling=mean",)),
    "han-max": ("HN-MAX", "han:tiny", ("architecture.stack.pooling=max",)),
    "attention": ("BiLSTM, attention", "bilstm:tiny", ("read.pooling=attention", "architecture.embed.width=48", "architecture.stack.width=16")),
    "mean": ("BiLSTM, mean", "bilstm:tiny", ("read.pooling=mean", "architecture.embed.width=48", "architecture.stack.width=16")),
    "bag": ("bag of vectors", "bilstm:tiny", ("read.pooling=mean", "architecture.embed.width=48", "architecture.stack.layers=0")),
}  # fmt: skip


def learn(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """One run, and what it looks at."""
    _, start, changes = MODELS[name]
    out = folder / f"{name}-{seed}"
    result = vocablo.finetune(
        "classify", model=start, train=folder / "train.csv", dev=folder / "other.csv", out=out, quiet=True,
        overrides=[f"train.seed={seed}", "tokenizer.lowercase=true", *changes],
    )  # fmt: skip
    asked: Any = api.load(out)
    found = {
        "model": name,
        "seed": seed,
        "accuracy": 100 * float(result.runs[0].last["accuracy"]),
        "parameters": result.parameters,
    }
    return found | (looked(asked) if "attend" in asked.verbs else {})


def looked(asked: Any, count: int = 200) -> dict[str, float]:
    """The share of the weight that lies on deciding words, and their share of the words; of held-out reviews."""
    deciding = {*reviews.polarity(), "no"}
    weights, shares = [], []
    for one in reviews.reviews(count, seed=1):
        passages = asked.attend(one.text).passages
        told = [
            (weight * (1.0 if some.weight is None else some.weight), word.lower() in deciding)
            for some in passages
            for word, weight in zip(some.words, some.weights, strict=True)
        ]
        weights.append(sum(weight for weight, decides in told if decides))
        shares.append(sum(decides for _, decides in told) / len(told))
    return {"weight": 100 * statistics.fmean(weights), "share": 100 * statistics.fmean(shares)}


def spread(values: list[float]) -> str:
    return f"{statistics.fmean(values):.1f}" + (f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else "")


def main() -> None:
    chosen = options(__doc__, only=(",".join(MODELS), "which models"), seeds=(3, "runs of each"))
    rows, lines = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        reviews.write(folder / "train.csv", reviews.reviews(2000))
        reviews.write(folder / "other.csv", reviews.reviews(500, seed=1))
        for name in chosen.only.split(","):
            if name not in MODELS:
                raise SystemExit(f"There is no model {name!r} here. Known: {', '.join(MODELS)}")
            mine = [learn(name, seed, folder) for seed in range(chosen.seeds)]
            lines += mine
            looks = [one["weight"] for one in mine if "weight" in one]
            rows.append((MODELS[name][0], spread([one["accuracy"] for one in mine]), spread(looks) if looks else "", f"{mine[0]['share']:.1f}" if looks else "", mine[0]["parameters"]))  # fmt: skip
            print(f"{MODELS[name][0]}: {rows[-1][1]}", flush=True)
    header = ("model", "held-out accuracy", "% of the weight on deciding words", "their % of the words", "parameters")
    report("hotels", table(header, rows), {"runs": lines}, chosen.out)


if __name__ == "__main__":
    main()
