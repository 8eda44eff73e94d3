"""Translations against references: BLEU and chrF by sacrebleu's rules, with its signatures, and BLEU of tokens as they stand.

``bleu``        sacrebleu's default: tokens by mteval-v13a, case kept (Post 2018)
``bleu-tok-lc`` tokens at white space, lower-cased: of text that is tokenised already, as Multi30k's published figures are
``chrf``        chrF2
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vocablo.base.config import Settings
from vocablo.base.errors import ConfigError
from vocablo.base.files import write_text
from vocablo.data.examples import TextExample
from vocablo.evaluation.cells import Cell
from vocablo.evaluation.report import Evaluation
from vocablo.evaluation.suites import _written
from vocablo.evaluation.suites._written import by_length
from vocablo.measures.bleu import bleu
from vocablo.measures.chrf import chrf
from vocablo.measures.measurement import Measurement
from vocablo.tasks._texts import Columns


class Options(Settings):
    """The columns of a table: of the source and of the reference."""

    source: str = "text"
    target: str = "label"


def read_gold(path: Path, options: Options) -> list[TextExample]:
    """References, one a line, or a table, or SOURCE,TARGET."""
    return _written.read_gold(path, _columns(options))


def read(path: Path, options: Options) -> list[TextExample]:
    """Sources and references."""
    return _written.read(path, _columns(options))


def labelled(gold: Sequence[TextExample]) -> bool:
    """Whether the references are known."""
    return all(one.label is not None for one in gold)


def cells(data: Path) -> tuple[Cell, ...]:
    """The files are given: --data SOURCE,TARGET, or a table."""
    return _written.cell("translation", "translate")


def asked(gold: Sequence[TextExample]) -> Sequence[TextExample]:
    """What a model is asked."""
    return gold


def given(predictions: Sequence[Any], options: Options) -> list[str]:
    """The texts that a model wrote."""
    return [" ".join(one.output.split()) for one in predictions]


def write(path: Path, gold: Sequence[TextExample], predictions: Sequence[str], options: Options) -> None:
    """One text a line."""
    write_text(path, "".join(one + "\n" for one in predictions))


def read_predictions(path: Path, gold: Sequence[TextExample], options: Options) -> list[str]:
    """One text a line."""
    return _written.read_predictions(path, gold)


def evaluate(gold: Sequence[TextExample], predictions: Sequence[str], options: Options) -> Evaluation:
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


def _columns(options: Options) -> Columns:
    return Columns(text=options.source, label=options.target)
