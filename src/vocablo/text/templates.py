"""How a tokenizer frames its texts for a model that reads both ways: ``[CLS] a [SEP]`` and ``[CLS] a [SEP] b [SEP]``.

The tokenizer's own file decides where it has a post-processor (RoBERTa frames a pair as ``<s> a </s></s> b </s>``, and
all of it is segment 0); otherwise the pattern is BERT's with the tokenizer's cls and sep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from vocablo.base.errors import ConfigError
from vocablo.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Frame:
    """The special tokens around one or two texts, and the segment of every part.

    ``specials`` has the ids before the first text, behind it (between the two), and behind the second;
    ``special_segments`` has their segments and ``segments`` those of the texts.
    """

    specials: tuple[tuple[int, ...], ...]
    special_segments: tuple[tuple[int, ...], ...]
    segments: tuple[int, ...]

    @property
    def special_count(self) -> int:
        """How many special tokens the frame adds."""
        return sum(map(len, self.specials))

    @property
    def segment_count(self) -> int:
        """How many segments a model must know to read it."""
        return 1 + max(chain(self.segments, *self.special_segments))

    def __call__(self, *texts: Sequence[int]) -> tuple[list[int], list[int]]:
        """The ids of the framed texts, and the segment of each."""
        ids, segments = list(self.specials[0]), list(self.special_segments[0])
        for number, text in enumerate(texts):
            ids += [*text, *self.specials[number + 1]]
            segments += [*[self.segments[number]] * len(text), *self.special_segments[number + 1]]
        return ids, segments


@dataclass(frozen=True, slots=True)
class Template:
    """The frames of one text and of a pair of texts."""

    alone: Frame
    two: Frame

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> Template:
        """The template of a tokenizer. Raises ConfigError for one that has no tokens to put around a text."""
        found = _stated(tokenizer.pipeline.get("post_processor"))
        if found is not None:
            return found
        if tokenizer.cls_id is None or tokenizer.sep_id is None:
            missing = " and ".join(role for role in ("cls", "sep") if role not in tokenizer.specials)
            raise ConfigError(
                f"The tokenizer has no {missing} token to put around a text, which a model that reads both ways needs: "
                "train one of kind 'wordpiece', or name them in tokenizer_config.json (cls_token, sep_token)."
            )
        cls_, sep = (tokenizer.cls_id,), (tokenizer.sep_id,)
        return cls(Frame((cls_, sep), ((0,), (0,)), (0,)), Frame((cls_, sep, sep), ((0,), (0,), (1,)), (0, 1)))

    @classmethod
    def two_way(cls, tokenizer: Tokenizer) -> Template:
        """Of a model that tells words from both sides (ELMo): the boundary, or cls where there is one, and the boundary.

        Raises ConfigError for a tokenizer without a boundary.
        """
        if tokenizer.end_id is None:
            raise ConfigError(
                "The tokenizer has no boundary to put around a text: name it in tokenizer_config.json (eos_token)."
            )
        end = (tokenizer.end_id,)
        begin = end if tokenizer.cls_id is None else (tokenizer.cls_id,)
        return cls(Frame((begin, end), ((0,), (0,)), (0,)), Frame((begin, end, end), ((0,), (0,), (0,)), (0, 0)))

    @classmethod
    def of_source(cls, tokenizer: Tokenizer) -> Template:
        """What stands around a source that a model reads before it writes: as the file says, else the end behind it.

        A second text goes on where the first one ends. Raises ConfigError for a tokenizer without an end.
        """
        found = _stated(tokenizer.pipeline.get("post_processor"), one_sided=True)
        if found is not None:
            return found
        if tokenizer.end_id is None:
            raise ConfigError(
                "The tokenizer has no end-of-text token, and what is written has to end: name its eos_token."
            )
        end = (tokenizer.end_id,)
        return cls(Frame(((), end), ((), (0,)), (0,)), Frame(((), (), end), ((), (), (0,)), (0, 0)))

    def exchanged(self, ids: Mapping[int, int]) -> Template:
        """The same with other special tokens: id -> the one in its place."""
        frames = [
            replace(frame, specials=tuple(tuple(ids.get(one, one) for one in part) for part in frame.specials))
            for frame in (self.alone, self.two)
        ]
        return Template(*frames)

    def single(self, ids: Sequence[int]) -> list[int]:
        """One text with its special tokens; its segments are ``alone.segments``."""
        return self.alone(ids)[0]

    def pair(self, a: Sequence[int], b: Sequence[int]) -> tuple[list[int], list[int]]:
        """Two texts with their special tokens, and the segment of every token."""
        return self.two(a, b)

    def special_count(self, pair: bool = False) -> int:
        """How many special tokens are put around one text, or around a pair."""
        return (self.two if pair else self.alone).special_count


def _stated(processor: Mapping[str, Any] | None, one_sided: bool = False) -> Template | None:
    """The template that a tokenizer's post-processor states; None when it adds nothing around a text.

    ``one_sided``: special tokens on one side of a text are a template as well.
    """
    kind = (processor or {}).get("type")
    if processor is None or kind is None:
        return None
    if kind == "Sequence":
        found = [_stated(one, one_sided) for one in processor["processors"]]
        return next((one for one in found if one is not None), None)
    if kind == "TemplateProcessing":
        ids = {name: tuple(token["ids"]) for name, token in processor["special_tokens"].items()}
        alone, two = (
            _read(processor[name], texts, ids, one_sided) for name, texts in (("single", "A"), ("pair", "AB"))
        )
        return None if alone is None or two is None else Template(alone, two)
    if kind not in ("BertProcessing", "RobertaProcessing"):
        return None
    cls, sep = (processor["cls"][1],), (processor["sep"][1],)
    alone = Frame((cls, sep), ((0,), (0,)), (0,))
    if kind == "BertProcessing":
        return Template(alone, Frame((cls, sep, sep), ((0,), (0,), (1,)), (0, 1)))
    return Template(alone, Frame((cls, sep + sep, sep), ((0,), (0, 0), (0,)), (0, 0)))


def _read(
    pattern: Sequence[Mapping[str, Any]], texts: str, ids: Mapping[str, tuple[int, ...]], one_sided: bool
) -> Frame | None:
    """A frame from a pattern of special tokens and texts; None when nothing stands before or behind, or texts are missing."""
    specials: list[list[int]] = [[]]
    kinds: list[list[int]] = [[]]
    segments: list[int] = []
    order = ""
    for piece in pattern:
        if "Sequence" in piece:
            order += piece["Sequence"]["id"]
            segments.append(piece["Sequence"]["type_id"])
            specials.append([])
            kinds.append([])
        else:
            tokens = ids[piece["SpecialToken"]["id"]]
            specials[-1] += tokens
            kinds[-1] += [piece["SpecialToken"]["type_id"]] * len(tokens)
    if order != texts or not (any(specials) if one_sided else specials[0] and specials[-1]):
        return None
    return Frame(tuple(map(tuple, specials)), tuple(map(tuple, kinds)), tuple(segments))
