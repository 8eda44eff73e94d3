"""Denoising: what is told restores the text exactly, noise in the shares asked for, each noise against a slow plain version."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vocablo.base.errors import ConfigError, DataError
from vocablo.base.random import generator
from vocablo.data.store import Store
from vocablo.models import transformer
from vocablo.pretexts import _noise as noise
from vocablo.pretexts import denoising
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.material import make_tokenizer
from vocablo.training.recipe import TokenizerSettings

WORDS = "el la gato gata come pan queso mira luna noche cantó ñandú perro camina despacio contento".split()  # noqa: SIM905
SENTINELS = [f"<extra_id_{number}>" for number in range(8)]


def corpus(documents=30, seed=0):
    rng = np.random.default_rng(seed)
    sentence = lambda: " ".join(rng.choice(WORDS, rng.integers(2, 9))).capitalize() + rng.choice([".", "?", "!"])  # noqa: E731
    return [" ".join(sentence() for _ in range(rng.integers(1, 8))) for _ in range(documents)]


@pytest.fixture(scope="module")
def tokenizer():
    plain = Tokenizer.train("bpe", corpus(), vocab=300)
    return plain.with_roles({"mask": "<mask>"}).with_tokens(SENTINELS)


@pytest.fixture(scope="module")
def store(tokenizer):
    return Store.from_documents(["", *corpus()], tokenizer)


def make(store, tokenizer, *, seed=0, batch=8, micro=None, context=24, **settings):
    chosen = denoising.Config(**settings)
    return denoising.Pretext(store, chosen, tokenizer=tokenizer, seed=seed, batch=batch, micro=micro, context=context)


def pairs_of(batches, cut):
    """Of every row: the source, and the target from its first token to its end."""
    found = []
    for batch in batches:
        target, tokens, source = batch.targets[cut.names[0]], batch.tokens, batch.source
        assert target.count == len(target.at) == len(target.value)
        for side in (tokens, source):
            assert side.positions.tolist() == [place for length in side.fences.lengths for place in range(length)]
        told, ends = target.value.tolist(), np.cumsum(tokens.fences.lengths)
        assert target.at.tolist() == list(range(len(tokens.ids))), "one start: every token read tells the next"
        for (a, b), (c, d) in zip(pairwise([0, *ends]), pairwise(source.fences.starts()), strict=True):
            assert tokens.ids[a:b].tolist() == [cut.end, *told[a : b - 1]], (
                "what is read is what was told, moved by one"
            )
            found.append((source.ids[c:d].tolist(), told[a:b]))
    return found


def epoch(cut, number=0, world=1):
    per = cut.steps_per_epoch
    steps = range(number * per, (number + 1) * per)
    return pairs_of(
        [one for step in steps for rank in range(world) for one in cut.micro_batches(step, rank, world)], cut
    )


def restored(source, target, sentinels):
    """A text from T5's source and target, token by token."""
    spans, number = {}, None
    for token in target:
        if token in sentinels:
            number = token
            spans[number] = []
        else:
            spans[number].append(token)
    assert spans.pop(number) == [], "the last sentinel ends the spans"
    whole = [part for token in source for part in (spans.pop(token) if token in sentinels else [token])]
    assert not spans, "every span has its place in the source"
    return whole


def texts_of(cut):
    found = cut.cut(cut.store, 0)
    return sorted(cut.store.tokens[a : a + n].tolist() for a, n in zip(found.starts, found.lengths, strict=True))


@pytest.mark.parametrize("order", ["documents", "sentences"])
@pytest.mark.parametrize("settings", [{}, {"corrupt": 0.5, "mean_span": 4.0}, {"corrupt": 0.9, "mean_span": 5}])
def test_spans_put_back_into_their_source_are_the_text(order, settings, store, tokenizer):
    cut = make(store, tokenizer, name="span_corruption", order=order, **settings)
    sentinels = [tokenizer.id(text) for text in SENTINELS]
    for number in range(3):
        rows = epoch(cut, number)
        assert all(source[-1] == target[-1] == cut.end for source, target in rows)
        assert sorted(restored(source[:-1], target[:-1], sentinels) for source, target in rows) == texts_of(cut)
        for source, target in rows:
            used = [token for token in target if token in sentinels]
            assert used == sentinels[: len(used)], "sentinels come in their order"
            assert [token for token in source if token in sentinels] == used[:-1]


