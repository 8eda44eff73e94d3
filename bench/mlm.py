"""Masked-language-model training of the same BERT on the same real text: ours against transformers' Trainer.

    python bench/mlm.py                                        # mini: 4 layers, 256 wide, 64 sequences a step
    python bench/mlm.py --size base --batch 16 --steps 3 --rounds 2

Sentences of Spanish novels (eltec_spa) and a WordPiece vocabulary of 30,522 trained on them; dropout 0.1 on both sides, AdamW,
gradients clipped, 15 % of the tokens hidden by each side's own rule. transformers' Trainer runs with its language-modelling collator in
three settings: lines with dynamic padding, lines grouped by length, and concatenated blocks of 128; a plain loop with the
same collator runs beside it. Ours reads the same sentences (against the first two and the loop) and the same stream in
blocks. Every peer begins from the same weights. Before timing, without dropout, the loss and all gradients on a padded
batch of theirs are compared with ours on the same tokens without padding.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.filterwarnings("ignore")

import torch

from _harness import SHARED, in_turn, options, packed_texts, peak_mib, report, timed
from vocablo import checkpoint
from vocablo.contract import Tokens
from vocablo.data.store import Store
from vocablo.models import transformer
from vocablo.pretexts import masked
from vocablo.text.sentences import split_sentences
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings
from vocablo.views.terminal import table

VOCAB, CONTEXT, LR, CLIP, DECAY, BETAS = 30_522, 128, 1e-4, 1.0, 0.01, (0.9, 0.99)
SETTINGS = {"lines": {}, "by length": {"train_sampling_strategy": "group_by_length"}, "blocks": {}}


@dataclass
class Text:
    """Sentences, their ids without special tokens (none longer than the context allows), and who made the ids."""

    sentences: list[str]
    ids: list[list[int]]
    tokenizer: Tokenizer
    folder: Path  # of the tokenizer

    def framed(self) -> list[list[int]]:
        cls, sep = self.tokenizer.cls_id, self.tokenizer.sep_id
        return [[cls, *ids, sep] for ids in self.ids]

    def blocks(self) -> list[list[int]]:
        """As transformers' example script makes them: all lines with their special tokens, joined and cut."""
        stream = [token for ids in self.framed() for token in ids]
        return [stream[at : at + CONTEXT] for at in range(0, len(stream) - CONTEXT + 1, CONTEXT)]


def read(archive: Path, folder: Path, count: int) -> Text:
    """``count`` sentences drawn from all novels; the tokenizer is kept in ``folder`` for the processes that measure memory."""
    paragraphs = [line.strip() for text in packed_texts(archive, ".txt") for line in text.splitlines() if line.strip()]
    place = folder / "tokenizer"
    if not place.exists():
        Tokenizer.train("wordpiece", paragraphs, vocab=VOCAB).save(place)
    tokenizer = Tokenizer.load(place)
    draw = random.Random(0)
    draw.shuffle(paragraphs)
    sentences = [p[a:b].strip() for p in paragraphs[:count] for a, b in split_sentences(p)]
    draw.shuffle(sentences)
    pairs = list(zip(sentences, tokenizer.encode_batch(sentences), strict=True))
    kept = [(text, ids) for text, ids in pairs if 0 < len(ids) <= CONTEXT - 2][:count]
    return Text([text for text, _ in kept], [ids for _, ids in kept], tokenizer, place)


def our_model(size: str, vocab: int, dropout: float) -> torch.nn.Module:
    torch.manual_seed(0)
    changes = {"dropout": dropout, "pooler": False}
    return transformer.build(transformer.config_for("bert", size, vocab, 512, changes))


def their_model(size: str, vocab: int, dropout: float) -> Any:
    from transformers import AutoModelForMaskedLM

    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(Path(folder), our_model(size, vocab, dropout))
        return AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="sdpa").train()


def collator(text: Text) -> Any:
    from transformers import AutoTokenizer, DataCollatorForLanguageModeling

    return DataCollatorForLanguageModeling(AutoTokenizer.from_pretrained(text.folder), mlm_probability=0.15)


@dataclass(frozen=True)
class Work:
    """What is trained: the shape, the precision, how many sequences a step and how many steps a timed call."""

    size: str
    dtype: str
    batch: int
    steps: int
    dropout: float = 0.1


