"""Extractive question answering: windows over long contexts, the best spans, no answer at all, and SQuAD's files."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from task_examples import questions
from task_models import FAMILIES, learner
from vocablo.api import evaluate, finetune, load
from vocablo.base.errors import ConfigError, DataError
from vocablo.data.examples import Answer, SpanExample
from vocablo.tasks import span
from vocablo.tasks._lesson import Lesson
from vocablo.tasks.span import Alternative, Answered

WORDS = [f"gato{'.' * (i % 3)}" for i in range(60)]
TEXT = " ".join([*WORDS[:33], "la niña comió", *WORDS[33:]])
LONG = SpanExample("0", "¿ quién ?", TEXT, (Answer("niña comió", TEXT.index("niña")),))
SMALL = {"stride": 8, "answer": 5, "best": 4}


def squad(path, examples, **more):
    """The examples in SQuAD's JSON, a paragraph each."""
    rows = []
    for one in examples:
        qa = {"id": one.id, "question": one.question, "is_impossible": one.impossible} | more
        if one.answers is not None:
            qa["answers"] = [{"text": answer.text, "answer_start": answer.start} for answer in one.answers]
        rows.append({"context": one.context, "qas": [qa]})
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": rows}]}), encoding="utf-8")
    return path


@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_each_window_has_the_answer_where_all_of_it_stands_there(family):
    _, task, _ = learner(span, family, [LONG], {"stride": 3})
    encoded = task.encode([LONG], "here", learn=True)
    assert len(encoded) > 5
    start, end, held = LONG.answers[0].start, LONG.answers[0].start + len("niña comió"), 0
    touched = lambda places: int(((places[:, 1] > start) & (places[:, 0] < end)).sum())  # noqa: E731
    whole = touched(task.reader.tokenizer.encode(TEXT).offsets)
    for place, window in enumerate(encoded.values):
        ids = encoded.ids[encoded.starts[place] : encoded.starts[place + 1]]
        assert len(ids) <= 32
        if touched(window.places) == whole:
            held += 1
            told = task.reader.tokenizer.decode(ids[window.start : window.end + 1].tolist()).strip()
            assert told == "niña comió"
            places = window.places[[window.start - window.ahead, window.end - window.ahead]]
            assert (places[0, 0], places[1, 1]) in ((start, end), (start - 1, end)), "or with the space before it"
        else:
            assert (window.start, window.end) == (0, 0)
    assert 1 < held < len(encoded)


def test_a_start_counts_once_in_the_window_where_it_stands_furthest_inside():
    _, task, _ = learner(span, "bert", [LONG], SMALL)
    windows = task.encode([LONG], "here").values
    tokens = task.reader.tokenizer.encode(TEXT).offsets
    for begin, end in tokens.tolist():
        inside, counted = [], []
        for number, window in enumerate(windows):
            at = np.flatnonzero((window.places == (begin, end)).all(1))
            if len(at):
                inside.append((min(at[0], len(window.places) - 1 - at[0]), -number))
                counted += [number] if window.counts[at[0]] else []
        assert counted == [-max(inside)[1]], "the first one where two are as good"


def brute(model, task, heads, example):
    """All spans of a context with their scores, the best first, and the score of no answer: window by window, in loops."""
    encoded, settings = task.encode([example], "here"), task.settings
    best, none = {}, math.inf
    for place, window in enumerate(encoded.values):
        tokens = encoded.tokens(np.array([place]))
        with torch.no_grad():
            scores = heads["span"](task.reader.read(model, heads, tokens).states).double().numpy()
        none = min(none, scores[0].sum())
        for i in range(len(window.places)):
            for j in range(i, min(i + settings.answer, len(window.places))):
                text = example.context[window.places[i, 0] : window.places[j, 1]].strip()
                score = scores[window.ahead + i, 0] + scores[window.ahead + j, 1]
                if window.counts[i] and score > best.get(text, -math.inf):
                    best[text] = score
    return sorted(best.items(), key=lambda item: -item[1]), none


