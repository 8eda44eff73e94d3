"""The special tokens around texts, against what the tokenizers library puts there itself."""

import pytest
from tokenizers import processors

from vocablo.base.errors import ConfigError
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer

A, B = "el gato come pan", "la casa verde"
TEXTS = [A, B, "¿Y el año que viene?"]
CLS, SEP = ("[CLS]", 2), ("[SEP]", 3)


def framing(single, pair):
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=[CLS, SEP])


PROCESSORS = {
    "own": lambda: framing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1"),
    "bert": lambda: processors.BertProcessing(SEP, CLS),
    "roberta": lambda: processors.RobertaProcessing(SEP, CLS),
    "xlm": lambda: framing("[SEP] $A [SEP]", "[SEP] $A [SEP] $B [SEP]"),
    "two separators": lambda: framing("[CLS]:1 $A:2 [SEP]:1", "[CLS] $A:1 [SEP] [SEP]:2 $B:3 [SEP]:1"),
    "sequence": lambda: processors.Sequence([processors.ByteLevel(), processors.RobertaProcessing(SEP, CLS)]),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_frames_are_those_of_the_library(name):
    tokenizer = Tokenizer.train("wordpiece", TEXTS)
    tokenizer.inner.post_processor = PROCESSORS[name]()
    again = Tokenizer(tokenizer.inner, tokenizer.roles)
    template = Template.of(again)
    a, b = again.encode_batch([A, B])
    alone, two = again.inner.encode(A), again.inner.encode(A, B)
    assert template.alone(a) == (alone.ids, alone.type_ids)
    assert template.single(a) == alone.ids
    assert template.pair(a, b) == (two.ids, two.type_ids)
    assert template.special_count() == len(alone.ids) - len(a)
    assert template.special_count(pair=True) == len(two.ids) - len(a) - len(b)
    assert template.two.segment_count == max(two.type_ids) + 1


@pytest.mark.parametrize(
    "processor",
    [
        None,
        processors.ByteLevel(),
        framing("$A [SEP]", "$A [SEP] $B [SEP]"),
        framing("[CLS] $A [SEP]", "[CLS] $B $A [SEP]"),
    ],
)
def test_without_a_frame_of_its_own_a_tokenizer_gets_berts(processor):
    tokenizer = Tokenizer.train("wordpiece", TEXTS)
    if processor is not None:
        tokenizer.inner.post_processor = processor
        tokenizer = Tokenizer(tokenizer.inner, tokenizer.roles)
    assert Template.of(tokenizer).pair([9], [10, 11]) == ([2, 9, 3, 10, 11, 3], [0, 0, 0, 1, 1, 1])


def test_a_tokenizer_without_the_tokens_is_refused():
    with pytest.raises(ConfigError, match="no cls and sep token"):
        Template.of(Tokenizer.train("bpe", TEXTS, vocab=270))