@pytest.mark.parametrize("name", ["denoising", "prefix"])
def test_targets_are_the_texts(name, store, tokenizer):
    cut = make(store, tokenizer, name=name)
    rows = epoch(cut)
    if name == "denoising":
        assert sorted(target[:-1] for _, target in rows) == texts_of(cut)
    else:
        assert sorted(source[:-1] + target[:-1] for source, target in rows) == texts_of(cut)
        assert all(len(source) > 1 for source, _ in rows)
        assert len({len(source) for source, _ in rows}) > 3, "cut at many places"
    assert {target[-1] for _, target in rows} == {source[-1] for source, _ in rows} == {cut.end}


def test_shuffled_blocks_hold_every_token_of_the_stream_once(store, tokenizer):
    rows = epoch(make(store, tokenizer, order="shuffled", permute=0), 1)
    assert sorted(token for _, target in rows for token in target[:-1]) == sorted(store.tokens.tolist())


def test_permuted_sentences_are_a_permutation_and_rotation_turns(store, tokenizer):
    cut = make(store, tokenizer, permute=1, infill=0, context=300)
    moved = 0
    for source, target in epoch(cut):
        text = tokenizer.decode(target[:-1])
        assert sentences_of(tokenizer.decode(source[:-1])) == sentences_of(text)
        moved += source != target
    assert moved > 10, "of 30 documents of 1 to 7 sentences; the seed is fixed"
    turned = 0
    for source, target in epoch(make(store, tokenizer, permute=0, infill=0, rotate=1, context=300)):
        text, shown = target[:-1], source[:-1]
        assert any(text[place:] + text[:place] == shown for place in range(len(text)))
        turned += text != shown
    assert turned > 20


def sentences_of(text):
    marked = text.replace("?", ".").replace("!", ".").split(".")
    return Counter(part.strip() for part in marked if part.strip())


def test_noises_are_those_of_slow_plain_versions():
    """Each row of many lengths against loops over its tokens that draw the same numbers in the same order."""
    for number in range(200):
        rng = generator(7, "rows", number)
        count = int(rng.integers(1, 40))
        ids, free = rng.integers(10, 99, count), rng.random(count) < 0.9
        both = lambda number=number: generator(7, number)  # noqa: E731
        spans = noise.infilling(both(), count, 0.4, 3.0)
        assert spans.replaced(ids, np.full(len(spans.begin), 1)).tolist() == plainly(ids, spans, [1] * len(spans.begin))
        assert len(spans.replaced(ids, np.full(len(spans.begin), 1))) <= count
        spans = noise.corruption(both(), count, 0.3, 3.0)
        sentinels = np.arange(1, len(spans.begin) + 2)
        assert spans.replaced(ids, sentinels[:-1]).tolist() == plainly(ids, spans, sentinels)
        told = [
            [sentinel, *ids[a : a + n]] for sentinel, a, n in zip(sentinels, spans.begin, spans.length, strict=False)
        ]
        assert spans.told(ids, sentinels).tolist() == [*(token for part in told for token in part), sentinels[-1]]
        chosen = set(chosen_plainly(both(), free, 0.3))
        assert noise.masking(both(), ids, free, 0.3, 1).tolist() == [1 if i in chosen else x for i, x in enumerate(ids)]
        assert noise.deletion(both(), ids, free, 0.3).tolist() == [x for i, x in enumerate(ids) if i not in chosen]
        place = int(both().integers(count))
        assert noise.rotation(both(), ids).tolist() == [*ids[place:], *ids[:place]]
        opens = [0, *sorted(set(rng.integers(1, 40, 3).tolist()) & set(range(1, count)))]
        sentences = [ids[a:b].tolist() for a, b in pairwise([*opens, count])]
        order = both().permutation(len(sentences))
        assert noise.permutation(both(), ids, np.array(opens)).tolist() == [x for i in order for x in sentences[i]]


