"""Word vectors as files that others read: the name says the format. Special tokens are left out.

OUT.vec, OUT.txt    word2vec text, which fastText calls .vec        OUT.bin    word2vec binary
OUT.glove, OUT.glove.txt    GloVe text
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.base.files import replacing
from vocablo.base.progress import Progress
from vocablo.text.tokenizer import Tokenizer

GLOVE = (".glove", ".glove.txt")
ENDINGS = (".vec", ".txt", ".bin", *GLOVE)


def write(path: str | Path, model: Any, tokenizer: Tokenizer, *, quiet: bool = True) -> None:
    """Write a file, whole or absent; nine digits, so that reading it gives the same numbers.

    Raises ConfigError for a name of no known format, a model without word vectors, and words with white space.
    """
    name = str(path)
    if not name.endswith(ENDINGS):
        raise ConfigError(f"Word vectors are written as {', '.join(ENDINGS)}; got {Path(path).name!r}.")
    if model.reads != "words":
        raise ConfigError("Only vectors of words are written so; this is a model of another kind.")
    words = [(row, word) for row, word in enumerate(tokenizer.vocabulary) if row not in tokenizer.special_ids]
    for _, word in words:
        if len(word.split()) != 1 or word.split()[0] != word:
            raise ConfigError(f"The word {word!r} has white space or is empty, and these files are split there.")
    vectors = model.vectors.detach().float().cpu().numpy().astype("<f4")
    glove, binary = name.endswith(GLOVE), name.endswith(".bin")
    with (
        replacing(Path(path)) as temporary,
        temporary.open("wb") as file,
        Progress("writing vectors", len(words), "words", quiet=quiet) as progress,
    ):
        if not glove:
            file.write(f"{len(words)} {vectors.shape[1]}\n".encode())
        for row, word in words:
            if binary:
                file.write(word.encode() + b" " + vectors[row].tobytes() + b"\n")
            else:
                file.write(f"{word} {' '.join([f'{one:.9g}' for one in vectors[row].tolist()])}\n".encode())
            progress.advance(1)
