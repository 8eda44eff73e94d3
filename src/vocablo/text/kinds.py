"""The six kinds of tokenizer as pipelines of the ``tokenizers`` library, untrained, and how each is trained.

| kind | a token is | text it gives back |
|---|---|---|
| ``char`` | one Unicode character; line ends are characters too | exact, but for characters it never saw |
| ``byte`` | one byte of UTF-8 | exact |
| ``word`` | a word, a number or a punctuation mark (or what stands between white space) | white space normalised, rare words lost |
| ``bpe`` | byte-level byte-pair encoding (Sennrich et al. 2016; Radford et al. 2019) | exact |
| ``wordpiece`` | WordPiece (Schuster & Nakajima 2012; Devlin et al. 2019), accents and ñ always kept | white space normalised |
| ``unigram`` | the unigram language model (Kudo 2018) | exact, but for characters it never saw, and ``▁`` read as a space |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.text.specials import Specials
from vocablo.text.surfaces import BYTE_LETTERS, METASPACE

KINDS = ("char", "byte", "word", "bpe", "wordpiece", "unigram")
SPLITS = ("punctuation", "whitespace")
DEFAULT_VOCAB = 8000

# Letters, numbers and other marks apart, each with the space before it: GPT-2's rule without its English contractions.
SUBWORDS = r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# A number with its separators (3,14 or 1.000), a word (físico-químico, o'clock), an ellipsis, or any other single mark.
WORDS = r"\p{N}+(?:[.,]\p{N}+)+|[\p{L}\p{M}\p{N}_]+(?:['’-][\p{L}\p{M}\p{N}_]+)*|\.\.\.|[^\s]"
_BLOCK = 1 << 16  # characters fed to a trainer at once: the library works in parallel over such blocks


def blank(kind: str, *, lowercase: bool = False, split: str = "punctuation", specials: Specials) -> Tokenizer:
    """The pipeline of ``kind`` with an empty vocabulary. Raises ConfigError for an unknown kind or split."""
    if kind not in KINDS:
        raise ConfigError(f"There is no tokenizer kind {kind!r}{nearest(kind, KINDS)}")
    if split not in SPLITS:
        raise ConfigError(f"There is no split {split!r}{nearest(split, SPLITS)}")
    if lowercase and kind == "byte":
        raise ConfigError("A byte tokenizer keeps every byte: it can't be lower-cased; choose another kind.")
    unknown = specials.unk
    if kind in ("word", "wordpiece") and unknown is None:
        raise ConfigError(f"A {kind} tokenizer needs a token for unknown words: give the special 'unk'.")
    tokenizer = Tokenizer(_model(kind, unknown))
    if lowercase and kind != "wordpiece":
        tokenizer.normalizer = normalizers.Lowercase()
    if kind == "char":
        tokenizer.decoder = decoders.Fuse()
    elif kind in ("byte", "bpe"):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "bpe")
        tokenizer.decoder = decoders.ByteLevel()
    elif kind == "word":
        tokenizer.pre_tokenizer, tokenizer.decoder = _words(split)
    elif kind == "wordpiece":
        # strip_accents=None would strip them whenever lower-casing is on: "año" must not become "ano".
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=False)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix="##")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(SUBWORDS), "isolated"),
                pre_tokenizers.Metaspace(METASPACE, prepend_scheme="never", split=False),
            ]
        )
        tokenizer.decoder = decoders.Metaspace(METASPACE, prepend_scheme="never", split=False)
    return tokenizer


def _model(kind: str, unknown: str | None) -> models.Model:
    if kind == "word":
        return models.WordLevel(vocab={}, unk_token=unknown)
    if kind == "wordpiece":
        return models.WordPiece(vocab={}, unk_token=unknown)
    return models.Unigram() if kind == "unigram" else models.BPE()


def _words(split: str) -> tuple[pre_tokenizers.PreTokenizer, decoders.Decoder | None]:
    if split == "whitespace":
        return pre_tokenizers.WhitespaceSplit(), None  # without a decoder the library joins with one space
    joined = [decoders.WordPiece(prefix="\0", cleanup=False), decoders.Fuse()]
    joined += [decoders.Replace(f" {mark}", mark) for mark in (".", ",", ";", ":", "!", "?", ")", "»", "”", "...", "…")]
    joined += [decoders.Replace(f"{mark} ", mark) for mark in ("¿", "¡", "(", "«", "“")]
    return pre_tokenizers.Split(Regex(WORDS), "removed", invert=True), decoders.Sequence(joined)


def train(
    tokenizer: Tokenizer,
    kind: str,
    texts: Iterable[str],
    vocab: int | None,
    min_count: int,
    specials: Specials,
    progress: bool = False,
) -> None:
    """Fill ``tokenizer``'s vocabulary from ``texts``.

    ``vocab`` counts every token, specials included; None means all words or characters, or up to ``DEFAULT_VOCAB``
    pieces. Raises DataError when there is no text, ConfigError when the text can't give exactly ``vocab`` tokens.
    """
    if min_count < 1 or (vocab is not None and vocab < 1):
        raise ConfigError(f"vocab and min_count must be positive; got {vocab} and {min_count}.")
    seen: set[str] = set()
    blocks = _blocks(texts, specials.all, seen)
    if kind == "byte":
        _fill_bytes(tokenizer, vocab, specials)
        return
    if kind == "char":
        _fill_characters(tokenizer, blocks, vocab, min_count, specials)
    elif kind == "word":
        _fill_words(tokenizer, blocks, vocab, min_count, specials)
    else:
        trainer = _trainer(kind, DEFAULT_VOCAB if vocab is None else vocab, min_count, specials, progress)
        _fill_pieces(tokenizer, kind, trainer, blocks, vocab, seen)
    if kind == "wordpiece" and specials.cls and specials.sep:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{specials.cls} $A {specials.sep}",
            pair=f"{specials.cls} $A {specials.sep} $B:1 {specials.sep}:1",
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (specials.cls, specials.sep)],
        )


def _fill_bytes(tokenizer: Tokenizer, vocab: int | None, specials: Specials) -> None:
    size = 256 + len(specials.all)
    if vocab not in (None, size):
        raise ConfigError(
            f"A byte tokenizer has {size} tokens (256 bytes and {len(specials.all)} special); got {vocab}."
        )
    tokenizer.model = models.BPE(vocab={letter: byte for byte, letter in enumerate(BYTE_LETTERS)}, merges=[])
    _add_specials(tokenizer, specials)


def _fill_characters(
    tokenizer: Tokenizer, blocks: Iterator[str], vocab: int | None, min_count: int, specials: Specials
) -> None:
    counts: Counter[str] = Counter()
    for block in blocks:
        counts.update(tokenizer.normalizer.normalize_str(block) if tokenizer.normalizer else block)
    common = [character for character, count in counts.items() if count >= min_count]
    common.sort(key=lambda character: (-counts[character], character))
    kept = sorted(_fit("char", common, vocab, specials))
    names = specials.all + [character for character in kept if character not in specials.all]
    tokenizer.model = models.BPE(
        vocab={name: index for index, name in enumerate(names)}, merges=[], unk_token=specials.unk
    )
    _add_specials(tokenizer, specials)


def _fill_words(
    tokenizer: Tokenizer, blocks: Iterator[str], vocab: int | None, min_count: int, specials: Specials
) -> None:
    trainer = trainers.WordLevelTrainer(vocab_size=2**31, min_frequency=min_count, show_progress=False)
    tokenizer.train_from_iterator(blocks, trainer)
    ids = tokenizer.get_vocab(with_added_tokens=False)
    words = [word for word in sorted(ids, key=ids.__getitem__) if word not in specials.all]
    names = specials.all + _fit("word", words, vocab, specials)
    tokenizer.model = models.WordLevel(
        vocab={name: index for index, name in enumerate(names)}, unk_token=specials.unk or ""
    )
    _add_specials(tokenizer, specials)


def _fit(kind: str, names: list[str], vocab: int | None, specials: Specials) -> list[str]:
    """The first ``vocab`` names, specials counted; ConfigError when there are fewer."""
    if vocab is None:
        return names
    room = vocab - len(specials.all)
    if room < 1 or room > len(names):
        raise ConfigError(
            f"The text gives {len(names) + len(specials.all)} tokens to a {kind} tokenizer ({len(specials.all)} of them "
            f"special), and a vocabulary of {vocab} was asked for: choose at most {len(names) + len(specials.all)}, "
            "lower the minimum count, or give more text."
        )
    return names[:room]


def _trainer(kind: str, vocab: int, min_count: int, specials: Specials, progress: bool) -> trainers.Trainer:
    names = [AddedToken(name, special=True, normalized=False) for name in specials.all]
    if kind == "unigram":
        return trainers.UnigramTrainer(
            vocab_size=vocab, special_tokens=names, unk_token=specials.unk, show_progress=progress
        )
    shared = {"vocab_size": vocab, "min_frequency": min_count, "special_tokens": names, "show_progress": progress}
    if kind == "wordpiece":
        return trainers.WordPieceTrainer(**shared)
    return trainers.BpeTrainer(initial_alphabet=list(BYTE_LETTERS), **shared)


def _fill_pieces(
    tokenizer: Tokenizer, kind: str, trainer: trainers.Trainer, blocks: Iterator[str], vocab: int | None, seen: set[str]
) -> None:
    asked = DEFAULT_VOCAB if vocab is None else vocab
    try:
        tokenizer.train_from_iterator(blocks, trainer)
    except (DataError, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the library's panics derive from BaseException
        raise ConfigError(
            f"A {kind} vocabulary of {asked} tokens can't be trained on this text, which has {len(seen)} different "
            f"characters ({error}): choose another vocabulary size, or give more text."
        ) from None
    size = tokenizer.get_vocab_size()
    if size > asked:
        raise ConfigError(
            f"A {kind} tokenizer of this text has at least {size} tokens (its alphabet and the special ones), and a "
            f"vocabulary of {asked} was asked for."
        )
    if vocab is not None and size < vocab:
        raise ConfigError(
            f"The text gives at most {size} tokens to a {kind} tokenizer, and a vocabulary of {vocab} was asked for: "
            f"choose at most {size}, or give more text."
        )


def _add_specials(tokenizer: Tokenizer, specials: Specials) -> None:
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials.all])


def _blocks(texts: Iterable[str], names: list[str], seen: set[str]) -> Iterator[str]:
    """Blocks of whole lines without the special tokens' names, which nothing should be learnt from."""
    special = re.compile("|".join(re.escape(name) for name in names)) if names else None
    for text in texts:
        if special:
            text = special.sub(" ", text)
        for block in _lines(text):
            seen.update(block)
            yield block
    if not any(not character.isspace() for character in seen):
        raise DataError("There is no text to train a tokenizer on: all of it is empty or white space.")


def _lines(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _BLOCK:
        end = text.rfind("\n", start, start + _BLOCK) + 1
        if end <= start:
            end = text.find("\n", start + _BLOCK) + 1
        if end <= start:
            break
        yield text[start:end]
        start = end
    if start < len(text):
        yield text[start:]