# Each peer is a function that makes a few steps and returns (seconds, sequences, tokens).
Call = Callable[[], tuple[float, int, int]]


def ours(text: Text, work: Work, kind: str) -> Call:
    order = "shuffled" if kind == "blocks" else "documents"
    store = Store.from_documents(text.sentences, text.tokenizer)
    pretext = masked.Pretext(
        store,
        masked.Config(order=order),
        tokenizer=text.tokenizer,
        seed=0,
        batch=work.batch,
        micro=None,
        context=CONTEXT,
    )
    settings = TrainSettings(
        steps=10**6, batch=work.batch, lr=LR, schedule="constant", warmup=0, weight_decay=DECAY, betas=BETAS, clip=CLIP,
        dtype=work.dtype,
    )  # fmt: skip
    trainer = iter(Trainer(our_model(work.size, text.tokenizer.size, work.dropout), pretext, settings))

    def call() -> tuple[float, int, int]:
        steps: list[Any] = []
        seconds = timed(lambda: steps.extend(next(trainer) for _ in range(work.steps)))
        return seconds, work.batch * work.steps, sum(step.tokens for step in steps)

    return call


def trainer(text: Text, work: Work, kind: str) -> Call:
    import transformers
    from transformers import TrainingArguments

    transformers.logging.set_verbosity_error()
    rows = text.blocks() if kind == "blocks" else text.framed()
    random.Random(1).shuffle(rows)
    model, collate, taken = their_model(work.size, text.tokenizer.size, work.dropout), collator(text), 0

    def call() -> tuple[float, int, int]:
        nonlocal taken
        wanted = work.batch * work.steps
        some = [{"input_ids": rows[(taken + i) % len(rows)]} for i in range(wanted)]
        taken += wanted
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, per_device_train_batch_size=work.batch, num_train_epochs=1, learning_rate=LR, weight_decay=DECAY,
                lr_scheduler_type="constant", adam_beta2=BETAS[1], max_grad_norm=CLIP, optim="adamw_torch_fused",
                bf16=work.dtype == "bf16", use_cpu=True, report_to=[], save_strategy="no", logging_strategy="no",
                disable_tqdm=True, **SETTINGS[kind],
            )  # fmt: skip
            hugging = transformers.Trainer(model=model, args=arguments, train_dataset=some, data_collator=collate)
            hugging.remove_callback(transformers.PrinterCallback)
            seconds = timed(hugging.train)
        return seconds, wanted, sum(len(row["input_ids"]) for row in some)

    return call


