"""What the pretexts share that cut a store into rows without carrying a state.

``order`` says how text is cut:

* ``shuffled``: blocks of ``body`` tokens of the stream, the last one shorter, from a new offset each epoch. A block may hold
  several documents, with the boundary between them (RoBERTa's FULL-SENTENCES);
* ``documents``: each document is a row, cut where it is longer than ``body``;
* ``sentences``: each sentence is one.
"""

from __future__ import annotations

from typing import Any

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.pretexts import _rows as rows
from vocablo.pretexts._pretext import StorePretext
from vocablo.pretexts._rows import MarkedStream, Sentences, Spans


class BlockPretext(StorePretext):
    """A pretext but for its batches and its loss; see ``_pretext.StorePretext``.

    ``around`` special tokens of a row are in ``context``. Raises ConfigError where that leaves no room, DataError when there
    is too little text.
    """

    def __init__(
        self, store: MarkedStream, settings: Any, *, around: int, seed: int, batch: int, micro: int | None, context: int
    ) -> None:
        super().__init__(store, settings, seed=seed, batch=batch, micro=micro, context=context)
        self.around, self.body = around, context - around
        if self.body < 1:
            raise ConfigError(f"A context of {context} has no room beside {around} special tokens.")
        size = len(store.tokens)
        fixed = self.cut(store, 0)
        self._fixed = None if settings.order == "shuffled" else fixed
        self.count = len(fixed)
        if not self.count:
            raise DataError("The store has no tokens: give some text.")
        if settings.order == "shuffled" and size < self.body:
            raise DataError(
                f"The text has {size} tokens, fewer than one block of {self.body}: give more text or a smaller context."
            )
        self.tokens = int(fixed.lengths.sum()) + self.count * around

    def drawn(self, epoch: int) -> Spans:
        """The rows of an epoch, without their special tokens."""
        return self._fixed or self.cut(self.store, int(generator(self.seed, "offset", epoch).integers(self.body)))

    def held_out(self, store: MarkedStream) -> Spans:
        """Those of another store."""
        return self.cut(store, 0)

    def cut(self, store: MarkedStream, offset: int) -> Spans:
        """All rows of a store, without their special tokens; ``offset`` moves the cuts of ``shuffled``."""
        if self.settings.order == "shuffled":
            return rows.windows(len(store.tokens), self.body, offset)
        if self.settings.order == "documents":
            return rows.pieces(store.documents[:-1], store.documents[1:] - 1, self.body)
        sentences = Sentences.of(store)
        return rows.pieces(sentences.starts, sentences.stops, self.body)
