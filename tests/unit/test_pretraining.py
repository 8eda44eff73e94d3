"""Pre-training of encoders: the pretext chosen, exact resumption with a head, training further, and warnings."""

import json
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch

from vocablo import api, checkpoint
from vocablo.base.errors import ConfigError, DataError
from vocablo.contract import Fences, Tokens
from vocablo.data.duplicates import repeated
from vocablo.data.grammar import Grammar
from vocablo.data.store import Store
from vocablo.text.templates import Template
from vocablo.text.tokenizer import Tokenizer
from vocablo.training import pretrain as pretraining
from vocablo.training.loop import Step
from vocablo.training.material import Material, remark_on_repeats
from vocablo.training.recipe import resolve
from vocablo.training.watchers import Plateau, Watcher, standard

SMALL = ["context=24", "train.batch=8", "train.micro=4", "model.stack.width=16", "model.stack.layers=1", "model.attention.heads=2"]  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Thirty documents of ten sentences each."""
    folder = tmp_path_factory.mktemp("texts")
    lines = [line.capitalize() for line in islice(Grammar().text(0, 300), 300)]
    for number in range(30):
        (folder / f"{number:02}.txt").write_text(" ".join(lines[number * 10 : number * 10 + 10]), encoding="utf-8")
    return folder


def pretrain(family, texts, out, *overrides, steps=6, **more):
    changes = [*(SMALL if not more.get("init_from") else SMALL[:3]), "train.evaluate_every=3", *overrides]
    return api.pretrain(family, text=texts, out=out, steps=steps, overrides=changes, quiet=True, **more)


def outcome(out):
    """Tensors of the last checkpoint and the metrics without their times."""
    last = sorted((out / "run" / "steps").iterdir())[-1]
    tensors = {
        f"{path.name}/{name}": tensor
        for path in sorted(last.glob("*.safetensors"))
        for name, tensor in safetensors.torch.load_file(path).items()
    }
    lines = [json.loads(line) for line in (out / "run" / "metrics.jsonl").read_text().splitlines()]
    return tensors, [{k: v for k, v in line.items() if "second" not in k} for line in lines]


class Killed(BaseException):
    """Stands for kill -9."""


class KillAt(Watcher):
    def __init__(self, step):
        self.step = step

    def __call__(self, step):
        if step.step == self.step:
            raise Killed


@pytest.mark.parametrize("name", ["masked", "bert", "albert"])
def test_a_run_killed_at_any_step_ends_like_an_uninterrupted_one(name, texts, tmp_path, monkeypatch):
    changes = [f"pretext.name={name}", "model.dropout=0.1", "train.save_every=2"]
    pretrain("bert", texts, tmp_path / "whole", *changes)
    whole = outcome(tmp_path / "whole")
    for step in (1, 5):
        out = tmp_path / f"killed-{step}"
        with monkeypatch.context() as patch:
            killing = lambda *a, s=step, **k: [*standard(*a, **k), KillAt(s)]  # noqa: E731
            patch.setattr(pretraining, "standard", killing)
            with pytest.raises(Killed):
                pretrain("bert", texts, out, *changes)
        api.pretrain("bert", out=out, resume=True, quiet=True)
        tensors, lines = outcome(out)
        assert lines == whole[1]
        assert tensors.keys() == whole[0].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, whole[0][key]), key


def test_berts_objective_from_text_to_transformers(texts, tmp_path):
    transformers = pytest.importorskip("transformers")
    result = pretrain("bert", texts, tmp_path / "m")
    assert result.pretext == "bert"
    assert result.perplexity_of == "masked"
    (seed,) = result.seeds
    assert set(seed.terms) == {"masked", "next_sentence"}
    assert seed.validation_loss == pytest.approx(sum(seed.terms.values()))
    assert result.perplexity == pytest.approx(np.exp(seed.terms["masked"]))
    assert 0 <= seed.accuracy["next_sentence"] <= 1
    lines = [line for line in outcome(tmp_path / "m")[1] if "validation_loss" in line]
    assert [line["step"] for line in lines] == [3, 6]
    assert lines[-1]["validation_perplexity"] == pytest.approx(np.exp(lines[-1]["validation_loss_masked"]))
    assert {"validation_loss_next_sentence", "validation_accuracy_next_sentence"} <= lines[0].keys()
    report = (tmp_path / "m" / "run" / "report.html").read_text(encoding="utf-8")
    assert "Parts of the validation loss" in report
    assert "Validation accuracy" in report

    loaded = checkpoint.load(tmp_path / "m")
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path / "m").eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "m")
    text = "El gato come el queso."
    encoded = their_tokenizer(text, "La luna brilla.", return_tensors="pt")
    tokenizer = loaded.tokenizer
    ids, segments = Template.of(tokenizer).pair(*tokenizer.encode_batch([text, "La luna brilla."]))
    assert (ids, segments) == (encoded.input_ids[0].tolist(), encoded.token_type_ids[0].tolist())
    tokens = Tokens(torch.tensor(ids), Fences.of([len(ids)]), torch.arange(len(ids)), torch.tensor(segments))
    with torch.no_grad():
        hidden, out = loaded.model(tokens), theirs(**encoded)
        torch.testing.assert_close(loaded.model.logits(hidden.states), out.prediction_logits[0], atol=1e-5, rtol=1e-5)
        head = loaded.heads["next_sentence"](hidden.pooled)
    torch.testing.assert_close(head, out.seq_relationship_logits, atol=1e-5, rtol=1e-5)


def test_the_closing_perplexity_has_the_units_that_the_perplexity_verb_finds(tmp_path):
    text, unseen = tmp_path / "text.txt", tmp_path / "unseen.txt"
    for path, first in ((text, 0), (unseen, 300)):
        lines = [line.capitalize() for line in islice(Grammar().text(0, first + 300), first, first + 300)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    data = {"documents": "line", "validation_text": [unseen]}
    for family, more, bytes_too in (
        ("gpt", {"overrides": [*SMALL, "data.order=documents", "context=512", "tokenizer.vocab=300"], "steps": 3}, True),
        ("gpt", {"overrides": [*SMALL, "data.order=documents", "context=512", "tokenizer.lowercase=true"], "steps": 3}, False),
        ("ngram", {}, False),
    ):  # fmt: skip
        out = tmp_path / f"{family}-{bytes_too}"
        result = api.pretrain(family, text=text, out=out, data=data, quiet=True, **more)
        found = api.load(out).perplexity(unseen, documents="line")
        assert result.word_perplexity == pytest.approx(found.word_perplexity, rel=1e-4)
        assert result.perplexity == pytest.approx(found.perplexity, rel=1e-4)
        assert (found.bits_per_byte is not None) is bytes_too
        assert result.bits_per_byte == (pytest.approx(found.bits_per_byte, rel=1e-4) if bytes_too else None)
    masked = pretrain("bert", text, tmp_path / "bert", "pretext=masked", data=data, steps=1)
    assert masked.perplexity is not None
    assert masked.word_perplexity is masked.bits_per_byte is None


def test_several_seeds_and_a_dry_run(texts, tmp_path):
    result = pretrain("bert", texts, tmp_path / "m", seeds=(1, 2), steps=3)
    assert [one.seed for one in result.seeds] == [1, 2]
    assert result.perplexity_deviation > 0
    planned = pretrain("bert", texts, None, dry_run=True)
    assert planned.plan.steps == 6
    assert planned.plan.parameters > planned.parameters, "the head of the pairs is trained too"


def test_training_further_keeps_model_tokenizer_and_head(texts, tmp_path):
    first = pretrain("bert", texts, tmp_path / "first", "model.dropout=0.0")
    before = checkpoint.load(tmp_path / "first")
    again = pretrain("bert", texts, tmp_path / "again", "train.lr=1e-9", init_from=tmp_path / "first", steps=2)
    after = checkpoint.load(tmp_path / "again")
    assert after.tokenizer.hash == before.tokenizer.hash
    assert after.config["model_type"] == "bert"
    assert again.perplexity == pytest.approx(first.perplexity, rel=1e-3)
    torch.testing.assert_close(
        after.heads["next_sentence"].state_dict(), before.heads["next_sentence"].state_dict(), atol=1e-6, rtol=1e-6
    )
    for name, tensor in after.model.state_dict().items():
        torch.testing.assert_close(tensor, before.model.state_dict()[name], atol=1e-6, rtol=1e-6)
    recipe = (tmp_path / "again" / "run" / "recipe.toml").read_text(encoding="utf-8")
    assert f'init_from = "{tmp_path / "first"}"' in recipe
    assert "size" not in recipe
    assert "warmup = 0.02" in recipe, "bert-continued's"
    # A resumed run has its own copy of where it began.
    (tmp_path / "first").rename(tmp_path / "gone")
    assert api.pretrain("bert", out=tmp_path / "again", resume=True, quiet=True).seeds[0].steps == 2


def test_training_further_on_the_masks_alone_and_from_a_decoder(texts, tmp_path):
    pretrain("bert", texts, tmp_path / "bert", steps=2)
    pretrain("bert", texts, tmp_path / "more", "pretext=masked", init_from=tmp_path / "bert", steps=2)
    assert checkpoint.load(tmp_path / "more").heads == {}
    pretrain("gpt", texts, tmp_path / "gpt", steps=2)
    pretrain("gpt", texts, tmp_path / "gpt2", init_from=tmp_path / "gpt", steps=2)
    for family, start, more, words in (
        ("gpt", "bert", {}, "of the family 'bert', not 'gpt'"),
        ("bert", "bert", {"size": "mini"}, "size can't be chosen"),
        ("bert", "bert", {"overrides": ["model.stack.layers=3"]}, "model.stack.layers can't be chosen"),
        ("bert", "bert", {"overrides": ["tokenizer.vocab=300"]}, "tokenizer.vocab can't be chosen"),
        ("bert", "bert", {"tokenizer": tmp_path / "gpt"}, "isn't the tokenizer of"),
        ("bert", "bert", {"overrides": ["context=25"]}, "context is 25, and the model reads at most 24"),
    ):
        with pytest.raises(ConfigError, match=words):
            api.pretrain(
                family, text=texts, out=tmp_path / "never", init_from=tmp_path / start, steps=2, quiet=True, **more
            )
        assert not (tmp_path / "never" / "run" / "state.json").exists()


def test_heads_left_out_fresh_or_not_trained_are_named_in_one_note(texts, tmp_path, capsys):
    def notes(name, start, *overrides, quiet=False):
        capsys.readouterr()
        api.pretrain(
            "bert", text=texts, out=tmp_path / name, init_from=tmp_path / start, steps=1, seeds=(1, 2),
            overrides=[*SMALL[:3], *overrides], quiet=quiet,
        )  # fmt: skip
        lines = [line for line in capsys.readouterr().err.splitlines() if "heads of" in line]
        return [line.partition("/" + start)[2] for line in lines]

    pretrain("bert", texts, tmp_path / "bert", steps=1)
    dropped = ", left out: next_sentence; kept and not trained: pooler"
    assert notes("masked", "bert", "pretext=masked") == [dropped], "once, whatever the number of seeds"
    assert notes("again", "bert") == []
    assert notes("back", "masked/seed-1") == [", not in it and therefore fresh: next_sentence"]
    assert notes("pairs", "bert", "pretext=next_sentence") == [", kept and not trained: output layer"]
    albert = ", left out: next_sentence; not in it and therefore fresh: sentence_order"
    assert notes("albert", "bert", "pretext=albert") == [albert]
    assert notes("silent", "bert", "pretext=masked", quiet=True) == []


@pytest.mark.parametrize(
    ("family", "overrides", "words"),
    [
        ("gpt", ["pretext=masked"], "'masked' isn't for gpt, which reads 'left'"),
        ("bert", ["pretext=causal"], "'causal' isn't for bert, which reads 'both'"),
        ("bert", ["pretext=maskd"], "did you mean 'masked'"),
        ("bert", ["pretext.rat=0.2"], "did you mean 'rate'"),
        ("bert", ["pretext=masked", "data.order=carried"], "order: .*'sentences'.*'carried'"),
        ("bert", ["pretext.mask=0.95", "pretext.random=0.1"], "at most 1 together"),
        ("bert", ["tokenizer.kind=bpe"], "no cls and sep token"),
        ("bert", ["train.sample_every=2"], "doesn't write text"),
        ("ngram", ["pretext.name=masked"], "is counted and has no pretext"),
    ],
)
def test_what_can_not_be_is_refused(family, overrides, words, texts, tmp_path):
    small = SMALL if family != "ngram" else []
    with pytest.raises(ConfigError, match=words):
        api.pretrain(family, text=texts, out=tmp_path / "m", steps=None if family == "ngram" else 2,
                     overrides=[*small, *overrides], quiet=True)  # fmt: skip


def test_one_document_is_refused_with_the_way_out(texts, tmp_path):
    with pytest.raises(DataError, match=r"is one document.*pretext.name=masked"):
        pretrain("bert", texts / "00.txt", tmp_path / "m")
    lines = tmp_path / "lines.txt"
    lines.write_text("El gato come.\nLa luna brilla.\n" * 30, encoding="utf-8")
    with pytest.raises(DataError, match=r"documents of one sentence.*--documents"):
        pretrain("bert", lines, tmp_path / "l", data={"documents": "line"})


def test_the_pretext_of_a_later_layer_brings_its_own_settings(tmp_path):
    recipe = tmp_path / "r.toml"
    recipe.write_text('family = "bert"\n[pretext]\nname = "bert"\nshort = 0.3\nrate = 0.2\n')
    of = lambda *texts: resolve("bert", recipe=str(recipe), given={}, overrides=texts)[0].pretext  # noqa: E731
    assert of() == {"name": "bert", "short": 0.3, "rate": 0.2}
    assert of("pretext.rate=0.4") == {"name": "bert", "short": 0.3, "rate": 0.4}
    assert of("pretext=masked") == {"name": "masked"}
    assert of("pretext.name=masked", "pretext.rate=0.4") == {"name": "masked", "rate": 0.4}


@pytest.mark.parametrize(
    ("family", "rate", "further"), [("bert", 1e-3, 1e-4), ("gpt", 1e-3, 1e-4), ("lstm", 2e-3, 2e-3)]
)
def test_a_model_trained_further_has_the_recipe_for_it_and_a_fresh_one_the_familys(family, rate, further):
    of = lambda **given: resolve(family, recipe=None, given=given, overrides=[])  # noqa: E731
    fresh, origin = of()
    assert (fresh.train.lr, origin["train.lr"]) == (rate, f"recipe {family}")
    again, origin = of(init_from="model")
    own = family if family == "lstm" else f"{family}-continued"
    assert (again.train.lr, origin["train.lr"]) == (further, f"recipe {own}")
    same = {"context", "pretext", "data"}
    assert again.model_dump(include=same) == fresh.model_dump(include=same)
    changed = {key for key, value in again.train.model_dump().items() if value != getattr(fresh.train, key)}
    assert changed <= {"lr", "warmup"}, "everything else is as it was"
    if own != family:
        with pytest.raises(ConfigError, match=f"'{own}' trains a model further.*--from"):
            resolve(family, recipe=own, given={}, overrides=[])


def plateau(losses, total, bound=6.5):
    """The warnings of a run whose masked losses are these."""
    told = []
    watcher = Plateau(quiet=True)
    watcher.session = SimpleNamespace(
        pretext=SimpleNamespace(plateau=lambda: ("masked", bound)), ranks=SimpleNamespace(first=True), total=total,
        settings=SimpleNamespace(lr=1e-5, batch=2), record=lambda **line: told.append(line),
    )  # fmt: skip
    watcher.begin()
    for number, loss in enumerate(losses, 1):
        watcher(Step(number, loss, {"masked": loss}, 1, 0.1, 0.1, 0.1))
    return told


def test_a_loss_that_stays_on_the_plateau_is_warned_of_once():
    (line,) = plateau([9 - min(2.4, step / 50) for step in range(1000)], 1000)
    assert line["step"] == 500
    assert "6.60" in line["warning"]
    assert "6.50" in line["warning"]
    assert "larger lr (now 1e-05)" in line["warning"]
    assert plateau([9 - min(4, step / 50) for step in range(1000)], 1000) == []
    assert plateau([9.0] * 100, 100) == [], "a run of a few steps says nothing"


def test_repeated_sentences_are_found_and_remarked_on(capsys):
    one = "El gato negro come mucho pan con queso fresco. "
    other = [f"La luna número {number} brilla sobre la casa del perro blanco. " for number in range(5)]
    texts = [one + "".join(other), "Sí. " * 20 + one, one]
    tokenizer = Tokenizer.train("word", texts)
    store = Store.from_documents(texts, tokenizer)
    found = repeated(store)
    assert found.times == 3
    assert tokenizer.decode(found.most).startswith("El gato negro")
    assert found.share == pytest.approx(2 * len(tokenizer.encode(one.strip()).ids) / len(store))
    remark_on_repeats(Material(tokenizer, store, None))
    assert "3 times: 'El gato negro" in capsys.readouterr().err
    fresh = Store.from_documents(["".join(other)], tokenizer)
    assert repeated(fresh).share == 0
    remark_on_repeats(Material(tokenizer, fresh, None))
    assert capsys.readouterr().err == ""
    assert repeated(store.part(1, 3)).times == 2
    assert repeated(Store.from_documents([""], tokenizer)).share == 0
