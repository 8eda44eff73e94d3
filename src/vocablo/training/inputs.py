"""Word vectors as a model's input: the rows of its token table that a file of vectors knows start as that file has them.

``embed.vectors`` (of ``model`` in pre-training, of ``architecture`` in fine-tuning) names the file or folder; ``embed.width`` is
the vectors' then, and ``embed.frozen`` keeps the table as it is. It is how fresh weights begin, not a part of the model.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vocablo import checkpoint
from vocablo.base.config import merge
from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import tell
from vocablo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The vectors [V, D] that were asked for, and each word's row."""

    path: str
    rows: Mapping[str, int]
    vectors: Tensor

    def into(self, model: Any, tokenizer: Tokenizer, *, quiet: bool = False) -> int:
        """Give the table of a fresh model the vectors of the tokens that are words of the file; returns how many.

        A token is looked up as it is spelled, then in lower case; pieces inside words are none. Raises DataError when
        there is none at all.
        """
        specials, inside = tokenizer.special_ids, tokenizer.words.joins
        places, found = [], []
        for place, surface in enumerate(tokenizer.surfaces):
            word = surface.strip()
            row = self.rows.get(word, self.rows.get(word.lower()))
            if row is not None and place not in specials and not inside[place]:
                places.append(place)
                found.append(row)
        total = tokenizer.size - len(specials)
        if not places:
            raise DataError(
                f"None of the {total:,} tokens has a vector in {self.path}: are these words of one language?"
            )
        with torch.no_grad():
            model.tokens.weight[torch.tensor(places)] = self.vectors[torch.tensor(found)].to(model.tokens.weight.dtype)
        if not quiet:
            share = len(places) / total
            tell(
                f"{len(places):,} of {total:,} tokens ({share:.0%}) begin with their vectors in {self.path}, the others at random"
            )
        return len(places)


def take(module: ModuleType, changes: Mapping[str, Any]) -> tuple[dict[str, Any], Inputs | None]:
    """A configuration's changes without ``embed.vectors`` but with their width, and the vectors that were asked for.

    Raises ConfigError for a family that has no such table, or a width that isn't the vectors', CheckpointError for a file
    that can't be read.
    """
    embed = changes.get("embed")
    if not isinstance(embed, Mapping) or embed.get("vectors") is None:
        return dict(changes), None
    path = embed["vectors"]
    table = getattr(module, "Embed", None)
    if table is None or "frozen" not in table.model_fields:
        raise ConfigError(
            "embed.vectors are for families with a table of words (rnn, gru, lstm, bilstm and its like, han): this one has none."
        )
    found = _load(str(path))
    width = found.vectors.shape[1]
    rest = {key: value for key, value in embed.items() if key != "vectors"}
    if rest.setdefault("width", width) != width:
        raise ConfigError(
            f"embed.width is {rest['width']}, and the vectors in {path} have {width} numbers: leave it out."
        )
    return merge([("", {key: value for key, value in changes.items() if key != "embed"}), ("", {"embed": rest})])[
        0
    ], found


@functools.lru_cache(maxsize=1)
def _load(path: str) -> Inputs:
    place = Path(path)
    if not place.exists():
        raise ConfigError(f"embed.vectors: there is no file or folder {path}.")
    loaded = checkpoint.load(path)
    if loaded.model.reads != "words" or loaded.tokenizer is None:
        raise ConfigError(f"embed.vectors: {path} has no vectors of words.")
    specials = loaded.tokenizer.special_ids
    rows = {word: row for row, word in enumerate(loaded.tokenizer.vocabulary) if row not in specials}
    return Inputs(path, rows, loaded.model.vectors.detach().float())