def loop(text: Text, work: Work, kind: str) -> Call:
    rows = text.framed()
    random.Random(1).shuffle(rows)
    model, collate, taken = their_model(work.size, text.tokenizer.size, work.dropout), collator(text), 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=DECAY, fused=True)

    def step() -> int:
        nonlocal taken
        some = [{"input_ids": rows[(taken + i) % len(rows)]} for i in range(work.batch)]
        taken += work.batch
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=work.dtype == "bf16"):
            loss = model(**collate(some)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sum(len(row["input_ids"]) for row in some)

    def call() -> tuple[float, int, int]:
        tokens: list[int] = []
        seconds = timed(lambda: tokens.extend(step() for _ in range(work.steps)))
        return seconds, work.batch * work.steps, sum(tokens)

    return call


PEERS: dict[str, tuple[Callable[[Text, Work, str], Call], str]] = {
    "ours, lines": (ours, "lines"),
    "ours, blocks": (ours, "blocks"),
    "Trainer, lines": (trainer, "lines"),
    "Trainer, by length": (trainer, "by length"),
    "Trainer, blocks": (trainer, "blocks"),
    "loop, lines": (loop, "lines"),
}
AGAINST = {"Trainer, lines": "ours, lines", "Trainer, by length": "ours, lines", "loop, lines": "ours, lines", "Trainer, blocks": "ours, blocks"}  # fmt: skip


def identity(text: Text, size: str) -> tuple[float, float]:
    """Largest differences of the loss and of any gradient on a padded batch of theirs, float32, without dropout."""
    from safetensors.torch import load_file

    torch.manual_seed(0)
    batch = collator(text)([{"input_ids": row} for row in text.framed()[:16]])
    theirs = their_model(size, text.tokenizer.size, 0.0)
    loss = theirs(**batch).loss
    loss.backward()
    model = our_model(size, text.tokenizer.size, 0.0).train()
    there = batch["attention_mask"].bool()
    flat = Tokens.of([row[real].tolist() for row, real in zip(batch["input_ids"], there, strict=True)])
    labels = batch["labels"][there]
    at = (labels != -100).nonzero()[:, 0]
    mean = -model.target_log_probs(model(flat).states, at, labels[at]).sum() / len(at)
    mean.backward()
    # Written as if they were weights, our gradients get the names that theirs have.
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for parameter in model.parameters():
            parameter.copy_(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
        checkpoint.write(Path(folder), model)
        named = load_file(Path(folder) / "model.safetensors")
    gaps = []
    for name, parameter in theirs.named_parameters():
        gaps.append(float((named[name] - parameter.grad).abs().max()))
    return abs(float(mean.detach()) - float(loss.detach())), max(gaps)


def memory(name: str, work: Work, data: str, folder: Path, count: int) -> float:
    """Peak MiB of three calls of one step in a process of its own."""
    return peak_mib(
        "import mlm, pathlib, transformers.models.bert.modeling_bert, transformers.trainer\n"
        f"text = mlm.read(pathlib.Path({data!r}), pathlib.Path({str(folder)!r}), {count})\n"
        "libraries = told('VmRSS')\n"
        f"make, kind = mlm.PEERS[{name!r}]\n"
        f"step = make(text, mlm.Work({work.size!r}, {work.dtype!r}, {work.batch}, 1, {work.dropout}), kind)\n"
    )


def main() -> None:
    chosen = options(
        __doc__, data=(str(SHARED / "eltec_spa.tar.xz"), "the packed novels"), size=("mini", "mini or base"),
        dtype=("fp32", "fp32 or bf16"), batch=(64, "sequences a step"), steps=(4, "steps a timed call"),
        rounds=(3, "timed calls of each peer"), sentences=(20_000, "that are drawn"),
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        text = read(Path(chosen.data), Path(scratch), chosen.sentences)
        loss_gap, gradient_gap = identity(text, chosen.size)
        work = Work(chosen.size, chosen.dtype, chosen.batch, chosen.steps)
        calls = {name: make(text, work, kind) for name, (make, kind) in PEERS.items()}
        in_turn({name: (lambda call=call: call()[0]) for name, call in calls.items()}, 1)
        seen: dict[str, list[tuple[float, int, int]]] = {name: [] for name in calls}
        for _ in range(chosen.rounds):
            for name, call in calls.items():
                seen[name].append(call())
        del calls
        measured = ("ours, lines", "Trainer, lines", "ours, blocks", "Trainer, blocks")
        peaks = {name: memory(name, work, chosen.data, Path(scratch), chosen.sentences) for name in measured}
    rates = {
        name: (statistics.median(n / s for s, n, _ in found), statistics.median(t / s for s, _, t in found))
        for name, found in seen.items()
    }
    rows, found = [], []
    for name, (sequences, tokens) in rates.items():
        other = AGAINST.get(name)
        unit = 1 if name.endswith("blocks") else 0
        ratio = None if other is None else rates[other][unit] / rates[name][unit]
        less = peaks[other] / peaks[name] if other and name in peaks else None
        found.append({"peer": name, "sequences/s": sequences, "tokens/s": tokens, "ours against it": ratio, "peak MiB": peaks.get(name), "memory ratio": less})  # fmt: skip
        rows.append((
            name, f"{sequences:.1f}", f"{tokens:,.0f}", "" if ratio is None else f"{ratio:.2f}x",
            f"{peaks[name]:.0f}" if name in peaks else "", "" if less is None else f"{less:.2f}x",
        ))  # fmt: skip
    header = ("peer", "sequences/s", "tokens/s", "ours against it", "MiB", "our memory")
    note = f"\n  loss differs by {loss_gap:.1e} and no gradient by more than {gradient_gap:.1e} on a padded batch of theirs"
    title = f"  BERT-{chosen.size}, {chosen.dtype}, {chosen.batch} sequences a step, {text.tokenizer.size:,} words\n"
    result = {"size": chosen.size, "dtype": chosen.dtype, "batch": chosen.batch, "loss gap": loss_gap, "gradient gap": gradient_gap, "rows": found}  # fmt: skip
    report(f"mlm_{chosen.size}_{chosen.dtype}", title + table(header, rows) + note, result, chosen.out)


if __name__ == "__main__":
    main()