def plainly(ids, spans, stand_in):
    found, at = [], 0
    for number, (begin, length) in enumerate(zip(spans.begin, spans.length, strict=True)):
        found += [*ids[at:begin], stand_in[number]]
        at = begin + length
    return [int(token) for token in [*found, *ids[at:]]]


def chosen_plainly(rng, free, share):
    places = [place for place, may in enumerate(free) if may]
    exact = share * len(places)
    count = math.floor(exact)
    count += int(rng.random() < exact - count)
    return rng.choice(places, count, replace=False) if places else []


def test_shares_of_noise_are_as_asked():
    """Over 2,000 rows of 20 tokens. Seeds are fixed, so this can't flake; bounds are four standard errors of a share whose
    rows differ by at most one token of 20, at most 4 * 0.5 / 20 / sqrt(2000) = 0.0023."""
    draws, ids, free = generator(3, "shares"), np.arange(100, 120), np.ones(20, dtype=bool)
    rows = range(2000)
    masked = np.mean([(noise.masking(draws, ids, free, 0.33, 1) == 1).mean() for _ in rows])
    deleted = np.mean([1 - len(noise.deletion(draws, ids, free, 0.33)) / 20 for _ in rows])
    spans = [noise.infilling(draws, 20, 0.33, 3.0) for _ in rows]
    filled = np.mean([one.length.sum() / 20 for one in spans])
    assert all(abs(share - 0.33) < 0.0023 for share in (masked, deleted, filled)), (masked, deleted, filled)
    lengths = np.concatenate([one.length for one in spans])
    # Not Poisson's e^-3: spans end with the share, so that of 6 or 7 tokens the last is cut, and there are more spans.
    assert 0.02 < (lengths == 0).mean() < 0.08
    begun = np.bincount(np.concatenate([one.inside for one in spans]), minlength=20) / len(rows)
    assert 0.15 < begun.min() < begun.max() < 0.5, "every place is taken about as often"


@pytest.mark.parametrize("count", [1, 2, 3, 20, 101])
def test_corrupted_spans_have_the_sizes_that_the_counts_say(count):
    for number in range(50):
        total, spans = noise.span_counts(count, 0.15, 3.0)
        found = noise.corruption(generator(0, number), count, 0.15, 3.0)
        assert (found.length.sum(), len(found.length)) == (total, spans)
        assert (found.length > 0).all()
        assert (np.diff(found.gaps) > 0).all(), "no two touch"
        assert 0 <= found.begin[0] <= found.begin[-1] + found.length[-1] <= count


CASES = [{}, {"name": "span_corruption"}, {"name": "prefix"}, {"rotate": 0.5, "delete": 0.1, "mask": 0.1}]


@pytest.mark.parametrize("settings", CASES)
def test_a_step_is_the_same_however_it_is_split(settings, store, tokenizer):
    whole = [epoch(make(store, tokenizer, **settings), number) for number in range(2)]
    assert whole[0] != whole[1]
    for micro, world in ((1, 1), (3, 1), (2, 2), (1, 5)):
        cut = make(store, tokenizer, micro=micro, **settings)
        assert [epoch(cut, number, world) for number in range(2)] == whole
    cut = make(store, tokenizer, **settings)
    step = cut.steps_per_epoch + 1
    assert pairs_of(cut.micro_batches(step), cut) == whole[1][8:16], "steps don't depend on earlier ones"
    assert epoch(make(store, tokenizer, seed=1, **settings)) != whole[0]


@pytest.mark.parametrize("settings", CASES)
def test_validation_is_the_same_for_every_seed_and_split(settings, store, tokenizer):
    held_out = store.part(3, 20)
    reference = make(store, tokenizer, micro=100, **settings)
    pairs = pairs_of(reference.validation(held_out), reference)
    for seed, micro, world in ((5, 100, 1), (0, 3, 1), (0, 4, 3)):
        cut = make(store, tokenizer, seed=seed, micro=micro, **settings)
        parts = [pairs_of(cut.validation(held_out, rank, world), cut) for rank in range(world)]
        assert sorted(row for part in parts for row in part) == sorted(pairs)


