"""The bidirectional pretext: its pairs by hand, each token once from each side, a loss that can be learnt, exact resuming."""

import itertools
import math

import numpy as np
import pytest
import torch

from vocablo.base.errors import ConfigError, DataError
from vocablo.data.store import Store
from vocablo.models import elmo
from vocablo.pretexts import bidirectional
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.run import RunFolder
from vocablo.training.settings import TrainSettings
from vocablo.training.train import train
from vocablo.training.watchers import Watcher, standard

TEXTS = [
    "El gato come pan. La gata come queso.",
    "El perro mira la luna. La luna mira el pan. ¡Ya!",
    "La niña comió piñones en Cádiz.",
]


@pytest.fixture(scope="module")
def material() -> tuple[Tokenizer, Store]:
    tokenizer = Tokenizer.train("word", TEXTS)
    return tokenizer, Store.from_documents(TEXTS, tokenizer)


def pretext(material, order="sentences", batch=4, micro=None, context=32, seed=0):
    tokenizer, store = material
    settings = bidirectional.Config(order=order)
    return bidirectional.Pretext(
        store, settings, tokenizer=tokenizer, seed=seed, batch=batch, micro=micro, context=context
    )


def small(vocab: int, **stack):
    torch.manual_seed(0)
    return elmo.build(elmo.config_for("elmo", "tiny", vocab, 16, {"stack": {"width": 32, "dropout": 0.0} | stack}))


def test_the_pairs_of_a_sentence_by_hand(material) -> None:
    tokenizer, store = material
    made = pretext(material, batch=1)
    batch = next(iter(made.validation(store)))
    end = tokenizer.end_id
    el, gato, come, pan, dot = tokenizer.encode("El gato come pan.").ids
    assert batch.tokens.ids.tolist() == [end, el, gato, come, pan, dot, end]
    forward, backward = batch.targets["forward"], batch.targets["backward"]
    assert forward.at.tolist() == [0, 1, 2, 3, 4, 5]
    assert forward.value.tolist() == [el, gato, come, pan, dot, end]
    assert backward.at.tolist() == [1, 2, 3, 4, 5, 6]
    assert backward.value.tolist() == [end, el, gato, come, pan, dot]


@pytest.mark.parametrize("order", ["sentences", "documents", "shuffled"])
@pytest.mark.parametrize("context", [5, 32])
def test_every_token_is_told_once_from_each_side(material, order, context) -> None:
    tokenizer, store = material
    if order == "shuffled" and context == 32:
        context = 16
    made = pretext(material, order, batch=3, micro=2, context=context)
    counts = {name: np.zeros(tokenizer.size, dtype=int) for name in made.names}
    for step in range(made.steps_per_epoch):
        for batch in made.micro_batches(step):
            assert max(batch.tokens.fences.lengths) <= context
            for name, target in batch.targets.items():
                np.add.at(counts[name], target.value.numpy(), 1)
                assert target.count == len(target.value)
    expected = np.bincount(store.tokens, minlength=tokenizer.size)
    rows = made.count
    for name in made.names:
        words = counts[name].copy()
        if order == "shuffled":  # boundaries of the stream are in it as well
            assert words[tokenizer.end_id] == expected[tokenizer.end_id] + rows
        else:
            assert words[tokenizer.end_id] == rows
        words[tokenizer.end_id] = expected[tokenizer.end_id]
        assert (words == expected).all()


def test_a_step_is_the_same_however_it_is_split(material) -> None:
    whole = pretext(material).micro_batches(1)
    parts = [batch for rank in range(2) for batch in pretext(material, micro=1).micro_batches(1, rank, 2)]
    joined = torch.cat([batch.tokens.ids for batch in parts])
    assert torch.equal(whole[0].tokens.ids, joined)


