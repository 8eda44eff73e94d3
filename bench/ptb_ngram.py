"""Penn Treebank with a 5-gram, and with a cache whose length and weight are chosen on the validation set alone.

    python bench/ptb_ngram.py --data ../shared/data/ptb_mikolov --out ptb_ngram.json

The files are Mikolov's (ptb.train.txt, ptb.valid.txt, ptb.test.txt: tokenized, 10,000 words with <unk>). Each line is a
document and its end is predicted as <end>, which makes 82,430 test tokens. The cache reads the lines as one stream and
starts empty; the test set is read with the one length and weight that are best on the validation set. Published for
interpolated modified Kneser-Ney of order 5: 141.2, and with a cache 125.7 (Mikolov et al. 2011). Where the kenlm module is
installed, it reads the model's ARPA file: its perplexity has to be ours.
"""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from _harness import SHARED, need, options, report, timed
from vocablo.api import LanguageModel, load
from vocablo.arpa.writing import write
from vocablo.data.readers import read_documents
from vocablo.data.store import Store
from vocablo.inference.reading import flat
from vocablo.models import ngram
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.terminal import table

ORDER = 5
LENGTHS = (50, 100, 200, 300, 400, 500, 1000)
WEIGHTS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)
ROUNDS = 3
CHUNK = 1 << 13


def fit(store: Store, vocab: int) -> tuple[ngram.NGram, float]:
    """The model, and the seconds of counting and smoothing (the best of some)."""
    model = ngram.build(ngram.Config(vocab=vocab, order=ORDER))
    return model, min(timed(lambda: model.fit(store)) for _ in range(ROUNDS))


def with_cache(model: ngram.NGram, length: int, weight: float) -> ngram.NGram:
    """The same tables behind a cache."""
    cache = ngram.Cache(length=length, weight=weight)
    cached = ngram.build(model.config.model_copy(update={"cache": cache})).eval()
    cached.load_state_dict(model.state_dict())
    return cached


def grid(model: ngram.NGram, store: Store) -> dict[int, dict[float, float]]:
    """length -> weight -> perplexity of a store read as one stream; the n-grams are looked up once."""
    ids = np.concatenate([[store.end_id], np.asarray(store.tokens)]).astype(np.int64)
    targets = torch.from_numpy(ids[1:])
    states = model.forward(flat([ids[:-1]])).states
    log_probs = model.target_log_probs(states, torch.arange(len(targets)), targets).double()
    found: dict[int, dict[float, float]] = {}
    for length in LENGTHS:
        padded = torch.cat([torch.full((length - 1,), ngram.NOTHING), torch.from_numpy(ids[:-1])])
        recent = padded.unfold(0, length, 1)
        parts = zip(recent.split(CHUNK), targets.split(CHUNK), strict=True)
        shares = torch.cat([ngram.cache_shares(*part)[0] for part in parts])
        found[length] = {weight: math.exp(-float(ngram.mix(log_probs, shares, weight).mean())) for weight in WEIGHTS}
    return found


def reading(language_model: LanguageModel, path: Path, carry: bool) -> dict[str, float]:
    """Perplexity of a file, a line a document, and how fast it was read."""
    begun = time.perf_counter()
    found = language_model.perplexity(path, documents="line", carry=carry)
    seconds = time.perf_counter() - begun
    return {"perplexity": found.perplexity, "tokens": found.tokens, "tokens_per_second": found.tokens / seconds}


def through_arpa(plain: LanguageModel, test: Path, folder: Path) -> dict[str, Any]:
    """The model written as an ARPA file and read again, here and (where it is installed) by KenLM."""
    path = folder / "model.arpa"
    result: dict[str, Any] = {"write_seconds": timed(lambda: write(path, plain.model, plain.tokenizer))}
    begun = time.perf_counter()
    again = load(path)
    result |= {"read_seconds": time.perf_counter() - begun, "bytes": path.stat().st_size}
    result |= {"vocablo": reading(again, test, carry=False), "kenlm": None}
    try:
        import kenlm
    except ImportError:
        return result
    begun = time.perf_counter()
    model = kenlm.Model(str(path))
    loaded = time.perf_counter()
    lines = [one.text.strip() for one in read_documents([test], documents="line")]
    log_prob = sum(model.score(line) for line in lines) * math.log(10)
    seconds, tokens = time.perf_counter() - loaded, sum(len(line.split()) + 1 for line in lines)
    result["kenlm"] = {
        "perplexity": math.exp(-log_prob / tokens),
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "read_seconds": loaded - begun,
    }
    return result


