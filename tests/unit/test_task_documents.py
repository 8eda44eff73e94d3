"""Documents as examples: how they are cut into sentences and batches, what a model of them learns and refuses."""

import numpy as np
import pytest
import torch

from vocablo.base.errors import ConfigError, DataError
from vocablo.data.examples import TextExample
from vocablo.models import han
from vocablo.tasks import classify, regress
from vocablo.tasks._documents import DocumentReader
from vocablo.tasks._fitting import check_family, fitted
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._readers import reader_for
from vocablo.tasks._reading import ReadSettings
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.loop import Trainer
from vocablo.training.settings import TrainSettings

WORDS = ("sol", "luna", "mar", "río", "monte", "nube", "pan", "queso")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def documents(count=32):
    """Documents of one to three sentences whose labels follow no rule."""
    made = []
    for i in range(count):
        first = [WORDS[(i >> shift) % 8] for shift in (0, 2, 3)]
        rest = [f"La {WORDS[(3 * i + k) % 8]} y {WORDS[(i + k) % 7]}." for k in range(i % 3)]
        made.append(TextExample(str(i), " ".join([f"El {' '.join(first)}.", *rest]), None, ("sí", "no")[i * i % 5 % 2]))
    return made


def begun(examples, module=classify, **read):
    """A small model of documents, a task on it, and its heads."""
    tokenizer = Tokenizer.train("word", module.texts(examples), lowercase=True)
    torch.manual_seed(0)
    small = {"embed": {"width": 24}, "stack": {"width": 12, "context": 16}}
    model, tokenizer = fitted(
        han.build(han.config_for("han", "tiny", tokenizer.size, 64, small)), tokenizer, pooler=False
    )
    reader = reader_for(model, tokenizer, ReadSettings(**read))
    task = module.Task(reader, module.Config(), module.labels(examples, module.Config(), "here"))
    return model.eval(), task, task.heads()


def examples(*texts):
    return [TextExample(str(i), text, None, ("sí", "no")[i % 2]) for i, text in enumerate(texts)]


def test_a_document_is_its_sentences_and_a_batch_has_no_padding():
    _, task, _ = begun(documents())
    some = examples("El sol. La luna y el mar.\n\n¿Pan?", "queso")
    encoded = task.encode(some, "here", learn=True)
    assert [encoded.lengths[begin:end].tolist() for begin, end in ((0, 3), (3, 4))] == [[3, 6, 3], [1]]
    batch = task.batch(encoded, np.array([1, 0]))
    assert batch.groups.lengths == (1, 3)
    assert batch.tokens.fences.lengths == (1, 3, 6, 3)
    assert batch.targets["classify"].count == 2
    assert encoded.sizes.tolist() == [12, 1]


def test_a_prediction_depends_on_its_document_alone():
    """In whatever company, and among other examples of a training batch."""
    model, task, heads = begun(documents())
    with torch.no_grad():
        for parameter in [*model.parameters(), *heads.parameters()]:
            parameter.normal_(std=0.7)
    some = documents(12)
    together = task.predict(model, heads, some)
    for one, found in zip(some, together, strict=True):
        assert task.predict(model, heads, [one])[0].probs == pytest.approx(found.probs, abs=1e-6)
    assert len({round(one.prob, 4) for one in together}) > 6, "or all would be the same in any case"


def test_documents_of_any_length_are_read():
    model, task, heads = begun(documents())
    endless = " ".join(WORDS[i * i % 7] for i in range(10_000))
    found = task.predict(
        model, heads, examples("sol", "El sol.", endless, "Mar. " * 300, "¡¿...?!", "palabras desconocidas")
    )
    assert len(found) == 6
    assert all(np.isfinite(one.prob) and not one.cut for one in found)
    assert task.encode(examples(endless), "here").lengths.tolist() == [10_000]


def test_a_document_without_words_is_refused():
    _, task, _ = begun(documents())
    with pytest.raises(DataError, match="here: example 1 has no words"):
        task.encode(examples("El sol.", " \n\n "), "here")


def test_a_limit_of_words_cuts_the_end_and_says_so(capsys):
    _, task, _ = begun(documents(), context=5)
    encoded = task.encode(examples("El sol. La luna y el mar. Pan.", "El sol."), "here")
    assert encoded.lengths.tolist() == [3, 2, 3]
    assert encoded.cut.tolist() == [True, False]
    assert "the ends of 1 examples" in capsys.readouterr().err
    _, task, _ = begun(documents(), context=5, long="error")
    with pytest.raises(DataError, match="example 0 has 7 tokens and 5 fit"):
        task.encode(examples("El sol. La luna y.", "El sol."), "here")


def test_what_is_learnt_from_at_once_is_bounded_in_words(monkeypatch):
    monkeypatch.setattr(DocumentReader, "most", 60)
    _, task, heads = begun(documents())
    encoded = task.encode(documents(), "here", learn=True)
    lesson = Lesson(task, encoded, heads, seed=0, batch=32, micro=16)
    parts = lesson.micro_batches(0)
    assert sum(batch.groups.count for batch in parts) == 32
    assert all(batch.tokens.fences.total <= 60 and batch.groups.count <= 16 for batch in parts)
    assert len(parts) > 2
    monkeypatch.setattr(DocumentReader, "most", 1)
    assert len(lesson.micro_batches(0)) == 32, "one alone may be longer"
    assert sum(batch.groups.count for batch in lesson.validation(encoded)) == 32


def test_the_gradient_of_a_step_is_the_same_however_it_is_cut(monkeypatch):
    found = []
    for most in (1 << 15, 40):
        monkeypatch.setattr(DocumentReader, "most", most)
        model, task, heads = begun(documents())
        lesson = Lesson(task, task.encode(documents(), "here", learn=True), heads, seed=0, batch=32)
        step = next(iter(Trainer(model, lesson, TrainSettings(steps=1, batch=32))))
        found.append((step.loss, model.words.gru.layers[0].weight_hh_l0.detach().clone()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("module", [classify, regress])
def test_it_memorises_32_documents(module):
    """Of eight seeds none needed more than 101 steps, and 300 are allowed."""
    some = documents()
    if module is regress:
        some = [TextExample(one.id, one.text, None, 1000.0 + 37 * (int(one.id) * 7 % 37)) for one in some]
    model, task, heads = begun(some, module, dropout=0.0)
    task.prepare(some, heads, fresh=True)
    lesson = Lesson(task, task.encode(some, "here", learn=True), heads, seed=0, batch=32)

    def right():
        return next(iter(task.measures(some, task.predict(model, lesson.heads, some)).values())).value

    settings = TrainSettings(steps=300, batch=32, lr=5e-3, warmup=10, weight_decay=0.0)
    assert any(step.loss < 0.05 and right() > 1 - 1e-9 for step in Trainer(model, lesson, settings))


def test_what_does_not_fit_documents_is_refused():
    model, task, _ = begun(documents())
    with pytest.raises(ConfigError, match="one text, not a pair"):
        task.encode([TextExample("0", "El sol.", "La luna.", "sí")], "here")
    with pytest.raises(ConfigError, match=r"read\.pooling .*stack\.pooling"):
        reader_for(model, task.reader.tokenizer, ReadSettings(pooling="mean"))
    with pytest.raises(ConfigError, match=r"tag needs a model .*'document'"):
        check_family(model, "tag")
    check_family(model, "classify", documents=True)
