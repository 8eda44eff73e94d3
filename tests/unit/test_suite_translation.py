"""evaluate translation and summarization: sacrebleu's own figures, files that don't match, and a model measured whole."""

import numpy as np
import pytest

from command_line import refused, vocablo
from vocablo.api import finetune
from vocablo.base.errors import DataError
from vocablo.evaluation import files
from vocablo.measures.bleu import bleu
from vocablo.measures.chrf import chrf

GOLD = ["El gato come pan, ¿no?", "La luna mira el mar desde la ventana de la casa.", "Sí."]
GIVEN = ["El gato come el pan, ¿no?", "La luna mira desde la ventana la casa.", "No."]


def lines(path, texts):
    path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
    return path


def drawn(count=40, seed=0):
    """Pairs of Spanish-looking sentences that share some of their words."""
    draw = np.random.default_rng(seed)
    words = "El la gato, luna mira; come pan. mar ¿dónde? años Sí (casa) niño".split()  # noqa: SIM905
    gold = [" ".join(draw.choice(words, draw.integers(1, 40))) for _ in range(count)]
    given = [
        " ".join(w if draw.random() < 0.7 else str(draw.choice(words)) for w in text.split()[: draw.integers(1, 45)])
        for text in gold
    ]
    return gold, given


@pytest.mark.parametrize("pairs", [(GOLD, GIVEN), (["a b"], ["a c"]), drawn()])
def test_the_figures_are_sacrebleus(pairs, tmp_path):
    sacrebleu = pytest.importorskip("sacrebleu")
    gold, given = pairs
    report = files.evaluate("translation", lines(tmp_path / "given", given), lines(tmp_path / "gold", gold))
    values = {score.name: 100 * score.value for score in report.scores}
    assert values["bleu"] == pytest.approx(sacrebleu.corpus_bleu(given, [gold]).score)
    lowered = sacrebleu.corpus_bleu(given, [gold], tokenize="none", lowercase=True, smooth_method="none", force=True)
    assert values["bleu-tok-lc"] == pytest.approx(lowered.score)
    assert values["chrf"] == pytest.approx(sacrebleu.corpus_chrf(given, [gold]).score)
    assert f"BLEU {values['bleu']:.2f}, nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp" in report.notes[0]
    assert f"chrF2 {values['chrf']:.2f}" in report.notes[2]


def test_groups_by_the_length_of_the_reference(tmp_path):
    pytest.importorskip("sacrebleu")
    gold, given = drawn(60)
    report = files.evaluate("translation", lines(tmp_path / "given", given), lines(tmp_path / "gold", gold))
    assert [one.name for one in report.groups] == ["1 to 10 words", "11 to 20 words", "21 to 30 words", "over 30 words"]
    assert sum(one.facts["sentences"] for one in report.groups) == 60
    short = [place for place, text in enumerate(gold) if len(text.split()) <= 10]
    assert report.groups[0].scores[2].value == pytest.approx(
        chrf([gold[i] for i in short], [given[i] for i in short]).value
    )


def test_identical_texts_are_all_right_and_empty_ones_all_wrong():
    assert chrf(GOLD, GOLD).value == pytest.approx(1)
    assert chrf(GOLD, [""] * 3).value == 0
    assert bleu([["a"]], [[]], smooth=True).value == 0


def test_files_that_dont_match_are_refused(tmp_path):
    with pytest.raises(DataError, match="2 lines and there are 3 references"):
        files.evaluate("translation", lines(tmp_path / "given", GIVEN[:2]), lines(tmp_path / "gold", GOLD))


def test_a_model_is_measured_as_the_file_that_it_writes(tmp_path):
    pytest.importorskip("sacrebleu")
    pair = ",".join(str(lines(tmp_path / f"t.{side}", texts)) for side, texts in (("s", GOLD), ("t", GIVEN)))
    small = (
        "train.steps=3",
        "architecture.stack.width=16",
        "architecture.attention.heads=2",
        "tokenizer.kind=char",
        "task.max_tokens=9",
    )
    finetune(
        "translate", model="transformer:tiny", train=pair, dev=pair, out=tmp_path / "m", overrides=small, quiet=True
    )
    model, out = ("--model", str(tmp_path / "m")), str(tmp_path / "p.txt")
    done = vocablo("evaluate", "translation", *model, "--data", pair, "--split", "test", "--out", out)
    assert done.code == 0, done.err
    assert "chrF2" in done.out
    again = vocablo("evaluate", "translation", "--predictions", out, "--gold", str(tmp_path / "t.t"))
    assert again.out.splitlines()[:6] == done.out.splitlines()[:6]
    refused(vocablo("evaluate", "summarization", *model, "--data", pair), "is a model for translate", early=False)
    refused(
        vocablo("evaluate", "translation", *model, "--data", f"{tmp_path / 't.s'},{tmp_path / 'no'}"),
        "There is no file or folder",
    )


def test_summaries(tmp_path):
    gold, given = lines(tmp_path / "gold", GOLD), lines(tmp_path / "given", GIVEN)
    report = files.evaluate("summarization", given, gold)
    assert [score.name for score in report.scores] == ["rouge-1", "rouge-2", "rouge-l"]
    assert report.scores[0].value == pytest.approx(np.mean([2 * 5 / 11, 2 * 8 / 19, 0]))
