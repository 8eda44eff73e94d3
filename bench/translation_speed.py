"""Translation with a beam of 5, 64 real sentences at once: ours against transformers' generate and CTranslate2.

    python bench/translation_speed.py [--rounds 3] [--steps 150] [--model DIR]

A model of Marian's shape (6 + 6 layers, 512 wide, 8 heads) over the pieces of Multi30k German-English, trained for so many
steps of 64 pairs first (and kept in ``bench/out/translation_speed-STEPS``), or that of DIR, a Marian folder. All peers read
the same weights in float32, each in a process of its own, asked in turn. Beside the seconds stands how many of the 64 best
hypotheses are those of transformers. CTranslate2 ends a search by a rule of its own.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from _harness import HERE, SHARED, need, options, report
from vocablo import checkpoint
from vocablo.contract import Tokens
from vocablo.views.terminal import table

BEAM, SENTENCES, MOST = 5, 64, 60
END, UNKNOWN = 0, 1
DATA = SHARED / "multi30k_bpe"
PEERS = {"ours": ("torch",), "transformers": ("transformers",), "ctranslate2": ("transformers", "ctranslate2")}
Translate = Callable[[list[list[int]]], list[list[int]]]


def pairs(part: str) -> list[tuple[list[str], list[str]]]:
    """German and English pieces of a part of the corpus."""
    sides = [need(DATA / f"{part}.{side}").read_text(encoding="utf-8").splitlines() for side in ("de", "en")]
    return [(one.split(), other.split()) for one, other in zip(*sides, strict=True)]


def vocabulary() -> list[str]:
    """</s> and <unk>, the pieces that come twice in training, and the padding last, as Marian has it."""
    counts = Counter(piece for pair in pairs("train") for side in pair for piece in side)
    return ["</s>", "<unk>", *sorted(piece for piece, count in counts.items() if count > 1), "<pad>"]


def ids_of(pieces: list[str], places: dict[str, int]) -> list[int]:
    return [*(places.get(piece, UNKNOWN) for piece in pieces), END]


def make(folder: Path, words: list[str], steps: int) -> None:
    """A Marian folder, trained a little so that its translations end where a sentence does."""
    from transformers import MarianConfig, MarianMTModel

    pad = len(words) - 1
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(words), decoder_vocab_size=len(words), d_model=512, encoder_layers=6, decoder_layers=6,
        encoder_attention_heads=8, decoder_attention_heads=8, encoder_ffn_dim=2048, decoder_ffn_dim=2048, dropout=0.1,
        scale_embedding=True, eos_token_id=END, pad_token_id=pad, decoder_start_token_id=pad, forced_eos_token_id=None,
        max_position_embeddings=256,
    )  # fmt: skip
    MarianMTModel(config).save_pretrained(folder)
    model, places = checkpoint.load(folder).model.train(), {word: place for place, word in enumerate(words)}
    train = [(ids_of(source, places), ids_of(target, places)) for source, target in pairs("train")]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.98))
    draw = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 3e-4 * min(1.0, (step + 1) / 100)
        chosen = [train[int(row)] for row in torch.randint(len(train), (64,), generator=draw)]
        tokens = Tokens.of([[pad, *target[:-1]] for _, target in chosen])
        value = torch.tensor([token for _, target in chosen for token in target])
        states = model(tokens, Tokens.of([source for source, _ in chosen])).states
        loss = -model.target_log_probs(states, torch.arange(len(value)), value).sum() / len(value)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 25 == 0 or step == steps - 1:
            print(f"step {step + 1} of {steps}: {loss.item():.3f} nats a token", flush=True)
    with torch.no_grad():
        model.table.weight[pad] = 0  # what a Marian decoder begins with
    checkpoint.save(folder, model.eval())


def ours(folder: Path, threads: int) -> Translate:
    from vocablo.decoding.beam import search
    from vocablo.decoding.settings import DecodeSettings
    from vocablo.decoding.start import from_sources

    model = checkpoint.load(folder).model
    settings = DecodeSettings(beam=BEAM, max_tokens=MOST, exclude=((model.vocab - 1,),))

    def translate(sources: list[list[int]]) -> list[list[int]]:
        with torch.inference_mode():
            return [list(found[0].ids) for found in search(from_sources(model, Tokens.of(sources)), settings, END)]

    return translate


def transformers(folder: Path, threads: int) -> Translate:
    from transformers import MarianMTModel, logging

    logging.set_verbosity_error()
    model = MarianMTModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    pad = model.config.pad_token_id

    def translate(sources: list[list[int]]) -> list[list[int]]:
        longest = max(map(len, sources))
        ids = torch.tensor([source + [pad] * (longest - len(source)) for source in sources])
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=(ids != pad).long(), num_beams=BEAM, max_new_tokens=MOST, do_sample=False,
                length_penalty=1.0, early_stopping=False, bad_words_ids=[[pad]], max_length=None, forced_eos_token_id=None,
            )  # fmt: skip
        rows = [row[1:] for row in found.tolist()]
        return [row[: row.index(END) + 1] if END in row else row for row in rows]

    return translate


def ctranslate2(folder: Path, threads: int) -> Translate:
    import ctranslate2 as library
    from ctranslate2.converters.transformers import MarianMTLoader
    from transformers import MarianMTModel

    made = folder / "ctranslate2"
    names = [f"w{place}" for place in range(MarianMTModel.config_class.from_pretrained(folder).vocab_size - 1)]
    names[END], names[UNKNOWN] = "</s>", "<unk>"
    if not made.exists():
        loader = MarianMTLoader()
        spec = loader.get_model_spec(MarianMTModel.from_pretrained(folder))
        loader.set_vocabulary(spec, names)
        spec.config.eos_token = spec.config.decoder_start_token = "</s>"
        spec.config.unk_token = "<unk>"
        spec.validate()
        spec.optimize()
        made.mkdir()
        spec.save(str(made))
    model = library.Translator(str(made), compute_type="float32", inter_threads=1, intra_threads=threads)
    places = {name: place for place, name in enumerate(names)}

    def translate(sources: list[list[int]]) -> list[list[int]]:
        rows = [[names[token] for token in source] for source in sources]
        found = model.translate_batch(
            rows, beam_size=BEAM, max_decoding_length=MOST, length_penalty=1.0, return_end_token=True
        )
        return [[places[name] for name in one.hypotheses[0]] for one in found]

    return translate


def serve(pipe: Any, peer: str, folder: Path, threads: int) -> None:
    """A peer's process: sentences in, (translations, seconds) out."""
    torch.set_num_threads(threads)
    translate = globals()[peer](folder, threads)
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        begun = time.perf_counter()
        found = translate(asked)
        pipe.send((found, time.perf_counter() - begun))


