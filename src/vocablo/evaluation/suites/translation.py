"""Translations against references: BLEU and chrF by sacrebleu's rules, with its signatures, and BLEU of tokens as they stand.

``bleu``        sacrebleu's default: tokens by mteval-v13a, case kept (Post 2018)
``bleu-tok-lc`` tokens at white space, lower-cased: of text that is tokenised already, as Multi30k's published figures are
``chrf``        chrF2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vocablo.base.errors import ConfigError
from vocablo.data.examples import TextExample
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.report import Evaluation
from vocablo.evaluation.suites import _written
from vocablo.evaluation.suites._written import by_length
from vocablo.measures.bleu import bleu
from vocablo.measures.chrf import chrf
from vocablo.measures.measurement import Measurement

Options = _written.Options
read, read_gold, read_predictions = _written.read, _written.read_gold, _written.read_predictions
labelled, asked, given, write = _written.labelled, _written.asked, _written.given, _written.write


def cells(data: Path) -> tuple[Cell, ...]:
    """The files are given: --data SOURCE,TARGET, or a table."""
    return _written.cell("translation", "translate")


def evaluate(gold: Sequence[TextExample], predictions: Sequence[str], options: _written.Options) -> Evaluation:
    """The three measures, of all sentences and by the length of their references. Raises ConfigError without sacrebleu."""
    split, signatures = _sacrebleu(predictions, [str(one.label) for one in gold])
    references = [str(one.label) for one in gold]
    measurements = _measures(references, predictions, split)
    groups = {
        name: (_measures(_chosen(which, references), _chosen(which, predictions), split), {"sentences": sum(which)})
        for name, which in by_length(gold).items()
    }
    lengths = [sum(len(split(one).split()) for one in side) for side in (predictions, references)]
    facts = {
        "written tokens": lengths[0],
        "reference tokens": lengths[1],
        "length ratio": lengths[0] / max(1, lengths[1]),
    }
    return Evaluation("translation", "sacrebleu's rules", measurements, facts, groups, signatures)


def _measures(gold: Sequence[str], given: Sequence[str], split: Callable[[str], str]) -> tuple[Measurement, ...]:
    tokens = [[split(one).split() for one in side] for side in (gold, given)]
    plain = [[one.lower().split() for one in side] for side in (gold, given)]
    return (
        bleu(*tokens, smooth=True),
        bleu(*plain, name="bleu-tok-lc"),
        chrf(gold, given),
    )


def _chosen(which: Sequence[bool], side: Sequence[str]) -> list[str]:
    return [one for one, here in zip(side, which, strict=True) if here]


def _sacrebleu(given: Sequence[str], gold: Sequence[str]) -> tuple[Callable[[str], str], tuple[str, ...]]:
    """sacrebleu's own tokenizer, and its figures with their signatures."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    except ImportError:
        raise ConfigError("evaluate translation needs sacrebleu: pip install 'vocablo[translation]'.") from None
    told = []
    for metric in (BLEU(), BLEU(tokenize="none", lowercase=True, smooth_method="none", force=True), CHRF()):
        score = metric.corpus_score(list(given), [list(gold)])
        told.append(f"{score.name} {score.score:.2f}, {metric.get_signature()}")
    return Tokenizer13a(), tuple(told)
