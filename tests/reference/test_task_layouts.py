"""Fine-tuned folders there and back: transformers' classes give our scores, on ours and on theirs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from task_examples import choices, numbers, questions, tagged, texts
from task_models import learner
from tiny_models import bert, wordpieces
from vocablo import checkpoint
from vocablo.api import load
from vocablo.inference.finetuned import TaskModel, task_in
from vocablo.tasks import choose, classify, regress, span, tag
from vocablo.tasks._fitting import fitted
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.tasks._words import windows

SHAPE = dict(
    vocab_size=64, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40,
    max_position_embeddings=40,
)  # fmt: skip


def ready(pooler=True, **settings):
    tokenizer = wordpieces()
    model, tokenizer = fitted(bert(tokenizer.size), tokenizer, pooler=pooler)
    return Reader(model, tokenizer, ReadSettings(**settings)), model


def theirs(folder, kind, example):
    """Logits of transformers' own class for one text or pair."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    mine = load(folder).task.reader
    ids = mine.tokenizer.encode_batch([example.text, *([example.pair] if example.pair else [])])
    framed, _ = mine.pair(*ids, "here") if example.pair else mine.single(ids[0], "here")
    assert len(tokenizer) == mine.tokenizer.size
    with torch.no_grad():
        found = model(input_ids=torch.tensor([framed[0]]), token_type_ids=torch.tensor([framed[1]]))
    return model, found.logits[0].double()