@pytest.mark.parametrize("family", FAMILIES)
def test_the_best_answers_are_those_of_all_spans(family):
    examples = [replace(one, context=f"{one.context} {one.context}  {one.question}") for one in questions(4)]
    model, task, heads = learner(span, family, examples, SMALL)
    for example, one in zip(examples, task.predict(model, heads, examples), strict=True):
        spans, none = brute(model, task, heads, example)
        assert [found.score for found in one.alternatives] == pytest.approx([x for _, x in spans[:4]], abs=1e-4)
        assert (one.text, one.alternatives[0].text) == (spans[0][0], spans[0][0])
        assert one.no_answer == pytest.approx(none - spans[0][1], abs=1e-4)
        share = np.exp([x - spans[0][1] for _, x in spans[:4]])
        assert [found.prob for found in one.alternatives] == pytest.approx((share / share.sum()).tolist(), abs=1e-4)
        for found in one.alternatives:
            assert example.context[found.start : found.end] == found.text == found.text.strip() != ""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_questions_alone_and_its_loss_that_of_both_ends(family):
    examples = [*questions(5, impossible=True), LONG]
    model, task, heads = learner(span, family, examples, SMALL)
    for example, one in zip(examples, task.predict(model, heads, examples), strict=True):
        (alone,) = task.predict(model, heads, [example])
        assert (alone.text, alone.start) == (one.text, one.start)
        assert alone.no_answer == pytest.approx(one.no_answer, abs=1e-4)
    encoded = task.encode(examples, "here", learn=True)
    with torch.no_grad():
        terms = task.terms(model, heads, task.batch(encoded, np.arange(len(encoded))[::-1].copy()))
        total = 0.0
        for place, window in enumerate(encoded.values):
            hidden = task.reader.read(model, heads, encoded.tokens(np.array([place])))
            log_probs = heads["span"](hidden.states).log_softmax(0)
            total -= float(log_probs[window.start, 0] + log_probs[window.end, 1]) / 2
    assert sum(float(term.total) * term.weight for term in terms.values()) == pytest.approx(total, rel=1e-5)
    assert {term.count for term in terms.values()} == {len(encoded)}


def test_a_context_of_100_000_characters_is_read_to_its_end():
    text = " ".join(TEXT for _ in range(100_000 // len(TEXT) + 1))
    start = text.rindex("niña")
    example = SpanExample("0", "¿ quién ?", text, (Answer("niña comió", start),))
    model, task, heads = learner(span, "bert", [LONG])
    encoded = task.encode([example], "here", learn=True)
    assert len(text) >= 100_000
    assert sum(int(window.counts.sum()) for window in encoded.values) == len(task.reader.tokenizer.encode(text).ids)
    assert all(window.start == 0 for window in encoded.values[:-20])
    assert any(window.start for window in encoded.values[-20:])
    done = []
    (one,) = task.predict(model, heads, [example], done.append)
    assert text[one.start : one.end] == one.text
    assert sum(done) == pytest.approx(1)
    assert len(done) > 1, "windows are progress"


def fixed(gaps, texts):
    """Predictions whose best answer is known."""
    return [
        Answered(str(i), "?", text, 0, 1, 1.0, gap, (Alternative(text, 0, 1, 0.0, 1.0),))
        for i, (gap, text) in enumerate(zip(gaps, texts, strict=True))
    ]


def test_the_threshold_is_the_best_one_for_f1_and_is_kept():
    """Draws of 12 questions from a fixed seed: nothing here is left to chance."""
    draw = np.random.default_rng(0)
    for _ in range(20):
        true = [draw.random() < 0.5 for _ in range(12)]
        examples = [
            SpanExample(str(i), "?", "sol luna", (Answer("sol luna", 0),) if has else (), not has)
            for i, has in enumerate(true)
        ]
        if all(true):
            continue
        _, task, heads = learner(span, "bert", [LONG])
        lesson = Lesson(task, task.encode([LONG], "here", learn=True), heads, seed=0, batch=1)
        before = lesson.fingerprint()
        given = fixed(draw.normal(size=12).tolist(), draw.choice(["sol", "luna sol", "mar"], 12).tolist())
        values = []
        for threshold in [-math.inf, *(one.no_answer for one in given)]:
            texts = [one if one.no_answer <= threshold else replace(one, text="") for one in given]
            values.append(task.measures(examples, texts)["f1"].value)
        tuned = task.tune(examples, given)
        assert task.measures(examples, tuned)["f1"].value == pytest.approx(max(values))
        assert task.told()["vocablo_task"]["settings"]["threshold"] == task.threshold
        assert lesson.fingerprint() == before, "a run goes on after a threshold was set"
        for one, old in zip(tuned, given, strict=True):
            assert one.text == ("" if old.no_answer > task.threshold else old.text)


def test_where_no_answer_is_right_none_is_given():
    examples = [SpanExample(str(i), "?", "sol", (), True) for i in range(3)]
    _, task, _ = learner(span, "bert", [LONG])
    tuned = task.tune(examples, fixed([-1000.0, 0.0, 1000.0], ["sol"] * 3))
    assert [(one.text, one.start) for one in tuned] == [("", None)] * 3
    assert [one.prob for one in tuned] == [pytest.approx(0), 0.5, pytest.approx(1)]
    answered = task.tune([replace(LONG, id=str(i)) for i in range(3)], fixed([0.0] * 3, ["sol"] * 3))
    assert [one.text for one in answered] == ["sol"] * 3, "without such questions nothing is set"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": (Answer("luna llena", 0),)}, r"t.json, question '3': its context doesn't have the answer 'luna l"),
        ({"question": " "}, r"t.json: question '3' or its context is empty"),
        ({"context": "\u200b", "answers": (), "impossible": True}, r"t.json: question '3' or its context is empty"),
        ({"answers": None}, r"t.json: question '3' has no answer and isn't marked impossible"),
        ({"answers": (Answer("", 0),)}, r"question '3' has no answer that isn't empty"),
    ],
)
def test_bad_questions_are_refused_before_work_starts(tmp_path, change, message):
    examples = questions(8)
    examples[3] = replace(examples[3], **change)
    path = squad(tmp_path / "t.json", examples)
    with pytest.raises(DataError, match=message):
        finetune("span", model="bert:tiny", train=path, dev=path, out=tmp_path / "m", quiet=True)
    assert not (tmp_path / "m").exists()


