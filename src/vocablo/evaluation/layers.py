"""What a frozen model makes of labelled words or texts, at every layer, computed once and kept on disk.

0 are the embeddings, as the first layer reads them; the last is what the model gives. A row is the state of a word's first
token (of a model that reads from the left its last token, the first that has seen the whole word), the mean of a text's own
tokens, or of those of one word in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vocablo.base.errors import DataError
from vocablo.base.progress import Progress
from vocablo.data.examples import TaggedExample, TextExample
from vocablo.data.order import by_length
from vocablo.tasks._reading import Reader
from vocablo.tasks._rows import Encoded
from vocablo.tasks._task import asking
from vocablo.tasks._texts import encode
from vocablo.tasks._words import windows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Sequences to read, and of each the tokens that make rows: ``at[i]`` are places in it, ``row[i]`` their rows.

    ``count`` is how many rows there are; one that has several tokens is their mean.
    """

    encoded: Encoded
    at: tuple[Ints, ...]
    row: tuple[Ints, ...]
    count: int


def of_words(reader: Reader, examples: Sequence[TaggedExample], where: str) -> Wanted:
    """A row for each word, sentence after sentence."""
    reader.check(pair=False)
    made = windows(reader, examples, 0, last=reader.reads == "left", where=where)
    starts = np.cumsum([0, *(len(example.words) for example in examples)])
    rows = tuple(starts[one.sentence] + np.array(one.words, dtype=np.int64) for one in made)
    encoded = Encoded.of([one.framed for one in made], cut=[False] * len(made))
    return Wanted(encoded, tuple(np.array(one.at, dtype=np.int64) for one in made), rows, int(starts[-1]))


def of_texts(reader: Reader, examples: Sequence[TextExample], where: str) -> Wanted:
    """A row for each text, or pair of texts: the mean of its own tokens, without the special ones."""
    encoded = encode(reader, examples, where)
    special = set(reader.tokenizer.special_ids) - {reader.tokenizer.unk_id}
    own = ~np.isin(encoded.ids, list(special))
    places = [np.flatnonzero(one) for one in np.split(own, encoded.starts[1:-1])]
    return _one_each(encoded, places, examples, where)


def of_word_in_text(reader: Reader, examples: Sequence[TextExample], where: str) -> Wanted:
    """A row for each text: the mean of the tokens of the word that ``pair`` names, where it stands first in the text."""
    reader.check(pair=False)
    framed, places, cut = [], [], []
    before, behind = map(len, reader.template.alone.specials)
    for example in examples:
        found = re.search(rf"(?<!\w){re.escape(example.pair or '')}(?!\w)", example.text, re.IGNORECASE)
        if not example.pair or found is None:
            raise DataError(f"{where}: example {example.id}: its text doesn't have the word {example.pair!r}.")
        encoding = reader.tokenizer.encode(example.text)
        made, short = reader.single(encoding.ids, f"{where}: example {example.id}")
        inside = (encoding.offsets[:, 1] > found.start()) & (encoding.offsets[:, 0] < found.end())
        at = np.flatnonzero(inside) + before
        framed.append(made)
        cut.append(short)
        places.append(at[at < len(made[0]) - behind])
    return _one_each(Encoded.of(framed, cut=cut), places, examples, where)


def _one_each(encoded: Encoded, places: list[Ints], examples: Sequence[TextExample], where: str) -> Wanted:
    if lost := [number for number, at in enumerate(places) if not len(at)]:
        raise DataError(f"{where}: example {examples[lost[0]].id}: nothing of it is left to look at: leave it out.")
    rows = tuple(np.full(len(at), number, dtype=np.int64) for number, at in enumerate(places))
    return Wanted(encoded, tuple(places), rows, len(places))


def depth_of(model: Any) -> int:
    """How many layers a model has besides its embeddings."""
    if (depth := getattr(model, "depth", None)) is not None:
        return depth
    return len(model.stack.layers) if hasattr(model, "stack") else 1


def read(model: Any, wanted: Wanted, folder: Path, label: str, quiet: bool) -> list[Floats]:
    """The rows [M, D] at every layer, from the embeddings to the last, in files of ``folder``."""
    depth = depth_of(model)
    kept: list[Floats] = []
    device = next(model.parameters()).device
    sizes = wanted.encoded.sizes.tolist()
    with asking(model), Progress(label, len(sizes), "sequences", quiet=quiet) as progress:
        for which in by_length(sizes):
            tokens = wanted.encoded.tokens(np.array(which)).to(device)
            hidden = model(tokens, keep=tuple(range(depth)))
            starts = tokens.fences.starts()
            at = torch.from_numpy(np.concatenate([wanted.at[i] + starts[place] for place, i in enumerate(which)]))
            rows = np.concatenate([wanted.row[i] for i in which])
            own, of = np.unique(rows, return_inverse=True)
            for layer, states in enumerate((*hidden.layers, hidden.states)):
                if layer == len(kept):
                    path = folder / f"{label}-{layer}.npy"
                    kept.append(np.lib.format.open_memmap(path, "w+", np.float32, (wanted.count, states.shape[1])))
                kept[layer][own] = _means(states.index_select(0, at.to(device)), of, len(own))
            progress.advance(len(which))
    return kept


def _means(states: torch.Tensor, of: Ints, count: int) -> Floats:
    index = torch.from_numpy(of).to(states.device)
    sums = states.new_zeros(count, states.shape[1], dtype=torch.float32).index_add(0, index, states.float())
    return (sums / torch.bincount(index, minlength=count)[:, None]).cpu().numpy()
