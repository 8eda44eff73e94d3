"""Tagging: which token tells of which word, windows of long sentences, documents, CRFs, and files of every scheme."""

import itertools

import numpy as np
import pytest
import torch

from task_examples import tagged
from task_models import FAMILIES, learner, started
from vocablo import checkpoint
from vocablo.api import finetune, load
from vocablo.base.errors import ConfigError, DataError
from vocablo.data.examples import TaggedExample
from vocablo.tasks import tag
from vocablo.tasks._texts import Columns
from vocablo.tasks._words import windows

LONG = TaggedExample("0", tuple(f"gato{'.' * (i % 3)}" for i in range(60)), ("O", "B-A") * 30)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_is_told_at_its_first_token_or_read_from_the_left_at_its_last(family):
    _, reader = started(family, pooler=False)
    tokenizer, last = reader.tokenizer, reader.reads == "left"
    before, behind = map(len, reader.template.alone.specials)
    examples = [TaggedExample("0", ("¡", "piñones", "y", "queso", "!")), TaggedExample("1", ("luna",))]
    for window, example in zip(windows(reader, examples, 0, last=last, where="here"), examples, strict=True):
        ids = window.framed[0]
        assert window.words == tuple(range(len(example.words)))
        ends = [*window.at[1:], None]
        for word, (at, end) in enumerate(zip(window.at, ends, strict=True)):
            if last:
                begin = before if word == 0 else window.at[word - 1] + 1
                spelled = tokenizer.decode(ids[begin : at + 1])
            else:
                spelled = tokenizer.decode(ids[at : end or len(ids) - behind])
            assert spelled.replace(" ", "") in (example.words[word], "<unk>"), "a word's tokens, and no others"


@pytest.mark.parametrize("family", ["bert", "gpt"])
def test_a_long_sentence_is_told_in_windows_each_word_once(family):
    model, task, heads = learner(tag, family, [LONG])
    made = windows(task.reader, [LONG], 0, last=family == "gpt", where="here")
    assert len(made) > 2
    assert [word for window in made for word in window.words] == list(range(60))
    assert all(len(window.framed[0]) <= 32 for window in made)
    for window in made[1:-1]:
        assert min(window.at) >= 7
        assert max(window.at) <= 32 - 7, "about a quarter of the room is read on either side"
    (found,) = task.predict(model, heads, [LONG])
    assert len(found.tags) == len(found.probs) == 60


def test_the_document_is_read_around_a_sentence_and_no_other_document():
    _, reader = started("bert", pooler=False)
    words = [("el", "gato"), ("come",), ("pan",), ("luna",)]
    examples = [TaggedExample(str(i), some, None, document=int(i == 3)) for i, some in enumerate(words)]
    alone = windows(reader, examples, 0, last=False, where="here")
    wide = windows(reader, examples, 8, last=False, where="here")
    joined = reader.template.alone([one for window in alone[:3] for one in window.framed[0][1:-1]])
    assert [window.framed for window in wide] == [joined] * 3 + [alone[3].framed]
    for narrow, broad in zip(alone, wide, strict=True):
        told = [[window.framed[0][at] for at in window.at] for window in (narrow, broad)]
        assert told[0] == told[1], "the same tokens tell"
    near = windows(reader, examples, 1, last=False, where="here")
    assert len(near[1].framed[0]) == len(alone[1].framed[0]) + 2


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_sentences_alone(family, crf):
    examples = tagged(9)
    model, task, heads = learner(tag, family, examples, {"crf": crf})
    for example, one in zip(examples, task.predict(model, heads, examples), strict=True):
        (alone,) = task.predict(model, heads, [example])
        assert alone.tags == one.tags
        assert alone.probs == pytest.approx(one.probs, abs=1e-5)


def test_a_crf_tells_the_most_probable_tags_of_all_and_its_loss_is_theirs():
    examples = tagged(6)
    model, task, heads = learner(tag, "bert", examples, {"crf": True})
    encoded = task.encode(examples, "here", learn=True)
    batch = task.batch(encoded, np.arange(6))
    crf, total, gold = heads["crf"].requires_grad_(False), 0.0, batch.targets["tag"].value.split(batch.groups.lengths)
    with torch.no_grad():
        term = task.terms(model, heads, batch)["tag"]
        hidden = task.reader.read(model, heads, batch.tokens)
        scores = heads["tag"](hidden.states[batch.targets["tag"].at]).double().split(batch.groups.lengths)
    for found, rows, true in zip(task.predict(model, heads, examples), scores, gold, strict=True):
        value = {}
        for path in itertools.product(range(len(task.labels)), repeat=len(rows)):
            score = float(crf.first[path[0]] + crf.last[path[-1]] + sum(rows[i, k] for i, k in enumerate(path)))
            value[path] = score + sum(float(crf.transitions[a, b]) for a, b in itertools.pairwise(path))
        norm = np.logaddexp.reduce(list(value.values()))
        best = max(value, key=value.get)
        assert found.tags == tuple(task.labels[k] for k in best)
        for word, kind in enumerate(best):
            share = np.exp(np.logaddexp.reduce([v for p, v in value.items() if p[word] == kind]) - norm)
            assert found.probs[word] == pytest.approx(share, abs=1e-4)
        total += norm - value[tuple(true.tolist())]
    assert float(term.total) == pytest.approx(total, rel=1e-4)
    assert term.count == sum(len(one.words) for one in examples)


