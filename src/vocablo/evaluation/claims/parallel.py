"""Processing in parallel: tokens a second of training, by the length of the sequences.

"A diferencia de las RNNs que procesan secuencias paso a paso, los Transformers pueden procesar todos los elementos de la
secuencia simultáneamente": a step of training reads the same number of tokens, in fewer and longer sequences each time. A
recurrent network then has more steps in time, each of fewer rows; the Transformer's attention has more pairs to look at.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from vocablo.base.progress import Progress
from vocablo.base.random import seed_for
from vocablo.contract import Tokens
from vocablo.evaluation.claims._small import Outcome
from vocablo.models import rnn, transformer
from vocablo.views.svg import Series, curves

ABOUT = "training speed by the length of sequences, recurrent networks and the Transformer"
STEPS = 10

TOKENS, LENGTHS, WIDTH, VOCAB = 4096, (16, 64, 256, 1024), 128, 1000


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """Median seconds of forward and backward, variants and lengths in turn."""
    torch.manual_seed(seed_for(seed, "init"))
    models = {name: make() for name, make in FAMILIES.items()}
    times: dict[tuple[str, int], list[float]] = {(name, length): [] for name in models for length in LENGTHS}
    ids = torch.randint(VOCAB, (TOKENS,))
    with Progress("parallel", steps * len(times), "steps", quiet=quiet) as progress:
        for _ in range(steps):
            for (name, length), seconds in times.items():
                seconds.append(_step(models[name], ids.view(-1, length)))
                progress.advance(1)
    rates = {key: TOKENS / statistics.median(seconds) for key, seconds in times.items()}
    rows = [(name, *(f"{rates[name, length]:,.0f}" for length in LENGTHS)) for name in models]
    lines = [
        Series(name, tuple((float(i), rates[name, length] / 1000) for i, length in enumerate(LENGTHS)))
        for name in models
    ]
    marks = {float(i): f"{length:,}" for i, length in enumerate(LENGTHS)}
    threads = torch.get_num_threads()
    return (
        "Procesamiento en paralelo: a recurrent network reads a sequence step by step, a Transformer all of it at once.",
        f"Tokens a second, forward and backward, {TOKENS:,} tokens in sequences of one length; 2 layers, {WIDTH} wide; medians "
        f"of {steps} steps, in turn, on {threads} thread{'s' * (threads > 1)} of a processor.",
        ("family", *(f"{length:,} tokens" for length in LENGTHS)),
        rows,
        {"Training speed by length": curves(lines, x="tokens in a sequence", y="thousand tokens/s", marks=marks)},
    )


def _step(model: Any, ids: torch.Tensor) -> float:
    tokens, begun = Tokens.of(ids), time.perf_counter()
    states = model(tokens).states
    at = torch.arange(len(tokens.ids))
    (-model.target_log_probs(states, at, tokens.ids.roll(-1)).sum()).backward()
    seconds = time.perf_counter() - begun
    model.zero_grad(set_to_none=True)
    return seconds


def _recurrent(family: str) -> Any:
    changes = {"embed": {"width": WIDTH}, "stack": {"layers": 2, "width": WIDTH}}
    return rnn.build(rnn.config_for(family, "tiny", VOCAB, max(LENGTHS), changes))


def _decoder() -> Any:
    changes: dict[str, Any] = {"stack": {"layers": 2, "width": WIDTH}, "attention": {"heads": 4}, "dropout": 0.0}
    return transformer.build(transformer.config_for("gpt", "tiny", VOCAB, max(LENGTHS), changes))


FAMILIES: dict[str, Any] = {
    "RNN": lambda: _recurrent("rnn"),
    "LSTM": lambda: _recurrent("lstm"),
    "Transformer": _decoder,
}
