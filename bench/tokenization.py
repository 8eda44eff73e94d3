"""Text into token ids on disk: ``Store.build`` against ``datasets.map(batched)`` with the ``tokenizers`` library.

    python bench/tokenization.py [--text PATH ...] [--kind bpe] [--vocab 8000] [--repeats 3]

The same lines and the same tokenizer; each way in a process of its own, in turn, the best of the repeats counts, and the
ids must agree. The peer runs in two settings, the library's threads and one process a core, and the better one counts.
The time is from the text file to ids on the disk; imports are not counted. The store also has word and sentence starts
and all counts, which the peer doesn't compute. Without --text: the novels of ``../shared/data/eltec_spa.tar.xz`` where
they are, else 30 MB of the embedded grammar's sentences. Writes bench/out/tokenization.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vocablo.base.progress import duration
from vocablo.data.readers import read_documents
from vocablo.data.store import Store
from vocablo.text.kinds import KINDS
from vocablo.text.tokenizer import Tokenizer

HERE = Path(__file__).parent
NOVELS = HERE.parent.parent / "shared" / "data" / "eltec_spa.tar.xz"
OURS, PEERS = ("store", "store-processes"), ("datasets", "datasets-processes")


def lines(text: list[Path], scratch: Path) -> Iterator[str]:
    """The corpus, line by line."""
    if not text and NOVELS.exists():
        with tarfile.open(NOVELS) as archive:
            archive.extractall(scratch, filter="data")
        text = sorted(scratch.glob("eltec_spa/txt/*.txt"))
    if text:
        yield from (document.text for document in read_documents(text, documents="line"))
    else:
        from vocablo.data.grammar import Grammar, render, split

        yield from (render(split(line)) for line in Grammar().generate(0, 600_000))


def build_store(corpus: Path, folder: Path, scratch: Path, workers: int) -> tuple[float, str]:
    """Ours: seconds, and the digest of all ids without boundaries."""
    tokenizer = Tokenizer.load(folder)
    started = time.perf_counter()
    store = Store.build(corpus, tokenizer, scratch / "store", documents="line", workers=workers, quiet=True)
    seconds = time.perf_counter() - started
    ids = np.delete(np.asarray(store.tokens, dtype=np.int32), store.documents[1:] - 1)
    return seconds, hashlib.sha256(ids.tobytes()).hexdigest()


def map_dataset(corpus: Path, folder: Path, scratch: Path, processes: int | None) -> tuple[float, str]:
    """The peer: the text loader, a batched map that keeps only ids, and its Arrow file."""
    import datasets
    import tokenizers

    datasets.disable_progress_bars()
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    kind = "uint16" if tokenizer.get_vocab_size() <= 2**16 else "uint32"

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        encodings = tokenizer.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"ids": [encoding.ids for encoding in encodings]}

    started = time.perf_counter()
    loaded = datasets.load_dataset("text", data_files=str(corpus), split="train", cache_dir=str(scratch / "cache"))
    features = datasets.Features({"ids": datasets.List(datasets.Value(kind))})
    mapped = loaded.map(encode, batched=True, num_proc=processes, remove_columns=["text"], features=features)
    seconds = time.perf_counter() - started
    digest = hashlib.sha256()
    for row in mapped.with_format("numpy").iter(batch_size=1000):
        digest.update(np.concatenate(list(row["ids"])).astype(np.int32).tobytes())
    return seconds, digest.hexdigest()


def one(name: str, corpus: Path, folder: Path) -> None:
    """Measure one way, in this process, and print the result as JSON."""
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        if name in OURS:
            seconds, digest = build_store(corpus, folder, place, cores if name == "store-processes" else 1)
        else:
            seconds, digest = map_dataset(corpus, folder, place, cores if name == "datasets-processes" else None)
    print(json.dumps({"seconds": seconds, "digest": digest}))


def measure(corpus: Path, folder: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of every way and repeat, in turn. Raises ValueError when ids differ."""
    seconds: dict[str, list[float]] = {}
    digests = set()
    for _ in range(repeats):
        for name in (*OURS, *PEERS):
            command = [sys.executable, __file__, "--one", name, "--text", str(corpus), "--tokenizer", str(folder)]
            offline = os.environ | {"HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=offline)
            result = json.loads(done.stdout.splitlines()[-1])
            seconds.setdefault(name, []).append(result["seconds"])
            digests.add(result["digest"])
            print(f"  {name}: {duration(result['seconds'])}", file=sys.stderr)
    if len(digests) != 1:
        raise ValueError("the ways don't give the same ids")
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, nargs="+", default=[])
    parser.add_argument("--kind", choices=KINDS, default="bpe")
    parser.add_argument("--vocab", type=int, default=8000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokenizer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=(*OURS, *PEERS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.text[0], options.tokenizer)
        return 0
    if find_spec("datasets") is None:
        print("The peer isn't installed: pip install 'datasets>=4' (or make bench).")
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        corpus, folder = Path(scratch) / "corpus.txt", Path(scratch) / "tokenizer"
        with corpus.open("w", encoding="utf-8") as file:
            file.writelines(line.replace("\r", " ") + "\n" for line in lines(options.text, Path(scratch)))
        vocab = options.vocab if options.kind in ("bpe", "wordpiece", "unigram") else None
        sample = (
            document.text
            for number, document in enumerate(read_documents(corpus, documents="line"))
            if number % 10 == 0
        )
        Tokenizer.train(options.kind, sample, vocab=vocab).save(folder)
        size = corpus.stat().st_size
        seconds = measure(corpus, folder, options.repeats)
    best = {name: min(times) for name, times in seconds.items()}
    ratio = min(best[name] for name in PEERS) / min(best[name] for name in OURS)
    print(f"{size / 1e6:.1f} MB, {options.kind} of {options.vocab}, {os.cpu_count()} cores\n")
    print(f"{'way':20} {'seconds':>8} {'MB/s':>8}")
    for name in (*OURS, *PEERS):
        print(f"{name:20} {best[name]:8.2f} {size / 1e6 / best[name]:8.2f}")
    print(f"\nours / theirs, each at its best: {ratio:.2f}x")
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    record = {"bytes": size, "kind": options.kind, "vocab": options.vocab, "seconds": seconds, "ratio": ratio}
    (out / "tokenization.json").write_text(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
