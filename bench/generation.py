"""Greedy generation with a GPT-2 of 124M random weights, batch 1: ours against transformers, CTranslate2 and llama.cpp.

    python bench/generation.py [--rounds 3] [--new 128]
    python bench/generation.py --model DIR --text FILE      # what compact weights cost: perplexity of a trained model

All peers read the same weights, each in a process of its own, asked in turn: 128 tokens after a prompt of 16, and the first
token after a prompt of 512. The tokens must be those of transformers in float32 where a peer computes in float32. Beside the
figures stands the limit: the bytes of the multiplied weights over the rate at which memory is read.
llama.cpp takes part where ``llama_cpp`` and ``gguf`` are installed.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import _generators
import vocablo
from _harness import options, read_rate, report
from vocablo import checkpoint
from vocablo.models import transformer
from vocablo.text.tokenizer import Tokenizer
from vocablo.views.terminal import table

VOCAB, CONTEXT = 50257, 1024
SHORT, LONG = ([(i * 37) % 50000 + 10 for i in range(length)] for length in (16, 512))
PEERS = (
    ("ours", "vocablo_", "fp32"),
    ("ours", "vocablo_", "bf16"),
    ("ours", "vocablo_", "int8"),
    ("transformers", "transformers_", "float32"),
    ("transformers", "transformers_", "bfloat16"),
    ("CTranslate2", "ctranslate2_", "float32"),
    ("CTranslate2", "ctranslate2_", "int8"),
    ("llama.cpp", "llama_cpp_", "f32"),
    ("llama.cpp", "llama_cpp_", "bf16"),
    ("llama.cpp", "llama_cpp_", "q8_0"),
)
BYTES = {"fp32": 4, "float32": 4, "f32": 4, "bf16": 2, "bfloat16": 2, "int8": 1, "q8_0": 1.0625}
NEEDS = {"ctranslate2_": ("ctranslate2",), "transformers_": ("transformers",), "llama_cpp_": ("llama_cpp", "gguf")}


def make(folder: Path) -> int:
    """A model folder of random weights; returns how many of them a token multiplies."""
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("gpt", "base", VOCAB, CONTEXT, {})).eval()
    words = Tokenizer.of_words([f"w{i}" for i in range(1, VOCAB)], specials={"end": None})
    checkpoint.save(folder, model, words)
    return sum(p.numel() for p in model.parameters() if p.ndim == 2) - CONTEXT * 768


def serve(pipe: Any, name: str, folder: Path, threads: int, dtype: str) -> None:
    """A peer's process: (prompt, count) in, (ids, seconds) out."""
    torch.set_num_threads(threads)
    go_on = getattr(_generators, name)(folder, threads, dtype)
    go_on(SHORT, 8)
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        begun = time.perf_counter()
        ids = go_on(*asked)
        pipe.send((ids, time.perf_counter() - begun))


def start(name: str, folder: Path, threads: int, dtype: str) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, name, folder, threads, dtype), daemon=True)
    process.start()
    there.close()
    return process, here


def ask(pipe: Any) -> Callable[[list[int], int], tuple[list[int], float]]:
    def asked(prompt: list[int], count: int) -> tuple[list[int], float]:
        pipe.send((prompt, count))
        return pipe.recv()

    return asked


def compare(chosen: Any) -> None:
    peers = [one for one in PEERS if all(importlib.util.find_spec(need) for need in NEEDS.get(one[1], ()))]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "gpt2"
        weights = make(folder)
        times: dict[tuple[str, str], list[float]] = {(who, dtype): [] for who, _, dtype in peers}
        first = {key: [] for key in times}
        texts: dict[tuple[str, str], list[int]] = {}
        running = {}
        for who, name, dtype in peers:  # one after another: two would write the same converted weights
            process, pipe = start(name, folder, chosen.threads, dtype)
            if pipe.recv() != "ready":
                raise SystemExit(f"{who} didn't start")
            running[who, dtype] = process, pipe
        for _ in range(chosen.rounds):
            for key, (_, pipe) in running.items():
                texts[key], seconds = ask(pipe)(SHORT, chosen.new)
                times[key].append(seconds)
                first[key].append(ask(pipe)(LONG, 1)[1])
        for process, pipe in running.values():
            pipe.send(None)
            process.join()
    speed = read_rate()
    truth = texts.get(("transformers", "float32"))
    rows, found = [], []
    for who, dtype in times:
        rate = chosen.new / statistics.median(times[who, dtype])
        limit = speed / (weights * BYTES[dtype])
        same = truth is not None and texts[who, dtype] == truth
        found.append(
            {"peer": who, "dtype": dtype, "tokens/s": rate, "limit": limit, "same tokens": same,
             "first token of 512, s": statistics.median(first[who, dtype])}
        )  # fmt: skip
        rows.append(
            (
                who,
                dtype,
                f"{rate:.1f}",
                f"{rate / limit:.0%}",
                f"{found[-1]['first token of 512, s']:.2f}",
                "yes" if same else "no",
            )
        )
    best = {
        who: max(one["tokens/s"] for one in found if one["peer"] == who)
        for who in dict.fromkeys(who for who, *_ in peers)
    }
    ratios = {who: best["ours"] / rate for who, rate in best.items() if who != "ours"}
    text = table(("peer", "weights", "tokens/s", "of the limit", "first of 512, s", "transformers' fp32 tokens"), rows)
    text += f"\n  memory is read at {speed / 1e9:.1f} GB/s; each at its best: " + ", ".join(
        f"{ratio:.2f}x {who}" for who, ratio in ratios.items()
    )
    report("generation", text, {"rows": found, "ratios": ratios, "bytes/s": speed}, chosen.out)


def cost(chosen: Any) -> None:
    """Perplexity of a trained model with its weights in each precision."""
    rows, found = [], []
    for dtype in ("fp32", "bf16", "int8"):
        model = vocablo.load(chosen.model, dtype=dtype)
        result = model.perplexity(chosen.text, documents="line")
        found.append({"weights": dtype, "perplexity": result.perplexity, "tokens": result.tokens})
        more = result.perplexity / found[0]["perplexity"] - 1
        rows.append((dtype, f"{result.perplexity:.4f}", f"{more:+.3%}", f"{result.tokens:,}"))
    report("generation-cost", table(("weights", "perplexity", "more", "tokens"), rows), {"rows": found}, chosen.out)


def main() -> None:
    chosen = options(
        __doc__, rounds=(3, "rounds"), new=(128, "tokens to generate"), model=("", "a trained model's folder"),
        text=("", "held-out text, a document a line"),
    )  # fmt: skip
    cost(chosen) if chosen.model else compare(chosen)


if __name__ == "__main__":
    main()