SCHEMES = {
    "IOB1": "I-PER I-PER O I-LOC B-LOC I-LOC",
    "IOB2": "B-PER I-PER O B-LOC B-LOC I-LOC",
    "IOBES": "B-PER E-PER O S-LOC B-LOC E-LOC",
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_is_read_as_iob2(scheme, tmp_path):
    rows = zip(["Ana", "Paz", "ve", "Cádiz", "Sevilla", "Este"], SCHEMES[scheme].split(), strict=True)
    (tmp_path / "t.conll").write_text("\n".join(f"{word} X {tag}" for word, tag in rows) + "\n", encoding="utf-8")
    (one,) = tag.read(tmp_path / "t.conll", Columns(), tag.Config())
    assert one.tags == tuple(SCHEMES["IOB2"].split())
    assert tag.labels([one], tag.Config(), "here") == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    (other,) = tag.read(tmp_path / "t.conll", Columns(label="0", text="2"), tag.Config())
    assert other.tags[0] == "Ana"


@pytest.mark.parametrize(
    ("name", "text", "columns", "message"),
    [
        ("t.conll", "a B-X\nb\n", {}, r"line 2: 2 fields are wanted"),
        ("t.conll", "a B-X\nb PER\n", {}, r"line 2: 'PER' isn't a tag of spans"),
        ("t.conll", "a X\nb X\n", {}, r"has only 'X' tags"),
        ("t.conll", "a X\nb Y\n", {"label": "5"}, r"has 2 columns, and column 5"),
        ("t.conll", "a X\nb Y\n", {"text": "word"}, r"by its place, as 0, not 'word'"),
        ("t.jsonl", '{"tokens": ["a", "b"], "tags": ["O"]}\n', {}, r"line 1: 2 words and 1 tags"),
        ("t.conll", "", {}, r"has no examples|is empty"),
    ],
)
def test_bad_files_are_refused_before_work_starts(tmp_path, name, text, columns, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    given = dict(model="bert:tiny", train=tmp_path / name, dev=tmp_path / name, out=tmp_path / "m", columns=columns)
    with pytest.raises((ConfigError, DataError), match=message):
        finetune("tag", quiet=True, **given)
    assert not (tmp_path / "m").exists()


def test_unknown_tags_and_words_without_tags_are_refused():
    _, task, _ = learner(tag, "bert", tagged(8))
    with pytest.raises(DataError, match=r"dev has the label 'B-COSO', 1 times.*did you mean 'B-COSA'"):
        task.encode([TaggedExample("0", ("sol",), ("B-COSO",))], "dev", learn=True)
    with pytest.raises(DataError, match="dev: sentence 0 has 2 words and 1 tags"):
        task.encode([TaggedExample("0", ("sol", "mar"), ("O",))], "dev", learn=True)
    with pytest.raises(DataError, match="dev: sentence 0 has no words"):
        task.encode([TaggedExample("0", ())], "dev")


def test_a_word_of_which_nothing_is_left_is_the_unknown_one():
    _, reader = started("bert", pooler=False)
    (window,) = windows(reader, [TaggedExample("0", ("el", "\u200b\u0000", "gato"))], 0, last=False, where="here")
    assert window.words == (0, 1, 2)
    assert window.framed[0][window.at[1]] == reader.tokenizer.unk_id


@pytest.mark.parametrize("model", ["bert:tiny", "gpt:tiny", "lstm:tiny"])
@pytest.mark.parametrize("more", [{}, {"features": "last"}])
def test_from_columns_to_columns(tmp_path, model, more):
    lines = ["\n".join(map(" ".join, zip(one.words, one.tags, strict=True))) for one in tagged(24)]
    (tmp_path / "t.conll").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    small = ("train.epochs=1", "train.batch=8", "train.lr=1e-3", "task.crf=true")
    result = finetune(
        "tag", model=model, train=tmp_path / "t.conll", dev=tmp_path / "t.conll", out=tmp_path / "m", overrides=small,
        quiet=True, **more,
    )  # fmt: skip
    assert [one.name for one in result.scores] == ["f1", "precision", "recall", "strict f1", "tag accuracy"]
    asked = load(tmp_path / "m")
    found = asked.predict_file(tmp_path / "t.conll", tmp_path / "p.conll")
    assert asked.task.measures(tagged(24), found)["tag accuracy"].value == result.scores[4].value
    written = (tmp_path / "p.conll").read_text(encoding="utf-8").split("\n")
    assert written[0].split() == [found[0].words[0], found[0].tags[0]]
    (one,) = asked.tag("El sol, la luna.")
    assert one.words == ("El", "sol", ",", "la", "luna", ".")
    assert asked.tag([["sol", "luna"]])[0].tags == asked.tag("sol luna")[0].tags
    with pytest.raises(ConfigError, match="Sentence 1 has no words"):
        asked.tag(["sol", " "])


def test_spans_are_those_of_the_tags(tmp_path):
    model, task, heads = learner(tag, "bert", tagged(16))
    with torch.no_grad():
        heads["tag"].weight.zero_()
        heads["tag"].bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))
    checkpoint.save(tmp_path / "m", model, task.reader.tokenizer, dict(heads.items()), task.told())
    (one,) = load(tmp_path / "m").tag("sol mar")
    kind = task.labels[1].partition("-")[2]
    assert [(span.start, span.end, span.text, span.type) for span in one.spans] == [
        (0, 1, "sol", kind),
        (1, 2, "mar", kind),
    ]
