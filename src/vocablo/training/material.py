"""Text made ready for training: the tokenizer, the token stores, and what is held out, in ``OUT/run``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.progress import Progress, tell
from vocablo.data.duplicates import repeated
from vocablo.data.readers import read_documents
from vocablo.data.store import Store
from vocablo.text.specials import MASK, SENTINEL
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.recipe import DataSettings, Recipe, TokenizerSettings

FEW_DOCUMENTS = 20  # with fewer, the held-out part is a span of tokens and not of documents
MANY_REPEATS = 0.1  # share of the text from which on its repeated sentences are remarked on


@dataclass(frozen=True, slots=True)
class Material:
    """Text made ready: a tokenizer, the training store and the held-out one (None when nothing is held out)."""

    tokenizer: Tokenizer
    train: Store
    held_out: Store | None


def prepare(recipe: Recipe, folder: Path, tokenizer: Tokenizer | None, *, keep: bool, quiet: bool) -> Material:
    """The tokenizer (the one given, the recipe's, or one trained on the text) and the stores, in ``folder``.

    ``keep`` writes the tokenizer there, where a resumed run finds it again.
    """
    data = recipe.data
    if tokenizer is None and recipe.tokenizer.path is not None:
        tokenizer = Tokenizer.load(Path(recipe.tokenizer.path))
    if tokenizer is None:
        tokenizer = make_tokenizer(recipe.tokenizer, _texts(data, data.text, quiet))
    if keep:
        tokenizer.save(folder / "tokenizer")
    if tokenizer.end_id is None:
        raise ConfigError("The tokenizer has no end-of-text token, and a language model needs one between documents.")
    stores = folder / "store"
    whole = _store(data, data.text, tokenizer, stores / "train", quiet)
    if data.validation_text:
        return Material(tokenizer, whole, _store(data, data.validation_text, tokenizer, stores / "validation", quiet))
    return Material(tokenizer, *hold_out(whole, data.validation))


def make_tokenizer(settings: TokenizerSettings, texts: Iterable[str]) -> Tokenizer:
    """Train a tokenizer as the settings say; ``vocab`` counts its mask and its sentinels."""
    roles = {"mask": MASK} if settings.mask and settings.kind != "wordpiece" else {}
    sentinels = [SENTINEL.format(number) for number in range(settings.sentinels)]
    more = len(roles) + len(sentinels)
    if settings.vocab is not None and settings.vocab <= more:
        raise ConfigError(
            f"tokenizer.vocab is {settings.vocab}, and the mask and the sentinels alone are {more}: set it larger, or fewer "
            "tokenizer.sentinels."
        )
    tokenizer = Tokenizer.train(
        settings.kind,
        texts,
        vocab=None if settings.vocab is None else settings.vocab - more,
        min_count=settings.min_count,
        lowercase=settings.lowercase,
        split=settings.split,
    )
    tokenizer = tokenizer.with_roles(roles) if roles else tokenizer
    return tokenizer.with_tokens(sentinels) if sentinels else tokenizer


def hold_out(store: Store, share: float) -> tuple[Store, Store | None]:
    """Split off the last ``share`` of the documents, or of the tokens when there are few documents."""
    if share == 0:
        return store, None
    documents = len(store.documents) - 1
    if documents >= FEW_DOCUMENTS:
        cut = documents - max(1, round(documents * share))
        return store.part(0, cut), store.part(cut, documents)
    tokens = len(store.tokens)
    cut = tokens - max(2, round(tokens * share))
    if cut < 2:
        raise DataError(f"The text has only {tokens} tokens: nothing can be held out. Give more, or data.validation=0.")
    return store.span(0, cut), store.span(cut, tokens)


def remark_on_repeats(material: Material) -> None:
    """Say so when much of the training text is sentences that it has had before."""
    found = repeated(material.train)
    if found.share >= MANY_REPEATS:
        text = " ".join(material.tokenizer.decode(found.most).split())
        shown = text if len(text) < 60 else text[:57] + "..."
        tell(
            f"{found.share:.0%} of the training text are sentences that it has had before (most often, {found.times:,} "
            f"times: {shown!r}): take repeated lines out, or the model learns them by heart and little else."
        )


def _texts(data: DataSettings, sources: tuple[str, ...], quiet: bool) -> Iterator[str]:
    documents = read_documents(sources, documents=data.documents, column=data.column, encoding=data.encoding)
    with Progress("read for the tokenizer", None, "characters", quiet=quiet) as progress:
        for document in documents:
            progress.advance(len(document.text))
            yield document.text


def _store(data: DataSettings, sources: tuple[str, ...], tokenizer: Tokenizer, folder: Path, quiet: bool) -> Store:
    store = Store.build(
        sources,
        tokenizer,
        folder,
        documents=data.documents,
        column=data.column,
        encoding=data.encoding,
        quiet=quiet,
    )
    for note in [] if quiet else store.notes:
        tell(note)
    return store
