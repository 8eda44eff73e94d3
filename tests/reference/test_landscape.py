"""No layout without a trial."""

import test_published_decoders
import test_published_encoders
import test_published_seq2seq
import transformers

from vocablo.base import registry


def test_every_published_layout_is_tried():
    """A new file of landscape/ needs a case in one of these tests."""
    cases = (*test_published_encoders.CASES, *test_published_decoders.CASES, *test_published_seq2seq.CASES)
    tried = {getattr(transformers, case.config).model_type for case in cases}
    assert tried == set(registry.owners("vocablo.landscape", "TYPES"))
