"""Which words and sentences a document's vector, or a text's, was made of: the weights of attention as pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocablo.tasks._reading import Located
from vocablo.views.document import Passage, document_html

Spans = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DocumentAttention:
    """What a text was told from. ``prediction`` is the task's own (a label with its probability, or a number)."""

    text: str
    prediction: Any
    passages: tuple[Passage, ...]

    def _repr_html_(self) -> str:
        return document_html(self.passages, said(self.prediction))


def said(prediction: Any) -> str:
    """A prediction in a few words."""
    if hasattr(prediction, "value"):
        return f"{prediction.value:.4f}"
    label = prediction.label if isinstance(prediction.label, str) else ", ".join(prediction.label) or "(none)"
    return label if prediction.prob is None else f"{label} {prediction.prob:.3f}"


def passage(text: str, spans: Spans, known: Sequence[bool], weights: Sequence[float], weight: float | None) -> Passage:
    """The words of one sequence. ``spans`` [n, 2] are characters of ``text``; what stands for none, (-1, -1), is left out."""
    places = [place for place in range(len(spans)) if spans[place, 0] >= 0]
    pieces = [text[slice(*spans[place])] for place in places]
    before = [0, *(int(spans[place, 1]) for place in places)]
    return Passage(
        weight,
        tuple(piece.strip() or piece for piece in pieces),
        tuple(float(weights[place]) for place in places),
        tuple(
            bool(spans[place, 0] > end or piece[:1].isspace())
            for place, piece, end in zip(places, pieces, before, strict=False)
        ),
        tuple(known[place] for place in places),
    )


def attended(
    text: str, prediction: Any, located: Sequence[Located], weights: Sequence[NDArray[Any]]
) -> DocumentAttention:
    """From a reader's ``located`` sequences and the weights [N] of their tokens, and where there are any [B] of sequences."""
    cuts = np.cumsum([len(ids) for ids, _, _ in located])[:-1]
    sentences = weights[1].tolist() if len(weights) > 1 else [None] * len(located)
    made = [
        passage(text, spans, known, own.tolist(), weight)
        for (_, spans, known), own, weight in zip(located, np.split(weights[0], cuts), sentences, strict=True)
    ]
    return DocumentAttention(text, prediction, tuple(made))