def drawn(result: dict[str, Any]) -> str:
    """The tables."""
    cache, arpa = result["cache"], result["arpa"]
    rows = [
        (f"{ORDER}-gram", result["valid"], result["test"]),
        (f"cache of {cache['length']}, weight {cache['weight']:g}", cache["valid"], cache["test"]),
        ("from its ARPA file", None, arpa["vocablo"]),
        ("the same file in KenLM", None, arpa["kenlm"]),
    ]
    shown = [
        (
            name,
            f"{valid['perplexity']:.3f}" if valid else "",
            f"{test['perplexity']:.3f}" if test else "not installed",
            f"{test['tokens_per_second']:,.0f}" if test else "",
        )
        for name, valid, test in rows
    ]
    curve = [(str(length), *(f"{cache['grid'][length][weight]:.2f}" for weight in WEIGHTS)) for length in LENGTHS]
    return "\n".join(
        [
            f"fit {result['fit_seconds']:.2f} s, {sum(result['entries']):,} n-grams, {result['bytes'] / 2**20:.1f} MiB",
            f"ARPA {arpa['bytes'] / 2**20:.1f} MiB, written in {arpa['write_seconds']:.1f} s, read in "
            f"{arpa['read_seconds']:.1f} s",
            f"test tokens {result['test']['tokens']:,}",
            table(("perplexity", "valid", "test", "test tokens/s"), shown),
            f"cache: validation perplexity by length (down) and weight (across), in {cache['grid_seconds']:.1f} s",
            table(("", *(f"{one:g}" for one in WEIGHTS)), curve),
        ]
    )


def main() -> None:
    about = "folder of ptb.train.txt, ptb.valid.txt, ptb.test.txt"
    chosen = options(__doc__, data=(str(SHARED / "ptb_mikolov"), about))
    train, valid, test = (need(Path(chosen.data) / f"ptb.{part}.txt") for part in ("train", "valid", "test"))
    texts = [[one.text for one in read_documents([path], documents="line")] for path in (train, valid)]
    tokenizer = Tokenizer.train("word", texts[0], split="whitespace")
    model, seconds = fit(Store.from_documents(texts[0], tokenizer), tokenizer.size)
    plain = LanguageModel(model, tokenizer)
    result: dict[str, Any] = {
        "fit_seconds": seconds,
        "entries": list(model.config.entries),
        "bytes": sum(tensor.nbytes for tensor in model.state_dict().values()),
        "valid": reading(plain, valid, carry=False),
        "test": reading(plain, test, carry=False),
    }
    begun = time.perf_counter()
    found = grid(model, Store.from_documents(texts[1], tokenizer))
    grid_seconds = time.perf_counter() - begun
    length, weight = min(((one, other) for one in LENGTHS for other in WEIGHTS), key=lambda at: found[at[0]][at[1]])
    cached = LanguageModel(with_cache(model, length, weight), tokenizer)
    result["cache"] = {
        "length": length,
        "weight": weight,
        "valid": reading(cached, valid, carry=True),
        "test": reading(cached, test, carry=True),
        "grid_seconds": grid_seconds,
        "grid": found,
    }
    with tempfile.TemporaryDirectory() as folder:
        result["arpa"] = through_arpa(plain, test, Path(folder))
    report("ptb_ngram", drawn(result), result, chosen.out)
    for tool in ("vocablo", "kenlm"):
        other = result["arpa"][tool]
        if other is not None and abs(other["perplexity"] / result["test"]["perplexity"] - 1) > 1e-5:
            raise SystemExit(f"{tool} finds another perplexity in the ARPA file.")


if __name__ == "__main__":
    main()
