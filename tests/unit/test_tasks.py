"""What the tasks share: how models are fitted, examples framed and cut, and steps made; then classification itself."""

import numpy as np
import pytest
import torch

import task_models
from task_examples import texts
from task_models import FAMILIES, started
from tiny_models import bert, counted, gpt, kind
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Tokens
from vocablo.data.examples import TextExample
from vocablo.models import rnn
from vocablo.tasks import classify
from vocablo.tasks._fitting import check_family, fitted, grown
from vocablo.tasks._lesson import Lesson
from vocablo.tasks._reading import Reader, ReadSettings
from vocablo.tasks._task import passes


def learner(family, examples, several=False, **settings):
    return task_models.learner(classify, family, examples, {"several": several}, **settings)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fitted_model_gives_the_states_of_the_model_it_was(family):
    build, tokenizer = FAMILIES[family]
    tokenizer = tokenizer()
    before = build(tokenizer.size)
    after, grown_tokenizer = fitted(before, tokenizer, pooler=True)
    tokens = Tokens.of([[3, 5, 4, 3], [5, 6]])
    with torch.no_grad():
        torch.testing.assert_close(after.eval()(tokens).states, before(tokens).states)
    added = grown_tokenizer.size - tokenizer.size
    assert added == {"bert": 0, "bilstm": 1}.get(family, 2), "the delimiter and the extract token"
    assert after.vocab == grown_tokenizer.size
    assert grown_tokenizer.encode("el gato").ids == tokenizer.encode("el gato").ids


def test_an_encoder_without_a_pooler_gets_a_fresh_one_and_one_with_keeps_it():
    model = bert(40)
    again = model.trimmed(pooler=True)
    torch.testing.assert_close(again.pooler.weight, model.pooler.weight)
    bare = model.trimmed(pooler=False)
    assert bare.pooler is None
    assert bare.head is None
    assert float(bare.trimmed(pooler=True).pooler.weight.detach().std()) == pytest.approx(0.02, rel=0.3)


def test_a_grown_vocabulary_keeps_its_rows():
    model = gpt(20)
    larger = grown(model, 23)
    torch.testing.assert_close(larger.tokens.weight[:20], model.tokens.weight)
    assert larger.head.weight.shape[0] == 23


def test_a_family_without_states_is_refused_naming_what_fits():
    with pytest.raises(ConfigError, match=r"classify needs a model .*rnn, gru, lstm.*GPT.*BERT.* counted"):
        check_family(counted(kind("word")), "classify")


@pytest.mark.parametrize(
    ("a", "b", "kept"), [(3, 4, (3, 4)), (2, 20, (2, 8)), (20, 2, (8, 2)), (20, 20, (5, 5)), (6, 5, (5, 5))]
)
def test_of_a_pair_the_longer_text_is_cut(a, b, kept):
    _, reader = started("bert", context=13)
    (ids, segments), cut = reader.pair([7] * a, [8] * b, "here")
    assert (ids.count(7), ids.count(8)) == kept
    assert cut == (a + b > 10)
    assert len(ids) <= 13
    assert segments.count(1) == kept[1] + 1, "the second text and its separator"


def test_long_texts_are_an_error_where_that_is_asked_for():
    _, reader = started("bert", context=8, long="error")
    with pytest.raises(DataError, match=r"the train file: example 3 has 7 tokens and 6 fit: .*read.long=cut"):
        reader.single([5] * 7, "the train file: example 3")


def test_a_context_beyond_the_models_is_refused():
    with pytest.raises(ConfigError, match=r"read.context is 64, and the model reads at most 32"):
        started("bert", context=64)


def test_frames_from_the_left_are_those_of_gpt_1():
    _, reader = started("gpt")
    tokenizer = reader.tokenizer
    (ids, segments), _ = reader.pair([7, 8], [9], "here")
    assert ids == [tokenizer.end_id, 7, 8, tokenizer.sep_id, 9, tokenizer.cls_id]
    assert not any(segments)


