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

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from vocablo.base.errors import ConfigError, DataError, VocabloError, nearest
from vocablo.text.specials import Specials
from vocablo.text.surfaces import BYTE_LETTERS, METASPACE

KINDS = ("char", "byte", "word", "bpe", "wordpiece", "unigram")
SPLITS = ("punctuation", "whitespace")
DEFAULT_VOCAB = 8000
# WordPiece, whose words get long lists of pieces where it is small: tokens from so many characters of text on.
WORDPIECE_VOCABS = ((20_000_000, 16_000), (200_000_000, 30_000))

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
    pieces (WordPiece: by the size of the text, ``WORDPIECE_VOCABS``). Raises DataError when there is no text, ConfigError when the text can't give exactly ``vocab`` tokens.
    """
    if kind in ("byte", "unigram") and min_count != 1:
        raise ConfigError(f"A {kind} tokenizer has no minimum count; got {min_count}.")
    if min_count < 1 or (vocab is not None and vocab < 1):
        raise ConfigError(f"vocab and min_count must be positive; got {vocab} and {min_count}.")
    blocks = _blocks(texts, specials.all)
    if kind == "byte":
        _fill_bytes(tokenizer, vocab, specials)
        return
    if kind == "char":
        _fill_characters(tokenizer, blocks, vocab, min_count, specials)
    elif kind == "word":
        _fill_words(tokenizer, blocks, vocab, min_count, specials)
    else:
        settings = _Pieces(kind, vocab, min_count, specials, progress)
        fill = _fill_wordpiece if kind == "wordpiece" else _fill_pieces
        fill(tokenizer, blocks, settings)
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
    give_words(tokenizer, _fit("word", words, vocab, specials), specials)


def give_words(tokenizer: Tokenizer, words: list[str], specials: Specials) -> None:
    """Make the vocabulary of a word tokenizer the special tokens and these words, in this order."""
    names = specials.all + words
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


@dataclass(frozen=True, slots=True)
class _Pieces:
    """What is asked of a vocabulary of pieces of words."""

    kind: str
    vocab: int | None
    min_count: int
    specials: Specials
    progress: bool
    most: int = DEFAULT_VOCAB  # where no vocabulary is asked for

    def trainer(self, first: list[str], vocab: int | None = None) -> trainers.Trainer:
        """The library's trainer, with ``first`` as the first tokens."""
        size = vocab or self.vocab or self.most
        names = [AddedToken(name, special=True, normalized=False) for name in first]
        if self.kind == "unigram":
            return trainers.UnigramTrainer(
                vocab_size=size, special_tokens=names, unk_token=self.specials.unk, show_progress=self.progress
            )
        if self.kind == "wordpiece":
            return trainers.WordPieceTrainer(
                vocab_size=size, min_frequency=self.min_count, special_tokens=names, show_progress=self.progress
            )
        return trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=self.min_count,
            special_tokens=names,
            show_progress=self.progress,
            initial_alphabet=list(BYTE_LETTERS),
        )

    def check(self, size: int) -> None:
        """Raise ConfigError when ``size`` isn't the number of tokens that was asked for."""
        asked = self.vocab or self.most
        if size > asked:
            raise ConfigError(
                f"A {self.kind} tokenizer of this text has at least {size} tokens (its alphabet and the special ones), "
                f"and a vocabulary of {asked} was asked for."
            )
        if self.vocab is not None and size < self.vocab:
            raise ConfigError(
                f"The text gives at most {size} tokens to a {self.kind} tokenizer, and a vocabulary of {self.vocab} "
                f"was asked for: choose at most {size}, or give more text."
            )


