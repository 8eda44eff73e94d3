"""The tokenizer: text to ids with offsets and back, on the ``tokenizers`` library, in Hugging Face's files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray
from tokenizers import processors

from vocablo.base.errors import CheckpointError, ConfigError, DataError
from vocablo.base.files import write_text
from vocablo.text import kinds, quality, words
from vocablo.text.kinds import KINDS
from vocablo.text.specials import Specials, read_json
from vocablo.text.surfaces import pipeline, raw_bytes, readable, spelling
from vocablo.text.words import Flags, WordTable

__all__ = ["KINDS", "Encoding", "Tokenizer"]

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
SOURCE = "source_tokenizer.json"  # of sources, where they have another tokenizer than targets


@dataclass(frozen=True, slots=True)
class Encoding:
    """The tokens of one text: ``offsets`` [n, 2] are where each begins and ends, in characters of the text.

    ``words`` [n] numbers the tokenizer's own words, the stretches of text that it splits into tokens one by one: what
    Kauf and Ivanova (2023) call a word. -1: of none (a special token). ``tokens`` are as the tokenizer's file spells them (``Ġgato``, ``##ción``); ``Tokenizer.surface`` is for the eye.
    """

    ids: list[int]
    offsets: NDArray[np.int64]
    words: NDArray[np.int64]
    tokens: list[str]


class Tokenizer:
    """A tokenizer of any kind, ours or any ``tokenizer.json``.

    Nothing is added to a text and nothing is cut off. The text of a special token (``<end>``) within a text is read as
    that token, as everywhere in Hugging Face's libraries.
    """

    def __init__(
        self, inner: tokenizers.Tokenizer, specials: Specials, config: Mapping[str, Any] | None = None
    ) -> None:
        inner.no_truncation()
        inner.no_padding()
        self.inner, self.roles = inner, specials
        self._source: Tokenizer | None = None
        self._config = dict(config or {})
        self.pipeline = pipeline(inner)
        self.spelling = spelling(self.pipeline)
        self.kind = _kind(self.pipeline, self.spelling)

    @classmethod
    def train(
        cls,
        kind: str,
        texts: Iterable[str],
        *,
        vocab: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
        split: str = "punctuation",
        specials: Mapping[str, str | None] | None = None,
        progress: bool = False,
    ) -> Tokenizer:
        """Train a tokenizer of ``kind`` (one of ``KINDS``) on texts, which are read once.

        ``vocab``: the number of tokens, specials included; None: every character or word, or up to 8,000 pieces.
        ``min_count``: how often a character, word or pair must occur. ``split`` (word only): ``punctuation`` sets
        punctuation apart; ``whitespace`` takes a text that is tokenized already as it is. ``specials``: role (end, unk,
        pad, cls, sep, mask) to text, where the kind's own don't suit; None does without one.

        Raises ConfigError for an unknown kind or a vocabulary that the text can't give, DataError for an empty text.
        """
        if isinstance(texts, str):
            raise DataError("texts must be several texts (a list, or an iterator), not one string: write [text].")
        chosen = Specials.of(kind, specials)
        inner = kinds.blank(kind, lowercase=lowercase, split=split, specials=chosen)
        kinds.train(inner, kind, texts, vocab, min_count, chosen, progress)
        return cls(inner, chosen)

    @classmethod
    def of_words(cls, words: Sequence[str], *, specials: Mapping[str, str | None] | None = None) -> Tokenizer:
        """A word tokenizer that splits at white space, with this vocabulary: the special tokens, then ``words`` in order."""
        chosen = Specials.of("word", specials)
        inner = kinds.blank("word", split="whitespace", specials=chosen)
        kinds.give_words(inner, list(words), chosen)
        return cls(inner, chosen)

    @classmethod
    def load(cls, where: str | Path) -> Tokenizer:
        """Load a folder that holds ``tokenizer.json``, or such a file. Raises CheckpointError when it can't be read."""
        path = Path(where)
        folder = path if path.is_dir() else None
        path = path if folder is None else folder / FILE
        if not path.is_file():
            raise CheckpointError(f"There is no {FILE} at {where}.")
        made = cls._read(path)
        if folder is not None and (folder / SOURCE).is_file():
            made._source = cls._read(folder / SOURCE)
        return made

    @classmethod
    def _read(cls, path: Path) -> Tokenizer:
        try:
            inner = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises the bare class
            raise CheckpointError(
                f"{path} isn't a tokenizer that can be read ({error}): copy or download it again."
            ) from None
        added = [token.content for token in inner.get_added_tokens_decoder().values()]
        return cls(inner, Specials.found(path.parent, added, inner.get_vocab()), read_json(path.parent / CONFIG))

    def save(self, folder: str | Path, *, model_max_length: int | None = None, ends: bool = False) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, which transformers' ``AutoTokenizer`` loads.

        ``model_max_length``: the longest sequence of the model that the tokenizer belongs to. ``ends``: a file that says
        nothing of special tokens around a text says that the end stands behind it, as ``Template.of_source`` has it.
        """
        config: dict[str, Any] = {
            key: value for key, value in self._config.items() if key != "auto_map"
        }  # names remote code
        if not config:
            config = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
            if self.roles.cls and self.roles.sep:  # else transformers leaves out which of two texts a token is of
                config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        config = self.roles.to_config() | config
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        write_text(Path(folder) / FILE, self._ended if ends else self._json)
        write_text(Path(folder) / CONFIG, json.dumps(config, ensure_ascii=False, indent=2) + "\n")
        if self._source is not None:
            write_text(Path(folder) / SOURCE, self._source._ended if ends else self._source._json)

    def with_roles(self, roles: Mapping[str, str]) -> Tokenizer:
        """The same tokenizer with a new special token, behind the others, for each role that it lacks: role -> text.

        Raises ConfigError when a text is a token already.
        """
        lacking = {role: text for role, text in roles.items() if role not in self.specials}
        if taken := [text for text in lacking.values() if self.id(text) is not None]:
            raise ConfigError(f"The tokenizer has a token {taken[0]!r} already, which isn't marked as special.")
        inner = tokenizers.Tokenizer.from_str(self._json)
        inner.add_special_tokens(list(lacking.values()))
        config = {key: value for key, value in self._config.items() if key not in {f"{role}_token" for role in lacking}}
        return Tokenizer(inner, replace(self.roles, **lacking), config)

    def with_tokens(self, texts: Sequence[str]) -> Tokenizer:
        """The same tokenizer with new special tokens of no role behind the others, such as T5's sentinels.

        Raises ConfigError when a text is a token already.
        """
        if taken := [text for text in texts if self.id(text) is not None]:
            raise ConfigError(f"The tokenizer has a token {taken[0]!r} already.")
        inner = tokenizers.Tokenizer.from_str(self._json)
        inner.add_special_tokens(list(texts))
        return Tokenizer(inner, self.roles, self._config)

    @property
    def source(self) -> Tokenizer:
        """The tokenizer of sources, of a model that reads one text and writes another: this one, unless ``with_source``."""
        return self if self._source is None else self._source

    def with_source(self, source: Tokenizer) -> Tokenizer:
        """The same tokenizer for targets, with another one for sources; both are saved, and the hash is of both.

        Raises ConfigError for tokenizers that write their special tokens differently.
        """
        if source.roles != self.roles:
            raise ConfigError(
                f"The source's tokenizer has the special tokens {source.specials} and the target's {self.specials}: "
                "train both in one way."
            )
        made = Tokenizer(self.inner, self.roles, self._config)
        made._source = source
        return made

    @cached_property
    def _json(self) -> str:
        return self.inner.to_str(pretty=True)

    @cached_property
    def _ended(self) -> str:
        return self._json if self.pipeline.get("post_processor") else self._with_end(self._end())

    @cached_property
    def _plain(self) -> str:
        """``tokenizer.json`` without an end that ``save`` put there: it is no part of how a text is read here."""
        end = self._end()
        ours = end is not None and json.loads(end.__getstate__()) == self.pipeline.get("post_processor")
        return self._with_end(None) if ours else self._json

    def _end(self) -> processors.TemplateProcessing | None:
        """The end behind one text, and behind two."""
        end, index = self.roles.end, self.end_id
        if end is None or index is None:
            return None
        return processors.TemplateProcessing(["$A", end], ["$A", "$B", end], [(end, index)])

    def _with_end(self, end: processors.TemplateProcessing | None) -> str:
        inner = tokenizers.Tokenizer.from_str(self._json)
        inner.post_processor = end  # type: ignore[assignment]
        return inner.to_str(pretty=True)

    @cached_property
    def hash(self) -> str:
        """Hex digest of ``tokenizer.json``: equal for tokenizers that give equal ids."""
        both = self._plain + ("" if self._source is None else self._source._plain)
        return hashlib.sha256(both.encode()).hexdigest()

    @cached_property
    def size(self) -> int:
        """V: one more than the largest id."""
        return max(self.inner.get_vocab().values(), default=-1) + 1

    @cached_property
    def vocabulary(self) -> list[str]:
        """The token of every id as the tokenizer's file spells it; an id that is not used has an empty one."""
        names = [""] * self.size
        for name, index in self.inner.get_vocab().items():
            names[index] = name
        return names

    def id(self, token: str) -> int | None:
        """The id of a token as the file spells it, or None."""
        return self.inner.token_to_id(token)

    def _special(self, name: str | None) -> int | None:
        return None if name is None else self.inner.token_to_id(name)

    @property
    def specials(self) -> dict[str, str]:
        """Role (end, unk, pad, cls, sep, mask) to the text of its token, for the roles that have one."""
        return {role: text for role, text in asdict(self.roles).items() if text is not None}

    @property
    def end_id(self) -> int | None:
        """The boundary between documents: ``<end>``, or [SEP] for BERT's tokenizers."""
        return self._special(self.roles.end)

    @property
    def unk_id(self) -> int | None:
        """What stands for text that the vocabulary doesn't have; None when there is no such text."""
        return self._special(self.roles.unk)

    @property
    def pad_id(self) -> int | None:
        return self._special(self.roles.pad)

    @property
    def cls_id(self) -> int | None:
        return self._special(self.roles.cls)

    @property
    def sep_id(self) -> int | None:
        return self._special(self.roles.sep)

    @property
    def mask_id(self) -> int | None:
        return self._special(self.roles.mask)

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The ids of all special tokens."""
        added = self.inner.get_added_tokens_decoder()
        named = {self._special(name) for name in self.roles.all} - {None}
        return frozenset({index for index, token in added.items() if token.special} | named)  # type: ignore[arg-type]

    def encode(self, text: str) -> Encoding:
        """The tokens of a text, with their places in it."""
        result = self.inner.encode(text, add_special_tokens=False)
        offsets = np.array(result.offsets, dtype=np.int64).reshape(-1, 2)
        ids = result.ids
        # The library's own list has the text itself in the place of an unknown token of a unigram tokenizer.
        words = np.array([-1 if word is None else word for word in result.word_ids], dtype=np.int64)
        return Encoding(ids, offsets, words, [self.vocabulary[index] for index in ids])

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text, in parallel and without offsets."""
        return [result.ids for result in self.inner.encode_batch_fast(list(texts), add_special_tokens=False)]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of token ids: exact for char, byte, bpe and unigram; word and wordpiece normalise white space."""
        return self.inner.decode([int(index) for index in ids], skip_special_tokens=skip_special)

    def surface(self, id: int) -> str:
        """What a person sees for one token: its text with its leading space; bytes of a part of a character as ``\\xc3``."""
        if not 0 <= id < self.size:
            raise DataError(f"There is no token {id}: the vocabulary has ids 0 to {self.size - 1}.")
        return self.surfaces[id]

    @cached_property
    def surfaces(self) -> list[str]:
        """The surface of every id."""
        return [readable(data) for data in self.token_bytes]

    @cached_property
    def token_bytes(self) -> list[bytes]:
        """The UTF-8 bytes that every id stands for."""
        added = {index: token.content for index, token in self.inner.get_added_tokens_decoder().items()}
        return [
            added[index].encode() if index in added else raw_bytes(name, self.spelling)
            for index, name in enumerate(self.vocabulary)
        ]

    @cached_property
    def exact(self) -> bool:
        """Whether tokens spell a text out, with its case and white space, but for unknown ones."""
        return self.spelling not in ("words", "wordpiece") and self.pipeline["normalizer"] is None

    @cached_property
    def _word_tables(self) -> tuple[WordTable, words.Shapes]:
        special = {self.vocabulary[index] for index in self.special_ids}
        return words.tables(self.vocabulary, self.spelling, special, self.roles.unk)

    @property
    def words(self) -> WordTable:
        """Which tokens open a word, go on with one, or are white space: bool [V] each."""
        return self._word_tables[0]

    def word_starts(self, ids: Sequence[int] | NDArray[Any], begins: Sequence[int] | NDArray[Any] = (0,)) -> Flags:
        """bool [N]: which of the tokens starts a word; see ``vocablo.text.words`` for what a word is.

        ``begins``: the places of tokens that nothing comes before (where several texts lie one behind the other).
        """
        return words.word_starts(ids, self._word_tables[1], begins)

    def report(self, texts: Iterable[str] = ()) -> dict[str, Any]:
        """How well the tokenizer fits texts: the fields of ``vocablo.text.quality.Quality``."""
        return asdict(quality.measure(self, texts))

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {self.size} tokens)"


def _kind(settings: dict[str, Any], spelled: str) -> str:
    """Which of KINDS a tokenizer is, from its own settings."""
    model = settings["model"]["type"]
    if model == "BPE" and not settings["merges"]:
        return "byte" if spelled == "bytes" else "char"
    return {"BPE": "bpe", "WordPiece": "wordpiece", "Unigram": "unigram", "WordLevel": "word"}[model]
