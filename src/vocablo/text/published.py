"""Tokenizers of published folders that have no ``tokenizer.json``: built where the `tokenizers` library can, else named.

ByT5 (Xue et al. 2022) needs no vocabulary: a byte is its value plus 3, behind <pad>, </s> and <unk>; 125 marks for spans
follow. Marian's, M2M100's and FSMT's tokenizers have no counterpart in the library.
"""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from vocablo.text.specials import Specials, read_json
from vocablo.text.surfaces import BYTE_LETTERS
from vocablo.text.tokenizer import CONFIG, FILE, Tokenizer

SPECIALS = ("<pad>", "</s>", "<unk>")
MARKS = 125
# Files of tokenizers -> what they are, and whether transformers writes a tokenizer.json from them.
FOREIGN = {
    "source.spm": ("Marian's two sentencepiece models with the ids of vocab.json", False),
    "vocab-src.json": ("FSMT's two vocabularies", False),
    "sentencepiece.bpe.model": ("a sentencepiece model", True),
    "spiece.model": ("a sentencepiece model", True),
    "merges.txt": ("vocab.json and merges.txt", True),
    "vocab.txt": ("vocab.txt", True),
}


def found(folder: Path) -> Tokenizer | None:
    """The tokenizer in a folder; None where there is none that can be read."""
    if (folder / FILE).exists():
        return Tokenizer.load(folder)
    config = read_json(folder / CONFIG)
    if config.get("tokenizer_class") == "ByT5Tokenizer":
        added = config.get("added_tokens_decoder")  # newer files number the marks, and say extra_ids 0
        marks = len(added) - len(SPECIALS) if isinstance(added, dict) else config.get("extra_ids", MARKS)
        return byt5(marks if isinstance(marks, int) else MARKS, config)
    return None


def byt5(marks: int = MARKS, config: dict[str, object] | None = None) -> Tokenizer:
    """ByT5's tokenizer: the bytes of UTF-8, each plus 3."""
    vocabulary = {name: index for index, name in enumerate((*SPECIALS, *BYTE_LETTERS))}
    vocabulary |= {f"<extra_id_{number}>": len(vocabulary) + number for number in range(marks)}
    inner = tokenizers.Tokenizer(models.BPE(vocabulary, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    end = ("</s>", vocabulary["</s>"])
    inner.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [end])
    inner.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    inner.add_special_tokens([f"<extra_id_{number}>" for number in range(marks)])
    return Tokenizer(
        inner, Specials(end="</s>", pad="<pad>", unk="<unk>"), {"tokenizer_class": "ByT5Tokenizer", **(config or {})}
    )


def lacking(folder: Path) -> str:
    """What to do about a folder without a tokenizer that can be read, in words that follow its name."""
    # M2M100's file has the name of others', and ids that only vocab.json has.
    only_ids = read_json(folder / CONFIG).get("model_type") == "m2m_100" and not (folder / "merges.txt").exists()
    for name, (what, convertible) in FOREIGN.items():
        if (folder / name).exists():
            convertible = convertible and not only_ids
            if convertible:
                way = f"transformers.AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r}) writes it"
            else:
                way = "the tokenizers library has no such kind: put a tokenizer.json with the same ids beside it"
            return f"has no tokenizer.json but {what}; {way}."
    return "has no tokenizer.json: put the model's tokenizer beside it."