def test_an_answer_of_which_nothing_is_left_is_refused():
    _, task, _ = learner(span, "bert", [LONG])
    example = SpanExample("a", "¿?", "sol \u200b luna", (Answer("\u200b", 4),))
    with pytest.raises(DataError, match="here: question 'a': the tokenizer leaves nothing of its answer"):
        task.encode([example], "here", learn=True)


def test_ids_that_stand_twice_are_numbered_to_learn_from_and_refused_to_predict(tmp_path):
    path = squad(tmp_path / "t.json", [replace(one, id="a") for one in questions(3)])
    notes = []
    read = span.read(path, span.Columns(), span.Config(), notes=notes.append)
    assert [one.id for one in read] == ["a", "a#2", "a#3"]
    assert "2 questions have the id of one before them" in notes[0]
    with pytest.raises(DataError, match="has the id 'a' twice"):
        span.read(path, span.Columns(), span.Config(), labelled=False)


def test_questions_without_room_and_other_formats_are_refused(tmp_path):
    _, task, _ = learner(span, "bert", [LONG])
    with pytest.raises(ConfigError, match=r"With 32 tokens to read and a question of 60 .*lower task.question"):
        task.encode([replace(LONG, question="gato " * 30)], "here")
    with pytest.raises(ConfigError, match=r"no format 'table' here.*SQuAD's JSON"):
        span.read(tmp_path / "t.csv", span.Columns(format="table"), span.Config())


@pytest.mark.parametrize("model", ["bert:tiny", "gpt:tiny", "lstm:tiny"])
def test_from_squads_file_to_its_predictions(tmp_path, model):
    path = squad(tmp_path / "t.json", questions(24, impossible=True))
    small = ("train.epochs=4", "train.batch=8", "train.lr=5e-3", "read.context=24")
    result = finetune("span", model=model, train=path, dev=path, out=tmp_path / "m", overrides=small, quiet=True)
    assert [one.name for one in result.scores] == ["f1", "exact match"]
    asked = load(tmp_path / "m")
    assert asked.task.threshold is not None
    found = asked.predict_file(path, tmp_path / "p.json")
    written = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))
    assert written == {one.id: one.text for one in found}
    report = evaluate("squad", tmp_path / "p.json", path)
    assert {one.name: one.value for one in report.scores} == {one.name: one.value for one in result.scores}
    one = asked.answer(questions(1)[0].question, questions(1)[0].context)
    alone, together = ([found.score for found in each.alternatives] for each in (one, found[0]))
    assert alone == pytest.approx(together, abs=1e-5)
    with pytest.raises(ConfigError, match="question and the context can't be empty"):
        asked.answer("¿?", " ")
