"""Two loaded models as one, with a weight that is given or the best one for a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import Progress, tell
from vocablo.data.readers import read_documents
from vocablo.inference.left_model import LanguageModel
from vocablo.inference.mixture import Mixture, best_weight
from vocablo.inference.score import log_probs_of

HALF = 0.5


def interpolate(
    first: Any,
    second: Any,
    weight: float | None = None,
    *,
    text: str | Path | Sequence[str | Path] | None = None,
    documents: str = "file",
    column: str | None = None,
    encoding: str = "utf-8",
    stride: int | None = None,
    carry: bool = False,
    quiet: bool = True,
) -> LanguageModel:
    """p = weight p_first + (1 - weight) p_second, of two loaded models that read from left to right and share a tokenizer.

    With ``text`` the weight is the one under which these files are most probable (held-out text, not the text that is then
    measured); the other options say how they are read, as in ``perplexity``. Without either, it is a half.
    Raises ConfigError for models that can't be mixed and DataError for a text without tokens.
    """
    for one in (first, second):
        if not isinstance(one, LanguageModel):
            raise ConfigError("Only models that read from left to right are mixed: n-grams, recurrent networks, GPTs.")
    if first.tokenizer.hash != second.tokenizer.hash:
        raise ConfigError(
            "Only models with the same tokenizer are mixed, and these have two: train the second one with "
            "--tokenizer FOLDER, the folder of the first."
        )
    if weight is not None and text is not None:
        raise ConfigError("Give the weight, or a text to choose it on; not both.")
    mixture = Mixture(first.model, second.model, HALF if weight is None else weight)
    if text is not None:
        if carry and not mixture.carries:
            raise ConfigError("carry needs two models that carry a state or have no limit to what they read.")
        listed = [text] if isinstance(text, (str, Path)) else list(text)
        notes = None if quiet else tell
        read = [
            one.text
            for one in read_documents(listed, documents=documents, column=column, encoding=encoding, notes=notes)
        ]
        with Progress("choosing the weight", None, "tokens", quiet=quiet) as progress:
            told = [_log_probs(one, read, stride, carry, progress) for one in (first, second)]
        if not len(told[0]):
            raise DataError("The text to choose the weight on has no tokens.")
        mixture = Mixture(first.model, second.model, best_weight(*told))
    return LanguageModel(mixture, first.tokenizer)


def _log_probs(
    asked: LanguageModel, texts: Iterable[str], stride: int | None, carry: bool, progress: Progress
) -> NDArray[np.float64]:
    """Of every token of the texts, by one of the models; one that carries nothing reads them one by one."""
    carry = carry and asked.model.carries
    stride = None if asked.model.context is None else stride
    parts = [np.zeros(0)]
    for _, ids, log_probs in log_probs_of(asked.model, asked.tokenizer, texts, stride=stride, carry=carry):
        parts.append(log_probs)
        progress.advance(len(ids))
    return np.concatenate(parts)
