"""Several heads against one of the same width."""

from __future__ import annotations

from vocablo.evaluation.claims._small import Outcome, causal_pretext, held_out, learn, small, text
from vocablo.views.svg import Series, curves

ABOUT = "several heads against one of the same width"
STEPS = 600


def experiment(steps: int, seed: int, quiet: bool) -> Outcome:
    """The same width and the same number of parameters, split into more heads."""
    tokenizer, store, unseen = text(seed)
    rows, lines = [], []
    for count in (1, 2, 4, 8):
        model = small("gpt", tokenizer.size, seed, {"attention": {"heads": count}}, context=32)
        pretext = causal_pretext(store, seed, 32)
        curve = learn(model, pretext, steps, seed, f"heads: {count}", quiet)
        size = sum(parameter.numel() for parameter in model.parameters())
        rows.append((str(count), f"{size:,}", f"{held_out(model, pretext, unseen):.3f}"))
        lines.append(Series(f"{count} head{'s' * (count > 1)}", curve.points))
    return (
        "Varias cabezas miran distintas partes a la vez: several heads against one, at equal width and parameters.",
        f"Decoders of 2 layers, 64 wide, {steps} steps with the same text.",
        ("heads", "parameters", "held-out loss"),
        rows,
        {"Loss": curves(lines, x="step", y="nats")},
    )
