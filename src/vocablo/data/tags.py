"""Schemes of tagging spans, read into one (IOB2) and written in any.

IOB1    I within a span; B only where a span follows right after another of the same type
IOB2    B begins every span, I goes on (also called BIO)
IOBES   as IOB2, with E at the end of a span and S for a span of one word (also called BIOES; L and U: BILOU)

One rule reads them all: conlleval's (``measures/spans.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from vocablo.base.errors import ConfigError, DataError, nearest
from vocablo.data.examples import TaggedExample
from vocablo.measures.spans import spans

SCHEMES = ("IOB1", "IOB2", "IOBES")


def of_spans(sentences: Iterable[Sequence[str]]) -> bool:
    """Whether any tag has the form of one within a span (``B-TYPE``): parts of speech, say, have none."""
    return any(_inside(tag) for tags in sentences for tag in tags)


def check_spans(examples: Sequence[TaggedExample], place: Callable[[int, int], str]) -> bool:
    """Whether tags are of spans; raises DataError, at ``place(sentence, word)``, where such tags are mixed with others."""
    if not of_spans(example.tags or () for example in examples):
        return False
    for sentence, example in enumerate(examples):
        for word, tag in enumerate(example.tags or ()):
            if tag != "O" and not _inside(tag):
                raise DataError(
                    f"{place(sentence, word)}: {tag!r} isn't a tag of spans, and others are: write O, or B-TYPE."
                )
    return True


def in_iob2(examples: Sequence[TaggedExample], place: Callable[[int, int], str]) -> list[TaggedExample]:
    """The examples with tags of spans in IOB2, from any scheme; other tags stay as they are. Raises as ``check_spans``."""
    if not check_spans(examples, place):
        return list(examples)
    return [replace(one, tags=None if one.tags is None else convert(one.tags, "IOB2")) for one in examples]


def _inside(tag: str) -> bool:
    return tag[:1] in "BIESLUM" and tag[1:2] == "-" and len(tag) > 2


def convert(tags: Sequence[str], scheme: str) -> tuple[str, ...]:
    """The same spans in another scheme. Raises ConfigError for an unknown one."""
    if scheme not in SCHEMES:
        raise ConfigError(f"There is no scheme of tags {scheme!r}{nearest(scheme, SCHEMES)}")
    result = ["O"] * len(tags)
    before = None
    for span in spans(tags):
        touches = before is not None and before.end == span.start and before.type == span.type
        begin = "B" if scheme != "IOB1" or touches else "I"
        kinds = [begin] + ["I"] * (span.end - span.start - 1)
        if scheme == "IOBES":
            kinds[-1] = "E" if len(kinds) > 1 else "S"
        result[span.start : span.end] = [f"{kind}-{span.type}" for kind in kinds]
        before = span
    return tuple(result)