@pytest.mark.parametrize(("pairs", "several"), [(False, False), (True, False), (True, True)])
def test_they_classify_from_our_folder_as_we_do(tmp_path, pairs, several):
    examples = texts(6, pairs=pairs)
    reader, model = ready()
    task = classify.Task(reader, classify.Config(several=several), ("no", "sí", "tal vez"))
    torch.manual_seed(0)
    heads = task.heads()
    checkpoint.save(tmp_path / "m", model, reader.tokenizer, dict(heads.items()), task.told())
    again = load(tmp_path / "m")
    assert isinstance(again, TaskModel)
    for one in again.task.predict(again.model, again.heads, examples):
        example = next(e for e in examples if e.id == one.id)
        found, logits = theirs(tmp_path / "m", "BertForSequenceClassification", example)
        expected = logits.sigmoid() if several else logits.softmax(0)
        assert list(one.probs.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert list(found.config.id2label.values()) == list(one.probs)
        assert found.config.problem_type == ("multi" if several else "single") + "_label_classification"


def test_their_folder_is_asked_here(tmp_path):
    names = {0: "malo", 1: "regular", 2: "bueno"}
    config = transformers.BertConfig(**SHAPE, id2label=names, label2id={name: i for i, name in names.items()})
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    wordpieces().save(tmp_path)
    asked = load(tmp_path)
    assert asked.labels == ("malo", "regular", "bueno")
    (one,) = asked.classify("el gato come pan .")
    _, logits = theirs(tmp_path, "BertForSequenceClassification", texts(1)[0])
    (same,) = asked.task.predict(asked.model, asked.heads, texts(1))
    assert list(same.probs.values()) == pytest.approx(logits.softmax(0).tolist(), abs=1e-5)
    assert one.label in names.values()


@pytest.mark.parametrize("pairs", [False, True])
def test_they_estimate_from_our_folder_as_we_do(tmp_path, pairs):
    examples = numbers(6) if pairs else [replace(one, pair=None) for one in numbers(6)]
    model, task, heads = learner(regress, "bert", examples)
    checkpoint.save(tmp_path / "m", model, task.reader.tokenizer, dict(task.saved(heads)), task.told())
    again = load(tmp_path / "m")
    for example, one in zip(examples, again.task.predict(again.model, again.heads, examples), strict=True):
        found, logits = theirs(tmp_path / "m", "BertForSequenceClassification", example)
        assert one.value == pytest.approx(float(logits[0]), rel=1e-5)
        assert (found.config.problem_type, found.config.num_labels) == ("regression", 1)


def test_their_regression_is_asked_here(tmp_path):
    config = transformers.BertConfig(**SHAPE, num_labels=1)
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    wordpieces().save(tmp_path)
    asked = load(tmp_path)
    for example in numbers(4):
        (one,) = asked.predict(example.text, example.pair)
        _, logits = theirs(tmp_path, "BertForSequenceClassification", example)
        assert one.value == pytest.approx(float(logits[0]), abs=1e-5)


def test_their_pipelines_classify_and_estimate_from_our_folders(tmp_path):
    for module, examples in ((classify, texts(6)), (regress, numbers(6))):
        model, task, heads = learner(module, "bert", examples)
        folder = tmp_path / task.told()["vocablo_task"]["name"]
        checkpoint.save(folder, model, task.reader.tokenizer, dict(task.saved(heads)), task.told())
        pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")
        asked = load(folder)
        for example in examples:
            text = {"text": example.text} | ({"text_pair": example.pair} if example.pair else {})
            found = pipeline(text)
            (one,) = asked.predict(example.text, example.pair)
            if module is regress:
                assert found["score"] == pytest.approx(one.value, rel=1e-5)
            else:
                assert found["label"] == one.label
                assert found["score"] == pytest.approx(one.prob, abs=1e-5)


def token_logits(folder, kind, framed):
    """Scores of transformers' own class for every token of a sequence."""
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(input_ids=torch.tensor([framed[0]]), token_type_ids=torch.tensor([framed[1]]))
    return model, found


def test_they_tag_from_our_folder_as_we_do(tmp_path):
    examples = tagged(6)
    model, task, heads = learner(tag, "bert", examples)
    checkpoint.save(tmp_path / "m", model, task.reader.tokenizer, dict(heads.items()), task.told())
    again = load(tmp_path / "m")
    made = windows(again.task.reader, examples, 0, last=False, where="here")
    for window, one in zip(made, again.task.predict(again.model, again.heads, examples), strict=True):
        found, logits = token_logits(tmp_path / "m", "BertForTokenClassification", window.framed)
        best = logits.logits[0, list(window.at)].double().softmax(1).max(1)
        assert one.probs == pytest.approx(best.values.tolist(), abs=1e-5)
        assert one.tags == tuple(found.config.id2label[k] for k in best.indices.tolist())


def test_their_tagger_is_asked_here_and_their_pipeline_takes_ours(tmp_path):
    names = dict(enumerate(("O", "B-PER", "I-PER")))
    config = transformers.BertConfig(**SHAPE, id2label=names, label2id={name: i for i, name in names.items()})
    torch.manual_seed(0)
    model = transformers.BertForTokenClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    wordpieces().save(tmp_path)
    asked = load(tmp_path)
    assert asked.labels == ("O", "B-PER", "I-PER")
    checkpoint.save(tmp_path / "ours", asked.model, asked.tokenizer, asked.heads, asked.task.told())
    text = "el gato come piñones y queso"
    (one,) = asked.tag(text)
    for folder in (tmp_path, tmp_path / "ours"):
        pipeline = transformers.pipeline("token-classification", model=str(folder), device="cpu", ignore_labels=[])
        first = {found["start"]: found for found in reversed(pipeline(text))}
        starts = [text.index(word) for word in one.words]
        assert [first[start]["entity"] for start in starts] == list(one.tags)
        assert [float(first[start]["score"]) for start in starts] == pytest.approx(one.probs, abs=1e-5)


def test_they_answer_from_our_folder_as_we_do_and_we_from_theirs(tmp_path):
    examples = [replace(one, context=f"{one.context} {one.context}") for one in questions(6)]
    model, task, heads = learner(span, "bert", examples, {"stride": 8})
    checkpoint.save(tmp_path / "ours", model, task.reader.tokenizer, dict(heads.items()), task.told())
    torch.manual_seed(0)
    other = transformers.BertForQuestionAnswering(transformers.BertConfig(**SHAPE)).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_(std=0.3)
    other.save_pretrained(tmp_path / "theirs")
    wordpieces().save(tmp_path / "theirs")
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        asked = load(folder)
        encoded = asked.task.encode(examples, "here")
        best = dict.fromkeys(range(len(examples)), float("-inf"))
        assert len(encoded) > len(examples), "there are windows"
        for place, window in enumerate(encoded.values):
            begin, end = encoded.starts[place : place + 2]
            framed = (encoded.ids[begin:end].tolist(), encoded.segments[begin:end].tolist())
            _, found = token_logits(folder, "BertForQuestionAnswering", framed)
            theirs = torch.stack([found.start_logits[0], found.end_logits[0]], 1)
            with torch.no_grad():
                hidden = asked.task.reader.read(asked.model, asked.heads, encoded.tokens(np.array([place])))
                ours = asked.heads["span"](hidden.states)
            assert ours.tolist() == [pytest.approx(row, abs=1e-5) for row in theirs.tolist()]
            for i in np.flatnonzero(window.counts):
                last = min(len(window.places), i + 30)
                score = theirs[window.ahead + i, 0] + theirs[window.ahead + i : window.ahead + last, 1].max()
                best[window.example] = max(best[window.example], float(score))
        answered = asked.task.predict(asked.model, asked.heads, examples)
        assert [one.alternatives[0].score for one in answered] == pytest.approx(list(best.values()), abs=1e-4)


def test_they_choose_from_our_folder_as_we_do_and_we_from_theirs(tmp_path):
    examples = choices(6)
    model, task, heads = learner(choose, "bert", examples)
    checkpoint.save(tmp_path / "ours", model, task.reader.tokenizer, dict(heads.items()), task.told())
    torch.manual_seed(0)
    other = transformers.BertForMultipleChoice(transformers.BertConfig(**SHAPE)).eval()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.normal_(std=0.3)
    other.save_pretrained(tmp_path / "theirs")
    wordpieces().save(tmp_path / "theirs")
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        asked = load(folder)
        for example, one in zip(examples, asked.task.predict(asked.model, asked.heads, examples), strict=True):
            encoded = asked.task.encode([example], "here")
            scores = []
            for begin, end in zip(encoded.starts[:-1], encoded.starts[1:], strict=True):
                framed = (encoded.ids[begin:end].tolist(), encoded.segments[begin:end].tolist())
                scores.append(multiple_choice(folder, framed))
            assert one.probs == pytest.approx(torch.tensor(scores).double().softmax(0).tolist(), abs=1e-5)


def multiple_choice(folder, framed):
    """The score of one choice alone, by transformers' own class."""
    model = transformers.BertForMultipleChoice.from_pretrained(folder).eval()
    with torch.no_grad():
        ids, segments = (torch.tensor([[one]]) for one in framed)
        return float(model(input_ids=ids, token_type_ids=segments).logits[0, 0])


def test_a_head_that_their_class_cant_have_is_saved_in_our_layout(tmp_path):
    reader, model = ready(pooler=False, pooling="mean")
    task = classify.Task(reader, classify.Config(), ("no", "sí"))
    checkpoint.save(tmp_path / "m", model, reader.tokenizer, dict(task.heads().items()), task.told())
    assert json.loads((tmp_path / "m" / "config.json").read_text())["model_type"] == "vocablo-transformer"
    loaded = checkpoint.load(tmp_path / "m")
    assert task_in(loaded, "m")[1].reader.pooling == "mean"
