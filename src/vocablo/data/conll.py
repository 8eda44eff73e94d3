"""Columns, one word a line and an empty line after each sentence: CoNLL's shared tasks, WNUT-17, and CoNLL-U of UD.

CoNLL   fields between blanks or tabs, as many on every line; the tag is the last field, or the one asked for. Lines that
        begin with -DOCSTART- begin a document. Tags of spans are read in any scheme and given in IOB2
CoNLL-U ten fields between tabs, and comments; ``# newdoc`` begins a document. Ranges of multiword tokens (``3-4``) and empty
        nodes (``8.1``) have no tag and are no words here
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vocablo.base import files
from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.base.progress import tell
from vocablo.data.examples import TaggedExample, some
from vocablo.data.readers import Tell, read_lines
from vocablo.data.tags import check_spans, convert, in_iob2, of_spans

DOCUMENT = "-DOCSTART-"
UD = {"upos": 3, "xpos": 4, "lemma": 2, "deprel": 7}
_BLANKS = re.compile("[ \t]+")  # str.split would split at the no-break space too, which stands within words


@dataclass(frozen=True, slots=True)
class _Sentence:
    rows: tuple[tuple[str, ...], ...]
    line: int  # of its first word
    document: int


def read(
    path: str | Path,
    *,
    tag: int | str | None = -1,
    word: int = 0,
    as_written: bool = False,
    encoding: str = "utf-8",
    notes: Tell = tell,
) -> list[TaggedExample]:
    """Sentences with the tags of one column: a place from 0 (negative: from the end), or a name of ``UD``; None: no tags.

    ``as_written`` leaves tags of spans in their scheme, which strict measures of predictions look at.
    A file whose name has ``.conllu`` is CoNLL-U, whose words are its forms and whose tags, unless told, are its UPOS.
    Raises DataError, with the line, for rows of unequal length, an absent column, and tags of spans mixed with others.
    """
    ud = ".conllu" in Path(path).name
    if isinstance(tag, str) and not (ud and tag.lower() in UD):
        raise ConfigError(
            f"There is no column {tag!r}{nearest(tag, UD)}"
            if ud
            else f"{path}: columns of CoNLL are places, as 0 or -1."
        )
    column = UD[tag.lower()] if isinstance(tag, str) else (UD["upos"] if ud and tag == -1 else tag)
    sentences = list(_sentences(path, ud, encoding, notes))
    some(sentences, str(path))
    width = len(sentences[0].rows[0])
    word = 1 if ud else word
    for place in (word, column):
        if place is not None and not -width <= place < width:
            raise DataError(f"{path} has {width} columns, and column {place} (from 0) was asked for.")
    examples = [
        TaggedExample(
            str(number),
            tuple(row[word] for row in one.rows),
            None if column is None else tuple(row[column] for row in one.rows),
            one.document,
        )
        for number, one in enumerate(sentences)
    ]
    if ud:
        return examples
    place = lambda i, j: f"{path}, line {sentences[i].line + j}"  # noqa: E731
    if as_written:
        check_spans(examples, place)
        return examples
    return in_iob2(examples, place)


def _sentences(path: str | Path, ud: bool, encoding: str, notes: Tell) -> Iterator[_Sentence]:
    rows: list[tuple[str, ...]] = []
    width = line = 0
    document, fresh = -1, True  # fresh: the next sentence is the first of a document
    for number, text in enumerate([*read_lines(path, encoding=encoding, notes=notes), ""], start=1):
        mark = text.startswith("# newdoc") if ud else text.startswith(DOCUMENT)
        if mark or not text.strip(" \t"):
            if rows:
                document, fresh = document + fresh, False
                yield _Sentence(tuple(rows), line, document)
            rows, fresh = [], fresh or mark
            continue
        if ud and text.startswith("#"):
            continue
        fields = tuple(text.split("\t") if ud or "\t" in text else _BLANKS.split(text.strip(" ")))
        width = width or (10 if ud else len(fields))
        if len(fields) != width or not all(fields):
            raise DataError(
                f"{path}, line {number}: {width} fields are wanted as on other lines, none empty: {text!r:.60}."
            )
        if ud and not fields[0].isdecimal():
            continue
        line = line if rows else number
        rows.append(fields)


def aligned(found: Sequence[TaggedExample], gold: Sequence[TaggedExample], path: str | Path) -> list[tuple[str, ...]]:
    """The predicted tags, once their words are those of the gold sentences; DataError names the first that isn't."""
    for place, (one, true) in enumerate(zip(found, gold, strict=False), start=1):
        if one.words != true.words:
            at = next(
                (i for i, pair in enumerate(zip(one.words, true.words, strict=False)) if pair[0] != pair[1]), None
            )
            what = (
                f"has {len(one.words)} words, and the gold one {len(true.words)}"
                if at is None
                else f"has the word {one.words[at]!r} where the gold one has {true.words[at]!r}"
            )
            raise DataError(f"{path}: sentence {place} {what}: predictions need the same words in the same order.")
    if len(found) != len(gold):
        raise DataError(f"{path} has {len(found):,} sentences and the gold file {len(gold):,}.")
    return [example.tags or () for example in found]


def write(
    path: str | Path,
    examples: Sequence[TaggedExample],
    predicted: Sequence[Sequence[str]] | None = None,
    *,
    scheme: str = "IOB2",
) -> None:
    """Columns word, tag (where known) and, with ``predicted``, predicted tag: what conlleval reads, in this order.

    Documents, where there are several, are set apart by -DOCSTART- lines. Raises DataError for tags that don't align.
    """
    if predicted is not None and len(predicted) != len(examples):
        raise DataError(f"There are {len(examples):,} sentences and {len(predicted):,} predictions: give one for each.")
    several = len({example.document for example in examples}) > 1
    lines: list[str] = []
    document = None
    for number, example in enumerate(examples):
        columns = [example.words]
        for tags in (example.tags, None if predicted is None else predicted[number]):
            if tags is None:
                continue
            if len(tags) != len(example.words):
                raise DataError(f"Sentence {example.id} has {len(example.words)} words and {len(tags)} tags.")
            columns.append(convert(tags, scheme) if of_spans([tags]) else tuple(tags))
        if several and example.document != document:
            lines += [" ".join([DOCUMENT, *["O"] * (len(columns) - 1)]), ""]
        document = example.document
        lines += [" ".join(row) for row in zip(*columns, strict=True)] + [""]
    files.write_text(Path(path), "\n".join(lines) + "\n")
