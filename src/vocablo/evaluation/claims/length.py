"""Sinusoidal encodings go on beyond the length that was trained, a learned table doesn't."""

from __future__ import annotations

from vocablo.evaluation.claims._small import POSITIONS, Outcome, causal_pretext, held_out, learn, small, text
from vocablo.views.svg import Series, curves

ABOUT = "which positions go on beyond the length that was trained"
STEPS = 600


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """Train on sequences of 32 tokens, and ask for the next words of longer ones."""
    tokenizer, store, unseen = text(seed)
    trained, longest = 32, 128
    lengths = (16, 32, 48, 64, 96, 128)
    rows, lines = [], []
    for kind, position in POSITIONS.items():
        model = small("gpt", tokenizer.size, seed, {"position": position}, context=longest)
        learn(model, causal_pretext(store, seed, trained), steps, seed, f"length: {kind}", quiet)
        losses = [held_out(model, causal_pretext(store, seed, context), unseen) for context in lengths]
        rows.append((kind, *(f"{loss:.3f}" for loss in losses)))
        lines.append(Series(kind, tuple(zip(map(float, lengths), losses, strict=True))))
    marks = {float(context): f"{context}{' (trained)' * (context == trained)}" for context in lengths}
    return (
        "Las codificaciones sinusoidales escalan a secuencias de cualquier longitud; un embedding aprendido requiere una "
        "longitud fija: rows of a learned table beyond the trained length were never trained.",
        f"Trained on blocks of {trained} tokens for {steps} steps; the loss of held-out blocks of 16 to {longest}.",
        ("positions", *(f"{context} tokens" for context in lengths)),
        rows,
        {"Held-out loss by length": curves(lines, x="tokens in a sequence", y="nats", marks=marks)},
    )
