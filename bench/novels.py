"""A small GPT against a 5-gram on Spanish novels: bits per byte of the same held-out text, over the same subword ids.

    python bench/novels.py --minutes 10

Two corpora: *Don Quijote* (the last tenth is held out) and a hundred novels of 1840-1920 (every twentieth is held out). One
byte-level BPE is trained on the training part of each and used by both models. The GPT reads 256 tokens and is scored with
at least 128 before each; the 5-gram reads on through the whole text.
"""

from __future__ import annotations

import math
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import vocablo
from _harness import SHARED, need, options, report
from vocablo.views.terminal import table

STRIDE = 128


def quijote(data: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Training and held-out file, without the publisher's header and footer."""
    text = need(data / "quijote" / "quijote.pg2000.latin1.txt").read_text(encoding="latin-1")
    begin = text.index("\n", text.index("*** START"))
    body = text[begin : text.index("*** END")].replace("\r\n", "\n").strip()
    cut = body.index("\n\n", len(body) * 9 // 10)
    files = folder / "train.txt", folder / "held-out.txt"
    for path, part in zip(files, (body[:cut], body[cut:].strip()), strict=True):
        path.write_text(part, encoding="utf-8")
    return [files[0]], [files[1]]


def novels(data: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Ninety-five novels to train on, and every twentieth."""
    with tarfile.open(need(data / "eltec_spa.tar.xz")) as archive:
        archive.extractall(folder, filter="data")
    files = sorted(folder.rglob("*.txt"))
    files = [path for path in files if path.stat().st_size > 20_000]
    return [path for i, path in enumerate(files) if i % 20], files[::20]


CORPORA = {"quijote": (quijote, 4000, 0.2), "eltec": (novels, 8000, 0.0)}


def measure(name: str, data: Path, minutes: float, size: str, dtype: str) -> Iterator[dict[str, object]]:
    """A row for each model."""
    make, vocab, dropout = CORPORA[name]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "text").mkdir()
        train, held_out = make(data, folder / "text")
        vocablo.train_tokenizer(train, folder / "tokenizer", kind="bpe", vocab=vocab)
        runs = {
            "5-gram": dict(family="ngram", size="medium", data={"validation": 0.0}),
            "GPT": dict(
                family="gpt", size=size, minutes=minutes,
                overrides=[f"model.dropout={dropout}", f"train.dtype={dtype}", "data.validation=0.02", "train.lr=2e-3"],
            ),
        }  # fmt: skip
        for title, settings in runs.items():
            out = folder / title
            result = vocablo.pretrain(
                settings.pop("family"), text=train, tokenizer=folder / "tokenizer", out=out, **settings
            )
            model = vocablo.load(out)
            found = model.perplexity(held_out, stride=STRIDE if title == "GPT" else None)
            yield {
                "corpus": name,
                "model": title,
                "parameters": result.parameters,
                "training tokens": result.training_tokens,
                "seconds": result.seeds[0].seconds,
                "steps": result.seeds[0].steps,
                "held-out bytes": found.bytes,
                "perplexity": found.perplexity,
                "bits per byte": -found.log_prob / math.log(2) / found.bytes,
            }


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), minutes=(10.0, "of the GPT's training, a corpus"),
        size=("mini", "of the GPT"), dtype=("fp32", "of its training"), only=("", "quijote or eltec"),
    )  # fmt: skip
    names = [chosen.only] if chosen.only else list(CORPORA)
    rows = [
        row for name in names for row in measure(name, Path(chosen.data), chosen.minutes, chosen.size, chosen.dtype)
    ]
    cells = [tuple(f"{v:.3f}" if isinstance(v, float) else v for v in row.values()) for row in rows]
    report("novels", table(tuple(rows[0]), cells), {"rows": rows}, chosen.out)


if __name__ == "__main__":
    main()