def start(peer: str, folder: Path, threads: int) -> tuple[Any, Any]:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, peer, folder, threads), daemon=True)
    process.start()
    there.close()
    here.recv()
    return process, here


def main() -> None:
    chosen = options(
        __doc__, rounds=(3, "rounds"), steps=(150, "training steps of a new model"), model=("", "a Marian folder"),
        sentences=(SENTENCES, "sentences at once"),
    )  # fmt: skip
    words = vocabulary()
    folder = Path(chosen.model) if chosen.model else HERE / "out" / f"translation_speed-{chosen.steps}"
    if not (folder / "config.json").exists():
        make(folder, words, chosen.steps)
    places = {word: place for place, word in enumerate(words)}
    sources = [ids_of(source, places) for source, _ in pairs("test.2016")[: chosen.sentences]]
    peers = [name for name, needs in PEERS.items() if all(importlib.util.find_spec(one) for one in needs)]
    running = {name: start(name, folder, chosen.threads) for name in peers}
    found: dict[str, list[list[int]]] = {}
    seconds: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(chosen.rounds + 1):  # the first one warms up
        for name, (_, pipe) in running.items():
            pipe.send(sources)
            found[name], took = pipe.recv()
            if turn:
                seconds[name].append(took)
    for process, pipe in running.values():
        pipe.send(None)
        process.join(10)
    judge = found.get("transformers", found["ours"])
    base = statistics.median(seconds["ours"])
    rows, told = [], []
    for name in peers:
        median = statistics.median(seconds[name])
        equal = sum(one == other for one, other in zip(found[name], judge, strict=True))
        length = sum(map(len, found[name])) / len(sources)
        rows.append((name, f"{median:.2f}", f"{median / base:.2f}", f"{equal} of {len(sources)}", f"{length:.1f}"))
        told.append({"peer": name, "seconds": seconds[name], "equal": equal, "tokens": length})
    header = ("", "seconds", "ours = 1", "hypotheses as transformers'", "tokens a sentence")
    report("translation_speed", table(header, rows), {"beam": BEAM, "rows": told}, chosen.out)


if __name__ == "__main__":
    main()
