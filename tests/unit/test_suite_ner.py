"""What the suite of named entities takes as a model's tags."""

from dataclasses import dataclass

import pytest

from vocablo.base.errors import DataError
from vocablo.evaluation.suites import ner


@dataclass
class Tagged:
    tags: tuple[str, ...]


def test_a_model_that_finds_no_entity_is_measured():
    predictions = [Tagged(("O", "O")), Tagged(("O",))]
    assert ner.given(predictions, ner.Options()) == [("O", "O"), ("O",)]


def test_parts_of_speech_are_refused():
    with pytest.raises(DataError, match="evaluate pos"):
        ner.given([Tagged(("O", "NOUN"))], ner.Options())