@pytest.mark.parametrize("settings", CASES)
def test_tokens_of_an_epoch_are_those_expected(settings, store, tokenizer):
    """Within a twentieth: rows are short, and T5 rounds in each. Seeds are fixed."""
    cut = make(store, tokenizer, **settings)
    read = [
        sum(one.tokens.fences.total + one.source.fences.total for one in cut.micro_batches(step))
        for step in range(5 * cut.steps_per_epoch)
    ]
    assert sum(read) / 5 == pytest.approx(cut.tokens, rel=0.05)


def small(tokenizer, context=24):
    torch.manual_seed(0)
    config = transformer.config_for("transformer", "tiny", tokenizer.size, context, {"stack": {"width": 32}})
    return transformer.build(config.paired((tokenizer.end_id,)))


@pytest.mark.parametrize("settings", CASES)
def test_the_loss_is_of_the_targets(settings, store, tokenizer):
    model, cut = small(tokenizer).eval(), make(store, tokenizer, batch=3, **settings)
    cut.check(model)
    cut.attach(model, {})
    (batch,) = cut.micro_batches(0)
    terms, state = cut.terms(model, batch, None)
    term, target = terms[cut.names[0]], batch.targets[cut.names[0]]
    logs = model.logits(model(batch.tokens, batch.source).states).log_softmax(-1)
    by_hand = -sum(float(logs[at, value].detach()) for at, value in zip(target.at, target.value, strict=True))
    assert state is None
    assert term.count == target.count
    assert float(term.total.detach()) == pytest.approx(by_hand, rel=1e-5)


def test_sentinels_count_in_the_vocabulary():
    made = make_tokenizer(TokenizerSettings(kind="bpe", vocab=320, sentinels=20), corpus())
    assert made.size == 320
    assert None not in [made.id(f"<extra_id_{number}>") for number in range(20)]
    with pytest.raises(ConfigError, match="alone are 100: set it larger, or fewer"):
        make_tokenizer(TokenizerSettings(kind="bpe", vocab=80, sentinels=100), corpus())


def test_what_cannot_work_is_refused_in_one_line(store, tokenizer):
    plain = Tokenizer.train("bpe", corpus(), vocab=300)
    without = Store.from_documents(corpus(), plain)
    with pytest.raises(ConfigError, match=r"no mask token: train one with tokenizer\.mask=true"):
        make(without, plain)
    make(without, plain, infill=0)
    with pytest.raises(ConfigError, match=r"no sentinels.*tokenizer\.sentinels=3"):
        make(without, plain, name="span_corruption", context=40)
    with pytest.raises(ConfigError, match=r"has 8 sentinels.*need 16.*tokenizer\.sentinels=16"):
        make(store, tokenizer, name="span_corruption", context=300)
    with pytest.raises(ValidationError, match="corrupt isn't a noise of denoising"):
        denoising.Config(corrupt=0.1)
    with pytest.raises(ValidationError, match="there is no noise otherwise"):
        denoising.Config(permute=0, infill=0)
    with pytest.raises(DataError, match="no tokens"):
        make(Store.from_documents([""], tokenizer), tokenizer)
    cut = make(store, tokenizer)
    with pytest.raises(ConfigError, match="reads sources of at most 20"):
        cut.check(small(tokenizer, 20))
    with pytest.raises(ConfigError, match="reads 'both'"):
        cut.check(transformer.build(transformer.config_for("bert", "tiny", tokenizer.size, 24, {})))
    torch.manual_seed(0)
    config = transformer.config_for("transformer", "tiny", tokenizer.size, 24, {"decoder": {"max": 12}})
    with pytest.raises(ConfigError, match=r"24 tokens and the model reads at most 12.*model\.decoder\.max"):
        cut.check(transformer.build(config.paired((tokenizer.end_id,))))
