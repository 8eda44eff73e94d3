"""Skip-gram and CBOW against gensim: the same text, vocabulary and settings, words a second and what people would say.

    python bench/word_vectors.py --text imdb.tar.xz --sets ../shared/data/wordsim --words 8000000

Text is IMDB's reviews (or any text file, a sentence a line), in lower case, letters and digits only; words seen less than 5
times are left out by both. gensim trains in both of its ways, from lists (Python feeds its threads) and from a file (its
threads read it themselves); the faster one is compared. Width 100, window 5, 5 negatives, sample 1e-3, 5 epochs, as many
threads on both sides. Words a second are those of the text times the epochs, rare words included, without building the
vocabulary. The vectors are then measured on the same published sets, with the same words known.
"""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from _harness import SHARED, need, options, report
from vocablo.data.store import Store
from vocablo.evaluation import wordsim
from vocablo.inference.words import WordModel
from vocablo.models import word_vectors
from vocablo.nn.word_vectors import compiled
from vocablo.text.tokenizer import Tokenizer
from vocablo.vector_files import reading
from vocablo.views.terminal import table

WIDTH, WINDOW, NEGATIVES, SAMPLE, EPOCHS, MIN_COUNT, LR, MIN_LR = 100, 5, 5, 1e-3, 5, 5, 0.025, 1e-4
SETS = ("EN-WS-353-ALL", "EN-SIMLEX-999.txt", "EN-MEN-TR-3k", "questions-words")
WORD = re.compile(r"[^\W_]+")


def sentences(path: Path, limit: int) -> Iterator[list[str]]:
    """Sentences of at most ``limit`` words in all."""
    seen = 0
    for text in _texts(path):
        for sentence in re.split(r"[.!?]+\s|<br />|\n", text):
            words = WORD.findall(sentence.lower())
            if words:
                yield words
                seen += len(words)
        if seen >= limit:
            return


def _texts(path: Path) -> Iterator[str]:
    if not path.name.endswith(".tar.xz"):
        yield from path.open(encoding="utf-8")
        return
    with tarfile.open(path) as packed:
        for member in packed:
            file = packed.extractfile(member) if member.name.endswith(".jsonl") else None
            for line in file or ():
                yield json.loads(line)["text"]


def ours(store: Store, tokenizer: Tokenizer, kind: str, seed: int) -> tuple[WordModel, float]:
    """Trained vectors, and the seconds of training."""
    changes = {
        "width": WIDTH, "kind": kind, "window": WINDOW, "negatives": NEGATIVES, "sample": SAMPLE, "epochs": EPOCHS,
        "lr": LR, "min_lr": MIN_LR, "boundary": tokenizer.end_id, "unknown": tokenizer.unk_id,
    }  # fmt: skip
    torch.manual_seed(seed)
    model = word_vectors.build(word_vectors.config_for("word-vectors", "mini", tokenizer.size, 0, changes))
    begun = time.perf_counter()
    model.fit(store)
    return WordModel(model, tokenizer), time.perf_counter() - begun


def gensims(
    lists: list[list[str]], file: Path, kind: str, threads: int, seed: int, folder: Path
) -> dict[str, tuple[WordModel, float]]:
    """The same of gensim, by way."""
    from gensim.models import Word2Vec

    found = {}
    for way, source in (("lists", {"corpus_iterable": lists}), ("file", {"corpus_file": str(file)})):
        model = Word2Vec(
            vector_size=WIDTH, sg=int(kind == "skip-gram"), window=WINDOW, negative=NEGATIVES, sample=SAMPLE, epochs=EPOCHS,
            min_count=MIN_COUNT, alpha=LR, min_alpha=MIN_LR, workers=threads, seed=seed, hs=0, cbow_mean=1,
        )  # fmt: skip
        model.build_vocab(**source)
        begun = time.perf_counter()
        model.train(**source, total_examples=model.corpus_count, total_words=model.corpus_total_words, epochs=EPOCHS)
        seconds = time.perf_counter() - begun
        model.wv.save_word2vec_format(str(folder / "gensim.bin"), binary=True)
        found[way] = (WordModel(*reading.read(folder / "gensim.bin")), seconds)
    return found


def measured(asked: WordModel, sets: Path) -> dict[str, tuple[float, int, int]]:
    """Set -> score times 100, how many of it are known, and of how many."""
    rows = {}
    for name in SETS:
        found = wordsim.evaluate(asked, sets, only=name)
        one = (*found.similarity, *found.analogies)[0]
        rows[name.removesuffix(".txt")] = (100 * one.score.value, one.score.count, one.total)
    return rows


def main() -> None:
    chosen = options(
        __doc__,
        text=(str(SHARED / "imdb.tar.xz"), "packed reviews, or a text file"),
        sets=(str(SHARED / "wordsim"), "folder of word pairs and analogies"),
        words=(8_000_000, "words to train on, about"),
        seed=(1, "of both"),
    )
    text, sets = need(Path(chosen.text)), need(Path(chosen.sets))
    lists = list(sentences(text, chosen.words))
    count = sum(map(len, lists))
    lines = [" ".join(words) for words in lists]
    tokenizer = Tokenizer.train("word", lines, split="whitespace", min_count=MIN_COUNT)
    store = Store.from_documents(lines, tokenizer)
    compiled()  # built before it is timed
    result: dict[str, Any] = {"words": count, "vocabulary": tokenizer.size, "threads": chosen.threads, "kinds": {}}
    rows, ratios = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        file = folder / "text.txt"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        for kind in ("skip-gram", "cbow"):
            models = {"vocablo": ours(store, tokenizer, kind, chosen.seed)}
            try:
                peers = gensims(lists, file, kind, chosen.threads, chosen.seed, folder)
            except ImportError:
                peers = {}
                print("gensim isn't installed: ours alone", flush=True)
            models |= {f"gensim, {way}": one for way, one in peers.items()}
            here = {}
            for name, (asked, seconds) in models.items():
                scores = measured(asked, sets)
                here[name] = {"words_per_second": count * EPOCHS / seconds, "seconds": seconds, "scores": scores}
                shown = [f"{value:.1f} ({known:,})" for value, known, _ in scores.values()]
                rows.append((kind, name, f"{count * EPOCHS / seconds:,.0f}", f"{asked.count:,}", *shown))
            result["kinds"][kind] = here
            if peers:
                fastest = max(one["words_per_second"] for name, one in here.items() if name != "vocablo")
                ratios.append(f"{kind}: {here['vocablo']['words_per_second'] / fastest:.2f}x gensim's faster way")
    header = ("", "", "words/s", "vectors", *(f"{name.removesuffix('.txt')} (known)" for name in SETS))
    head = f"{count:,} words, {EPOCHS} epochs, {chosen.threads} threads"
    report("word_vectors", "\n".join([head, table(header, rows), *ratios]), result, chosen.out)


if __name__ == "__main__":
    main()