@pytest.mark.parametrize("pooling", ["first", "last", "mean", "max", "attention", "han", "auto"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_examples_alone(family, pooling):
    examples = texts(9, pairs=True)
    model, task, heads = learner(family, examples, pooling=pooling)
    together = task.predict(model, heads, examples)
    for example, one in zip(examples, together, strict=True):
        (alone,) = task.predict(model, heads, [example])
        assert alone.probs == pytest.approx(one.probs, abs=1e-5)
        assert one.id == example.id


def test_a_bilstm_reads_texts_as_they_are_and_ends_where_each_direction_ends():
    model, task, heads = learner("bilstm", texts(3), pooling="last")
    reader, ids = task.reader, task.reader.tokenizer.encode("el gato").ids
    assert reader.single(ids, "here")[0][0] == ids
    assert reader.pair(ids, ids[:1], "here")[0][0] == [*ids, reader.tokenizer.sep_id, ids[0]]
    hidden = reader.read(model, heads, Tokens.of([ids]))
    half = model.config.stack.width
    torch.testing.assert_close(hidden.pooled[0], torch.cat([hidden.states[-1, :half], hidden.states[0, half:]]))
    with pytest.raises(DataError, match="example 4 has no tokens: leave it out"):
        reader.single([], "here: example 4")


def test_a_pooling_that_has_no_use_is_refused():
    with pytest.raises(ConfigError, match=r"no pooler: take read.pooling last"):
        started("bilstm", pooling="pooler")
    with pytest.raises(ConfigError, match=r"Features have no pooler"):
        started("bert", pooling="pooler", features="last")
    with pytest.raises(ConfigError, match=r"tells of its tokens: leave it out"):
        started("bert", pooler=False, pooling="max")[1].heads(whole=False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("features", ["embeddings", "last"])
def test_features_are_as_wide_as_the_layer_that_they_read(family, features):
    """An LSTM's embeddings may be narrower than its states."""
    if "lstm" in family:
        changes = {"stack": {"layers": 1, "width": 9}, "embed": {"width": 7}}
        model = rnn.build(rnn.config_for(family, "tiny", 30, 32, changes))
        model, tokenizer = fitted(model, kind("word"), pooler=False)
        reader = Reader(model.eval(), tokenizer, ReadSettings(features=features, pooling="max"))
    else:
        model, reader = started(family, pooler=False, features=features, pooling="max")
    tokens = Tokens.of([[3, 5, 4], [5]])
    hidden = reader.read(model, reader.heads(), tokens)
    assert hidden.states.shape == (4, reader.width)
    torch.testing.assert_close(hidden.pooled[0], hidden.states[:3].amax(0))


def test_mean_pooling_is_the_mean_of_the_states():
    model, task, heads = learner("bert", texts(5), pooling="mean")
    encoded = task.encode(texts(5), "here")
    for which, hidden, fences, _ in passes(task.reader, model, heads, encoded):
        means = torch.stack([part.mean(0) for part in hidden.states.split(list(fences.lengths))])
        torch.testing.assert_close(hidden.pooled, means)
        assert sorted(which) == list(range(5))


@pytest.fixture
def lesson():
    examples = texts(21)
    _, task, heads = learner("bert", examples)
    return lambda **changes: Lesson(
        task, task.encode(examples, "here", learn=True), heads, **({"seed": 0, "batch": 8} | changes)
    )


def test_the_examples_of_a_step_dont_depend_on_micro_batches_or_ranks(lesson):
    whole = lesson()
    for step in range(2 * whole.steps_per_epoch):
        wanted = sorted(whole.examples(step).tolist())
        for micro, world in [(8, 1), (3, 1), (3, 2), (8, 4)]:
            parts = [lesson(micro=micro).micro_batches(step, rank, world) for rank in range(world)]
            batches = [batch for part in parts for batch in part]
            assert sum(batch.tokens.fences.count for batch in batches) == len(wanted)
            assert all(batch.tokens.fences.count <= micro for batch in batches)
        lengths = whole.micro_batches(step)[0].tokens.fences.lengths
        assert list(lengths) == sorted(lengths)


def test_an_epoch_has_every_example_once_in_a_new_order(lesson):
    one = lesson()
    epochs = [[one.examples(3 * epoch + step).tolist() for step in range(3)] for epoch in range(2)]
    assert [len(step) for step in epochs[0]] == [8, 8, 5]
    for epoch in epochs:
        assert sorted(one for step in epoch for one in step) == list(range(21))
    assert epochs[0] != epochs[1]
    assert lesson(seed=1).examples(0).tolist() != epochs[0][0]


def test_validation_has_every_example_once(lesson):
    one = lesson(micro=4)
    batches = list(one.validation(one.encoded))
    assert sum(batch.targets["classify"].count for batch in batches) == 21
    assert len(list(one.validation(one.encoded, batches=2))) == 2


def test_several_labels_are_as_many_decisions():
    examples = [
        TextExample(one.id, one.text, None, tuple(name for i, name in enumerate("abc") if int(one.id) >> i & 1))
        for one in texts(16)
    ]
    model, task, heads = learner("bert", examples, several=True)
    encoded = task.encode(examples, "here", learn=True)
    batch = task.batch(encoded, np.arange(16))
    term = task.terms(model, heads, batch)["classify"]
    assert term.count == 16 * 3
    predictions = task.predict(model, heads, examples)
    loss = sum(
        -np.log(prob if name in (example.label or ()) else 1 - prob)
        for example, one in zip(examples, predictions, strict=True)
        for name, prob in one.probs.items()
    )
    with torch.no_grad():
        assert float(task.terms(model, heads, batch)["classify"].total) == pytest.approx(loss, rel=1e-4)
    for one in predictions:
        assert set(one.label) == {name for name, prob in one.probs.items() if prob >= 0.5}
    assert set(task.measures(examples, predictions)) == {"micro f1", "macro f1", "accuracy"}


def test_the_auxiliary_loss_is_the_language_models():
    examples = texts(6)
    model, task, heads = learner("gpt", examples, language=0.5)
    assert task.names == ("classify", "language")
    batch = task.batch(task.encode(examples, "here", learn=True), np.arange(6))
    with torch.no_grad():
        term = task.terms(model, heads, batch)["language"]
        expected = 0.0
        hidden = model(batch.tokens).states
        for start, stop in zip(batch.tokens.fences.starts()[:-1], batch.tokens.fences.starts()[1:], strict=True):
            logits = model.logits(hidden[start : stop - 1]).log_softmax(1)
            expected -= float(logits.gather(1, batch.tokens.ids[start + 1 : stop, None]).sum())
    assert float(term.total) == pytest.approx(expected, rel=1e-4)
    assert (term.count, term.weight) == (len(batch.tokens.ids) - 6, 0.5)


def test_the_auxiliary_loss_is_for_models_that_read_from_the_left():
    with pytest.raises(ConfigError, match=r"leave (read\.)?language out"):
        started("bert", language=0.5)


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([TextExample("0", "a", None, "x")] * 2, "only 'x' as a label"),
        ([TextExample("0", "a", None, "x"), TextExample("1", "b", "c", "y")], "pairs of texts and single ones"),
        ([TextExample("0", "a", None, "x"), TextExample("1", "b", None, None)], "example 1 has no label"),
    ],
)
def test_bad_examples_are_refused(examples, message):
    with pytest.raises(DataError, match=message):
        learner("bert", examples)[1].encode(examples, "here", learn=True)


def test_unknown_labels_of_held_out_examples_are_named():
    _, task, _ = learner("bert", texts(8))
    with pytest.raises(DataError, match=r"dev.csv has the label 'talvez', 1 times, .*did you mean 'tal vez'"):
        task.encode([TextExample("0", "a", None, "talvez")], "dev.csv", learn=True)


def test_measures_of_two_labels_know_the_positive_one():
    examples = texts(30, labels=("0", "1"))
    model, task, heads = learner("bert", examples)
    found = task.measures(examples, task.predict(model, heads, examples))
    assert next(iter(found)) == "accuracy"
    assert {"f1", "matthews", "macro f1"} <= set(found)
