"""Tokens that name a language, as models of many languages have them: es_XX (mBART), spa_Latn (NLLB), __es__ (M2M100)."""

from __future__ import annotations

from vocablo.base.errors import ConfigError
from vocablo.text.tokenizer import Tokenizer


def language_id(tokenizer: Tokenizer, language: str) -> int:
    """The id of a language by its token or its code (es). Raises ConfigError naming those that there are."""
    names = [name for name in tokenizer.vocabulary if is_language(name)]
    found = [name for name in names if language in (name, name.strip("_"), name.partition("_")[0])]
    if len(found) != 1:
        known = ", ".join(sorted(names)[:20]) or "none"
        raise ConfigError(f"The tokenizer has no token of one language for {language!r}; it knows {known}.")
    return tokenizer.vocabulary.index(found[0])


def is_language(token: str) -> bool:
    code, _, region = token.partition("_")
    plain = code.isalpha() and code.islower() and 2 <= len(code) <= 3 and region.isalpha() and len(region) in (2, 4)
    return (plain and region[0].isupper()) or (token.startswith("__") and token.endswith("__") and len(token) > 4)
