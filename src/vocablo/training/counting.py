"""Counted families: fitted in one pass over the text, without steps; and what any model makes of held-out documents."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocablo import checkpoint
from vocablo.base import files
from vocablo.base.errors import ConfigError
from vocablo.base.progress import Progress
from vocablo.data.store import Store
from vocablo.inference.reading import carried
from vocablo.pretexts import causal
from vocablo.training.material import Material
from vocablo.training.recipe import Recipe
from vocablo.training.run import RunFolder

WHOLE = 1 << 40  # a context that cuts no document


def count(
    recipe: Recipe, origin: dict[str, str], model: Any, material: Material, out: Path, *, quiet: bool
) -> float | None:
    """Fit a model into the run folder ``out``; returns its held-out loss in nats a token, when something is held out."""
    if material.held_out is not None and model.reads != "left":
        raise ConfigError(f"{recipe.family} has no loss on held-out text: leave it out (data.validation=0).")
    folder = RunFolder.create(out, recipe.model_dump(exclude_none=True), origin)
    try:
        begun = time.perf_counter()
        with Progress("count", len(material.train.tokens), "tokens", quiet=quiet) as progress:
            model.fit(material.train, progress)
        seconds = round(time.perf_counter() - begun, 6)
        loss = None if material.held_out is None else counted_loss(model, material.held_out)
        with files.replacing(folder.folder / "model") as temporary:
            temporary.mkdir()
            checkpoint.write(temporary, model, material.tokenizer)
        folder.finish(folder.folder / "model")
        files._remove(folder.folder / "model")
        folder.write_state(status="finished", steps=0, tokens=len(material.train.tokens), seconds=seconds)
    finally:
        folder.close()
    return loss


@torch.no_grad()
def held_out_loss(model: Any, store: Store) -> float:
    """Mean nats a token over every document of a store, each read whole from its boundary."""
    pretext = causal.Pretext(store, causal.Config(order="documents"), seed=0, batch=64, micro=64, context=WHOLE)
    total, count = 0.0, 0
    for batch in pretext.validation(store):
        term = pretext.terms(model, batch, None)[0]["causal"]
        total, count = total + float(term.total), count + term.count
    return total / count


def counted_loss(model: Any, store: Store) -> float:
    """The same for a counted family; a cache, when there is one, goes on from document to document."""
    if not model.carries:
        return held_out_loss(model, store)
    stream = np.concatenate([[store.end_id], np.asarray(store.tokens, dtype=np.int64)])
    return -float(carried(model, stream, None)[0].mean())