def _fill_pieces(tokenizer: Tokenizer, blocks: Iterator[str], asked: _Pieces) -> None:
    try:
        tokenizer.train_from_iterator(blocks, asked.trainer(asked.specials.all))
    except (VocabloError, OSError, KeyboardInterrupt, SystemExit, MemoryError):  # the reader's own say what is wrong
        raise
    except BaseException as error:  # the library's panics derive from BaseException
        raise ConfigError(
            f"A {asked.kind} vocabulary of {asked.vocab or DEFAULT_VOCAB} tokens can't be trained on this text "
            f"({error}): choose a larger vocabulary, or give more text."
        ) from None
    asked.check(tokenizer.get_vocab_size())
    if asked.kind == "unigram":
        _settle_scores(tokenizer, asked.specials)


def _settle_scores(tokenizer: Tokenizer, specials: Specials) -> None:
    """Make the vocabulary the same every time: the trainer goes through hash tables.

    It adds probabilities in no fixed order, so their last digits vary; and to the letters that its pieces have lost
    it gives the lowest score plus 0.0001, 0.0002, ... in no fixed order. Both are put in order here.
    """
    model = json.loads(tokenizer.to_str())["model"]
    rank = {name: index for index, name in enumerate(specials.all)}
    scores = {piece: round(score, 8) for piece, score in model["vocab"] if piece not in rank}
    letters = sorted(piece for piece in scores if len(piece) == 1)
    bound = min(scores.values()) + 1e-4 * (len(letters) + 1)
    added = [piece for piece in letters if scores[piece] < bound]
    scores |= dict(zip(added, sorted(scores[piece] for piece in added), strict=True))
    pieces = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    unknown = None if specials.unk is None else rank[specials.unk]
    tokenizer.model = models.Unigram([(name, 0.0) for name in rank] + pieces, unk_id=unknown, byte_fallback=False)


def _fill_wordpiece(tokenizer: Tokenizer, blocks: Iterator[str], asked: _Pieces) -> None:
    """Train twice, the first time for the alphabet alone.

    The trainer numbers the letters that go on with a word (``##a``) in the order of a hash table, and ties between
    merges are broken by these numbers: given in a fixed order, they make the vocabulary the same every time.
    """
    counts: Counter[str] = Counter()
    for block in blocks:
        counts.update(block.split())
    if asked.vocab is None:
        size = sum((len(word) + 1) * count for word, count in counts.items())
        asked = replace(
            asked, most=max([DEFAULT_VOCAB, *(vocab for least, vocab in WORDPIECE_VOCABS if size >= least)])
        )
    specials = asked.specials
    trial = Tokenizer.from_str(tokenizer.to_str())
    trial.train_from_iterator(_repeated(dict.fromkeys(counts, 1)), asked.trainer(specials.all, vocab=1))
    letters = sorted(piece for piece in trial.get_vocab() if piece.startswith("##") and len(piece) == 3)
    trial = Tokenizer.from_str(tokenizer.to_str())
    trial.train_from_iterator(_repeated(counts), asked.trainer(specials.all + letters))
    vocabulary = trial.get_vocab()
    asked.check(len(vocabulary))
    assert specials.unk is not None, "blank() asks for it"
    tokenizer.model = models.WordPiece(vocab=vocabulary, unk_token=specials.unk)
    _add_specials(tokenizer, specials)


def _repeated(counts: Mapping[str, int]) -> Iterator[str]:
    """Text that has every word so often."""
    held: list[str] = []
    for word, count in counts.items():
        for start in range(0, count, _BLOCK):
            held += [word] * min(_BLOCK, count - start)
            if len(held) >= _BLOCK:
                yield " ".join(held)
                held = []
    yield " ".join(held)


def _add_specials(tokenizer: Tokenizer, specials: Specials) -> None:
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials.all])


def _blocks(texts: Iterable[str], names: list[str]) -> Iterator[str]:
    """Blocks of whole lines without the special tokens' names, which nothing should be learnt from."""
    special = re.compile("|".join(re.escape(name) for name in names)) if names else None
    empty = True
    for text in texts:
        if special:
            text = special.sub(" ", text)
        for block in _lines(text):
            empty = empty and (not block or block.isspace())
            yield block
    if empty:
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
