"""What it took to train a model, as the run beside it tells: tokens read, seconds, floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vocablo.base import registry
from vocablo.training.recipe import MODELS
from vocablo.training.run import RunFolder, holds_run, read_metrics


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """``tokens`` are those read in all steps; a ``counted`` family reads its text once and has no steps.

    ``seconds`` are those of the steps alone, without evaluations. ``flops`` are the model's ``flops_per_token`` at the run's
    context times the tokens; None of counted families, which look tables up. ``further``: the model from which the run went
    on, whose own training isn't in these figures.
    """

    tokens: int
    steps: int
    seconds: float | None
    flops: float | None
    counted: bool
    further: str | None = None


def cost_of(folder: str | Path, model: Any) -> TrainingCost | None:
    """From the run in ``folder``/run; None where there is none, as of published models, or where it doesn't tell."""
    place = Path(folder)
    if not holds_run(place):
        return None
    run = RunFolder(place, writes=False)
    recipe, state = run.recipe(), run.read_state()
    if registry.constant(MODELS, type(model).__module__.rpartition(".")[2], "COUNTED"):
        tokens = state.get("tokens")
        return None if tokens is None else TrainingCost(tokens, 0, state.get("seconds"), None, True)
    if "family" not in recipe or not run.metrics.exists():  # a fine-tuned model's run is of another kind
        return None
    lines = [line for line in read_metrics(run.metrics) if "tokens" in line]
    tokens = sum(line["tokens"] for line in lines)
    each = model.flops_per_token(recipe["context"])
    return TrainingCost(
        tokens, len(lines), sum(line["seconds"] for line in lines), float(each) * tokens, False, recipe.get("init_from")
    )
