"""What a fine-tuning starts from: a pre-trained model's folder, or fresh weights of FAMILY:SIZE."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vocablo.base import registry
from vocablo.base.config import merge
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.data.labels import check_same
from vocablo.data.parallel import two_files
from vocablo.inference.finetuned import labels_in
from vocablo.inference.sentence_folder import opened
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.finetune_recipe import Recipe, fresh, usual_of
from vocablo.training.inputs import Inputs, take
from vocablo.training.material import make_tokenizer
from vocablo.training.recipe import MODELS, SIZES, TokenizerSettings, families

CONTEXT = 512  # of fresh weights, where read.context doesn't say
# The tokenizer of fresh weights, by how they read. Words of documents that come once have no vector of their own, so that the
# vector of unknown words is learnt too.
USUAL = {
    "both": TokenizerSettings(kind="wordpiece"),
    "left": TokenizerSettings(kind="bpe"),
    "document": TokenizerSettings(kind="word", min_count=2, lowercase=True),
    "source_target": TokenizerSettings(kind="bpe"),
}
PLACEHOLDER = 1000  # a vocabulary to check settings with, before the true one is known
WORDS = 30_000  # of a vocabulary of words, where its size isn't asked for


@dataclass(frozen=True)
class Start:
    """A loaded model, or how to make a fresh one; its tokenizer; and the task's heads where the folder has them.

    ``found`` are the names of all heads that the folder has, ``labels`` are in the order of the task's.
    """

    tokenizer: Tokenizer
    model: Any = None
    config: Any = None
    module: Any = None
    heads: Mapping[str, nn.Module] = field(default_factory=dict)
    found: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    inputs: Inputs | None = None  # word vectors that a fresh model's token table begins with

    @classmethod
    def of(cls, recipe: Recipe, task: Any, labels: Sequence[str], fresh_head: bool, texts: Iterable[str]) -> Start:
        """Where a recipe starts. ``texts`` are what a tokenizer is trained on when fresh weights need one.

        Raises ConfigError or CheckpointError for a model that isn't there or has no tokenizer, and DataError when its
        head for this task is made for other labels.
        """
        named = None if Path(recipe.model).exists() else fresh(recipe.model)
        if named is not None:
            return replace(cls._fresh(recipe, *named, texts), labels=tuple(labels))
        if own := [
            key
            for key in ("architecture", "tokenizer")
            if getattr(recipe, key) != Recipe.model_fields[key].get_default(call_default_factory=True)
        ]:
            raise ConfigError(f"{' and '.join(own)} can't be chosen: they are those of the model in {recipe.model}.")
        loaded, _ = opened(recipe.model)
        assert loaded.tokenizer is not None
        heads: Mapping[str, nn.Module] = {}
        if task.HEAD in loaded.heads and not fresh_head:
            if labels:
                known = labels_in(loaded)
                try:
                    check_same(labels, known, recipe.data.train)
                except DataError as error:
                    raise DataError(f"{error} (--fresh-head starts a new head on this model.)") from None
                labels = known
            heads = loaded.heads
        return cls(loaded.tokenizer, loaded.model, heads=heads, found=tuple(loaded.heads), labels=tuple(labels))

    @classmethod
    def _fresh(cls, recipe: Recipe, family: str, size: str, texts: Iterable[str]) -> Start:
        if family not in families():
            raise ConfigError(f"There is no family {family!r}{nearest(family, families())}")
        if size not in SIZES:
            raise ConfigError(f"There is no size {size!r}{nearest(size, SIZES)}")
        file = families()[family]
        if registry.constant(MODELS, file, "COUNTED"):
            raise ConfigError(
                f"{family} is counted and has no states to learn from: take a recurrent model (rnn, gru, lstm), a gpt or a bert."
            )
        module = registry.load(MODELS, file)
        architecture, inputs = take(module, recipe.architecture)
        kind = "word" if inputs is not None else usual_of(recipe.model).get("tokenizer")
        with torch.device("meta"):
            reads = module.build(module.config_for(family, size, PLACEHOLDER, CONTEXT, architecture)).reads
        usual = USUAL[reads] if kind is None else TokenizerSettings(kind=kind)
        sides = None if recipe.tokenizer.path is None else two_files(recipe.tokenizer.path)
        if sides is not None and reads == "source_target":
            source, target = (Tokenizer.load(Path(side)) for side in sides)
            tokenizer = target.with_source(source)
        elif recipe.tokenizer.path is not None:
            tokenizer = Tokenizer.load(Path(recipe.tokenizer.path))
        elif isinstance(texts, tuple):
            source, target = (_tokenizer(recipe.tokenizer, side, usual) for side in texts)
            tokenizer = target.with_source(source)
        else:
            tokenizer = _tokenizer(recipe.tokenizer, texts, usual)
        context = recipe.read.context or CONTEXT
        if "unknown" in getattr(getattr(module, "Embed", None), "model_fields", {}) and tokenizer.unk_id is not None:
            architecture = merge([("", {"embed": {"unknown": tokenizer.unk_id}}), ("", architecture)])[0]
        config = module.config_for(family, size, tokenizer.source.size, context, architecture)
        if reads == "source_target" and tokenizer.end_id is not None:
            own = None if tokenizer.source is tokenizer else tokenizer.size
            config = config.paired((tokenizer.end_id,), own)  # a target begins with what ends it, as a document does
        return cls(tokenizer, None, config, module, inputs=inputs)

    def make(self) -> tuple[Any, Tokenizer]:
        """A model of its own, fresh weights from torch's current random state, and the tokenizer."""
        if self.model is not None:
            return copy.deepcopy(self.model), self.tokenizer
        model = self.module.build(self.config)
        if self.inputs is not None:
            self.inputs.into(model, self.tokenizer)
        if hasattr(model, "spell"):
            model.spell(self.tokenizer)
        return model, self.tokenizer


def _tokenizer(asked: TokenizerSettings, texts: Iterable[str], usual: TokenizerSettings) -> Tokenizer:
    """One trained on the texts as it is asked for, of the usual kind and size where that is left open, which is told."""
    settings = (
        asked if "kind" in asked.model_fields_set else usual.model_copy(update=asked.model_dump(exclude_unset=True))
    )
    texts = list(texts)
    tokenizer = make_tokenizer(settings, texts)
    found = tokenizer.size
    limited = settings.vocab is not None or "min_count" in asked.model_fields_set
    if settings.kind == "word" and not limited and found > WORDS:
        tokenizer = make_tokenizer(settings.model_copy(update={"vocab": WORDS}), texts)
    of = "" if tokenizer.size == found else f" of {found:,}; the others are unknown (tokenizer.vocab keeps more)"
    pieces = "words and marks" if settings.kind == "word" else f"{settings.kind} tokens"
    tell(f"tokenizer: {tokenizer.size:,} {pieces} of the training texts{of}")
    return tokenizer
