"""Vocablo: the language-model workbench of one lecture, from n-grams to the Transformer.

The Python face is small: ``load``, ``pretrain``, ``finetune``, ``evaluate``, ``interpolate``, ``train_tokenizer``. They
are looked up on first use, so that ``import vocablo`` loads neither torch nor any model.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["evaluate", "evaluate_model", "finetune", "interpolate", "load", "pretrain", "probe", "train_tokenizer"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from vocablo import api

        return getattr(api, name)
    raise AttributeError(f"module 'vocablo' has no attribute {name!r}")