def test_the_loss_is_the_sum_of_both_directions_one_by_one(material) -> None:
    """Against a softmax over the whole vocabulary, read anew for each token from its own prefix or suffix alone."""
    from vocablo.contract import Tokens

    tokenizer, store = material
    model = small(tokenizer.size, layers=2).eval()
    made = pretext(material)
    made.attach(model, {})
    batch = next(iter(made.validation(store)))
    with torch.no_grad():
        terms, _ = made.terms(model, batch, None)
        sums = {"forward": 0.0, "backward": 0.0}
        starts = batch.tokens.fences.starts()
        for begin, end in itertools.pairwise(starts):
            ids = batch.tokens.ids[begin:end].tolist()
            for i in range(1, len(ids)):
                states = model(Tokens.of([ids[:i]])).states  # it ends before the target
                sums["forward"] -= float(model.logits(states[-1:], "forward").log_softmax(1)[0, ids[i]])
                states = model(Tokens.of([ids[i:]])).states  # it begins behind the target
                sums["backward"] -= float(model.logits(states[:1], "backward").log_softmax(1)[0, ids[i - 1]])
    for name, total in sums.items():
        assert float(terms[name].total) == pytest.approx(total, rel=1e-5)
        assert terms[name].count == sum(length - 1 for length in batch.tokens.fences.lengths)


def test_32_sentences_are_memorised() -> None:
    """Far below the entropy that is left by the words alone; 100 steps, seeds fixed, deterministic on a CPU."""
    draw = np.random.default_rng(0)
    words = ["gato", "perro", "luna", "pan", "queso", "mira", "come", "niña", "año", "sol", "mar", "tren"]
    texts = [" ".join(draw.choice(words, size=6)) for _ in range(32)]
    tokenizer = Tokenizer.train("word", texts)
    made = pretext((tokenizer, Store.from_documents(texts, tokenizer)), batch=32)
    model = small(tokenizer.size, width=96, layers=1)
    made.attach(model, {})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(100):
        batch = made.micro_batches(step)[0]
        terms, _ = made.terms(model, batch, None)
        loss = sum(term.total / term.count for term in terms.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name in made.names:
        # The first two words tell which sentence it is: what is left is to tell these, log(32) nats of 7 targets at most.
        assert float(terms[name].total.detach()) / terms[name].count < math.log(32) / 7 + 0.3, name


def test_what_does_not_fit_is_refused(material) -> None:
    tokenizer, _ = material
    with pytest.raises(ConfigError, match="no room"):
        pretext(material, context=2)
    with pytest.raises(DataError, match="fewer than one block"):
        pretext(material, order="shuffled", context=400)
    with pytest.raises(DataError, match="don't belong"):
        pretext(material).check(small(tokenizer.size - 1))
    few = elmo.build(elmo.config_for("elmo", "tiny", tokenizer.size, 16, {"head": {"words": 5}}))
    with pytest.raises(ConfigError, match="no unknown token"):
        pretext(material).check(few)
    with pytest.raises(ConfigError, match="no output layer"):
        pretext(material).check(small(tokenizer.size).trimmed())


class Killed(BaseException):
    """Stands for kill -9."""


class KillAt(Watcher):
    def __call__(self, step):
        if step.step == 7:
            raise Killed


def test_a_run_killed_between_checkpoints_ends_like_one_that_was_not(material, tmp_path) -> None:
    """Bit for bit, with dropout; the model that resumes was made otherwise, and wasn't told the words' letters."""
    tokenizer, store = material
    chosen = TrainSettings(steps=10, batch=4, micro=2, lr=0.01, warmup=2, save_every=4, evaluate_every=5)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def go(out, extra=(), resume=False):
        model = small(tokenizer.size, dropout=0.2)
        made = pretext(material, batch=4, micro=2)
        if resume:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.fill_(3.0)
        else:
            made.attach(model, {})
        run = RunFolder.open(out) if resume else RunFolder.create(out, {"train": chosen.model_dump()})
        watchers = [*standard(chosen, store, quiet=True), *extra]
        return train(model, made, chosen, run, watchers, resume=resume), model

    try:
        whole, one = go(tmp_path / "whole")
        with pytest.raises(Killed):
            go(tmp_path / "killed", [KillAt()])
        again, other = go(tmp_path / "killed", resume=True)
    finally:
        torch.set_num_threads(threads)
    assert (again.steps, again.loss, again.best) == (whole.steps, whole.loss, whole.best)
    assert set(whole.best.terms) == {"forward", "backward"}
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
