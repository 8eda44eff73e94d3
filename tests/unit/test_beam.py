"""Beam search: every sequence written out, greedy, one by one, without a cache, and transformers' generate as judges."""

import functools
import itertools
import math

import pytest
import torch
from pydantic import ValidationError

from tiny_models import counted, gpt, kind, lstm, naive_log_probs
from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.decoding.beam import by_length, penalty, search
from vocablo.decoding.candidates import best, normaliser
from vocablo.decoding.rules import Rules, repeated
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import after_prompts, from_sources

END = 0
MODELS = {"gpt": lambda v: gpt(v, 24, std=0.6, seed=3), "lstm": lambda v: lstm(v, std=0.8, seed=3)}


@pytest.fixture(scope="module", autouse=True)
def _quiet():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


class Translator:
    """A source-target model of the tests: one network reads the source, then goes on with the target."""

    reads, context, source_context, start = "source_target", None, None, (0,)

    def __init__(self, vocab, seed=0):
        self.inner, self.vocab = lstm(vocab, std=0.8, seed=seed), vocab

    def encode(self, source):
        return self.inner.extend(source, None)[1]

    def extend(self, tokens, state):
        return self.inner.extend(tokens, state)

    def attended(self, state):
        """Some weights on three source tokens."""
        return (state.hidden[0][:, :3] * 4).softmax(1)


def texts(vocab, most):
    """Every text of at most ``most`` tokens: those that end, and those that are cut."""
    words = range(1, vocab)
    for length in range(most):
        for body in itertools.product(words, repeat=length):
            yield (*body, END)
    yield from itertools.product(words, repeat=most)


@functools.cache
def every(name, prompt):
    """Every text of at most four tokens over five symbols, with its log-probabilities, each read in full."""
    model = MODELS[name](5)
    return [(ids, naive_log_probs(model, [*prompt, *ids])[len(prompt) - 1 :]) for ids in texts(5, 4)]


def by_hand(name, prompt, settings):
    """Scores of all texts, best first."""
    found = []
    for ids, logs in every(name, tuple(prompt)):
        scored = sum(logs[len(settings.prefix) :])
        found.append((scored / penalty(len(ids), settings), ids, logs))
    return sorted(found, key=lambda each: -each[0])


def run(model, prompts, end=END, **changes):
    return search(after_prompts(model, prompts), DecodeSettings(**changes), end)


WIDE = {"beam": 5**4, "n_best": 5**4, "max_tokens": 4, "early_stopping": "bound"}


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("form", [("power", 1.0), ("power", 0.0), ("gnmt", 0.8), ("power", -0.5), ("power", 2.0)])
def test_a_beam_as_wide_as_everything_finds_every_text_in_its_order(name, form):
    model, prompt = MODELS[name](5), [0, 2, 1]
    changes = WIDE | {"length_form": form[0], "length_penalty": form[1]}
    (found,) = run(model, [prompt], **changes)
    expected = by_hand(name, prompt, DecodeSettings(**changes))
    assert len(found) == len(expected)
    assert {one.ids for one in found} == {ids for _, ids, _ in expected}
    for one, (score, _, _) in zip(found, expected, strict=True):
        assert one.score == pytest.approx(score, abs=1e-4)
    told = {ids: logs for _, ids, logs in expected}
    for one in found:
        assert one.log_probs == pytest.approx(list(told[one.ids]), abs=1e-4)
        assert one.finished_by == ("end" if one.ids[-1] == END else "max_tokens")


RULES = {
    "min_tokens": ({"min_tokens": 2}, lambda ids: len(ids) - (ids[-1] == END) >= 2),
    "no_repeat": ({"no_repeat": 2}, lambda ids: not _doubles([0, 2, 1, *ids])),
    "exclude": ({"exclude": ((3,), (1, 2))}, lambda ids: 3 not in ids and not _has([0, 2, 1, *ids], (1, 2))),
    "prefix": ({"prefix": (4, 2)}, lambda ids: ids[:2] == (4, 2)),
    "include": ({"include": (((2, 2), (3,)), ((4, 1),))}, lambda ids: (_has(ids, (2, 2)) or 3 in ids) and _has(ids, (4, 1))),
    "force_end": ({"force_end": True}, lambda ids: ids[-1] == END),
    "all": (
        {"include": (((3,),),), "exclude": ((1,),), "min_tokens": 3, "prefix": (2,)},
        lambda ids: 3 in ids and 1 not in ids and len(ids) - (ids[-1] == END) >= 3 and ids[0] == 2,
    ),
}  # fmt: skip


def _has(ids, phrase):
    return any(tuple(ids[at : at + len(phrase)]) == phrase for at in range(len(ids)))


def _doubles(ids):
    pairs = list(itertools.pairwise(ids))
    return len(set(pairs)) < len(pairs)


@pytest.mark.parametrize("rule", sorted(RULES))
def test_with_rules_it_finds_exactly_the_texts_that_keep_them(rule):
    model, prompt = MODELS["lstm"](5), [0, 2, 1]
    changes, keeps = RULES[rule]
    (found,) = run(model, [prompt], **WIDE | changes)
    settings = DecodeSettings(**WIDE | changes)
    expected = [one for one in by_hand("lstm", prompt, settings) if keeps(one[1])]
    assert expected
    assert {one.ids for one in found} == {ids for _, ids, _ in expected}
    if rule != "force_end":  # a forced end adds nothing to a score
        assert [one.score for one in found] == pytest.approx([score for score, _, _ in expected], abs=1e-4)


@pytest.mark.parametrize("beam", [2, 3, 5])
def test_constrained_words_come_in_a_narrow_beam_too(beam):
    """Without the constraint not one of these models says the phrase, so it is the banks that bring it."""
    said = 0
    for seed in range(8):
        model = lstm(12, std=0.8, seed=seed)
        free = run(model, [[0, 5]], beam=beam, max_tokens=10)[0][0]
        (found,) = run(model, [[0, 5]], beam=beam, max_tokens=10, n_best=beam, include=(((7, 8),), ((9,), (11, 3))))
        said += _has(free.ids, (7, 8))
        for one in found:
            assert _has(one.ids, (7, 8))
            assert 9 in one.ids or _has(one.ids, (11, 3))
    assert said < 8


def greedy(model, prompt, most):
    ids = list(prompt)
    while len(ids) < len(prompt) + most:
        logits = model.logits(model.forward(Tokens.of([ids])).states[-1:])[0]
        ids.append(int(logits.argmax()))
        if ids[-1] == END:
            break
    return tuple(ids[len(prompt) :])


@pytest.mark.parametrize("policy", ["full", "estimate", "bound"])
def test_a_beam_of_one_is_greedy(policy):
    words = kind("word")
    models = [gpt(words.size, 40, seed=seed) for seed in range(4)] + [lstm(words.size, seed=seed) for seed in range(4)]
    for model in [*models, counted(words)]:
        (found,) = run(model, [[END, 5]], max_tokens=15, early_stopping=policy)
        assert found[0].ids == greedy(model, [END, 5], 15)


SEARCHES = [
    {"beam": 4, "n_best": 4},
    {"beam": 3, "length_penalty": 0.0, "early_stopping": "full", "n_best": 2},
    {"beam": 5, "length_form": "gnmt", "length_penalty": 0.6, "early_stopping": "bound", "no_repeat": 2},
    {"beam": 6, "groups": 3, "n_best": 6, "diversity": 1.0},
    {"beam": 4, "include": (((7,),),), "min_tokens": 3},
    {"beam": 3, "repetition_penalty": 1.3},
    {"beam": 2, "prefix": (3, 4), "exclude": ((5,),)},
]


@pytest.mark.parametrize("changes", SEARCHES, ids=lambda value: " ".join(value))
@pytest.mark.parametrize("name", sorted(MODELS))
def test_many_together_find_what_each_finds_alone(name, changes):
    draw = torch.Generator().manual_seed(0)
    prompts = [[0, *torch.randint(1, 11, (n,), generator=draw).tolist()] for n in (1, 4, 2, 7, 2, 1)]
    make = {"gpt": lambda seed: gpt(11, 24, std=0.9, seed=seed), "lstm": lambda seed: lstm(11, std=0.8, seed=seed)}[
        name
    ]
    for seed, end in itertools.product(range(6), (0, 1, 2, 6, 8, 9, 10)):  # one ends some texts early and others late
        model = make(seed)
        together = run(model, prompts, end, max_tokens=9, **changes)
        if len({len(found[0].ids) for found in together}) > 1:
            break
    else:
        pytest.fail("texts of one length only: nothing leaves the batch")
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = run(model, [prompt], end, max_tokens=9, **changes)
        assert [one.ids for one in found] == [one.ids for one in alone]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone], abs=1e-4)


@pytest.mark.parametrize("changes", SEARCHES, ids=lambda value: " ".join(value))
def test_sources_together_find_what_each_finds_alone(changes):
    model = Translator(11)
    sources = [[3, 4, 5], [6], [2, 2, 9, 10]]
    together = search(from_sources(model, Tokens.of(sources)), DecodeSettings(max_tokens=9, **changes), END)
    for source, found in zip(sources, together, strict=True):
        (alone,) = search(from_sources(model, Tokens.of([source])), DecodeSettings(max_tokens=9, **changes), END)
        assert [one.ids for one in found] == [one.ids for one in alone]


class Forgetful:
    """A model whose state is the text itself: every step reads all of it again."""

    def __init__(self, model):
        self.model, self.vocab, self.context = model, model.vocab, model.context

    def extend(self, tokens, state):
        new = [part.tolist() for part in tokens.ids.split(tokens.fences.lengths)]
        rows = new if state is None else [old + more for old, more in zip(state.rows, new, strict=True)]
        whole = Tokens.of(rows)
        return self.model.logits(self.model.forward(whole).states[whole.fences.last()]), Texts(rows)


class Texts:
    def __init__(self, rows):
        self.rows = rows

    def select(self, rows):
        return Texts([list(self.rows[row]) for row in rows.tolist()])


@pytest.mark.parametrize("changes", SEARCHES, ids=lambda value: " ".join(value))
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_state_finds_what_full_readings_find(name, changes):
    model = MODELS[name](11)
    prompts = [[0, 3], [0, 5, 1], [0, 2]]
    cached = run(model, prompts, max_tokens=8, **changes)
    full = run(Forgetful(model), prompts, max_tokens=8, **changes)
    assert [[one.ids for one in found] for found in cached] == [[one.ids for one in found] for found in full]


def test_coverage_prefers_hypotheses_that_look_at_all_of_the_source():
    """Every hypothesis of a wide beam has the score of the formula, its attention read step by step."""
    model, beta = Translator(4, seed=2), 0.7
    settings = DecodeSettings(beam=64, n_best=64, max_tokens=3, coverage=beta, early_stopping="bound")
    source = Tokens.of([[1, 2, 3]])
    (found,) = search(from_sources(model, source), settings, END)
    (plain,) = search(from_sources(model, source), settings.model_copy(update={"coverage": 0.0}), END)
    assert {one.ids for one in found} == {one.ids for one in plain}
    assert [one.ids for one in found] != [one.ids for one in plain]
    for one in found:
        state, seen = model.encode(source), torch.zeros(3)
        for token in (0, *one.ids[:-1]):
            _, state = model.extend(Tokens.of([[token]]), state)
            seen += model.attended(state)[0]
        expected = one.log_prob / len(one.ids) + beta * float(seen.clamp(max=1).log().sum())
        assert one.score == pytest.approx(expected, abs=1e-4)


def test_coverage_needs_a_family_with_attention():
    with pytest.raises(ConfigError, match="attention"):
        run(MODELS["gpt"](5), [[0, 1]], beam=2, coverage=0.2)


def test_groups_of_one_hypothesis_follow_the_paper_s_algorithm():
    """Vijayakumar et al. 2016, algorithm 1, with B = G = 3, written out for one step at a time."""
    model, weight = MODELS["lstm"](9), 1.5
    (found,) = run(model, [[0, 4]], end=None, beam=3, groups=3, diversity=weight, n_best=3, max_tokens=5)
    rows, sums = [[0, 4] for _ in range(3)], [0.0] * 3
    for _ in range(5):
        taken: list[int] = []
        for group in range(3):
            logs = model.logits(model.forward(Tokens.of([rows[group]])).states[-1:])[0].log_softmax(0)
            lowered = logs - weight * torch.tensor([float(taken.count(token)) for token in range(9)])
            token = int(lowered.argmax())
            taken.append(token)
            sums[group] += float(logs[token])
            rows[group].append(token)
    expected = sorted(zip(sums, rows, strict=True), key=lambda each: -each[0])
    assert [list(one.ids) for one in found] == [row[2:] for _, row in expected]
    assert [one.score for one in found] == pytest.approx([total / 5 for total, _ in expected], abs=1e-4)


def test_diverse_hypotheses_differ_more():
    spread = {}
    for groups in (1, 4):
        found = [run(lstm(20, seed=seed), [[0, 4]], beam=4, n_best=4, groups=groups, diversity=2.0, max_tokens=8)[0] for seed in range(6)]  # fmt: skip
        spread[groups] = sum(len({one.ids[0] for one in each}) for each in found)
    assert spread[4] > spread[1]


def test_the_context_ends_a_text():
    model = gpt(6, 10, std=0.3)
    (found,) = run(model, [[0, 1, 2, 3]], end=None, beam=3, max_tokens=50)
    assert (found[0].finished_by, len(found[0].ids)) == ("context", 7)  # the last one is predicted and not read
    with pytest.raises(ConfigError, match=r"11 tokens.*reads 10"):
        run(model, [[1] * 11], beam=2)


def test_texts_that_are_done_leave_the_batch():
    """The rows that are read never grow once the beam is full, and shrink as texts end."""
    model, rows = MODELS["lstm"](11), []
    model.head.bias[END] += 2.0

    class Counting(Forgetful):
        def extend(self, tokens, state):
            rows.append(tokens.fences.count)
            return model.extend(tokens, state)

    run(Counting(model), [[0, n] for n in range(1, 9)], beam=3, max_tokens=30)
    assert rows[:2] == [8, 24]
    assert rows[1:] == sorted(rows[1:], reverse=True)
    assert rows[-1] < 24


@pytest.mark.parametrize("vocab", [7, 63, 1000, 5003])
@pytest.mark.parametrize("k", [1, 6, 20])
def test_the_best_of_columns_are_the_best_of_all(vocab, k):
    logits = torch.randn(5, vocab, generator=torch.Generator().manual_seed(vocab + k))
    logits[1, vocab // 2 :] = -math.inf
    values, tokens = best(logits, k)
    expected = logits.topk(min(k, vocab), dim=1)
    torch.testing.assert_close(values, expected.values)
    torch.testing.assert_close(logits.gather(1, tokens), values)
    assert all(len(set(row.tolist())) == len(row) for row in tokens)


def test_the_normaliser_in_pieces_is_that_of_the_whole():
    logits = torch.randn(70, 20011, generator=torch.Generator().manual_seed(0)) * 5
    logits[3, :100] = -math.inf
    torch.testing.assert_close(normaliser(logits), logits.logsumexp(1))
    assert len(logits) * logits.shape[1] * 4 > 2 << 20


def test_repeated_n_grams_are_those_of_a_loop():
    draw = torch.Generator().manual_seed(1)
    for n in (1, 2, 3):
        history = torch.randint(-1, 3, (30, 9), generator=draw)
        rows, tokens = repeated(history, n)
        found = set(zip(rows.tolist(), tokens.tolist(), strict=True))
        expected = set()
        for row, ids in enumerate(history.tolist()):
            grams = [tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)]
            tail = tuple(ids[len(ids) - n + 1 :]) if n > 1 else ()
            expected |= {(row, gram[-1]) for gram in grams if -1 not in gram and gram[:-1] == tail}
        assert found == expected


def test_rules_leave_other_scores_alone():
    logits = torch.randn(4, 9)
    before = logits.clone()
    edited = Rules(DecodeSettings(exclude=((2, 3),)), END, 10).edit(
        logits, torch.tensor([[1, 2], [2, 2], [2, 1], [0, 0]]), 2
    )
    assert torch.isinf(edited).nonzero().tolist() == [[0, 3], [1, 3]]
    edited[:2, 3] = before[:2, 3]
    assert torch.equal(edited, before)


def test_batches_of_like_length_have_every_text_once():
    lengths = [3, 50, 4, 4, 12, 0, 7, 7]
    batches = list(by_length(lengths, 24))
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    assert batches[0] == [1]  # longer than the budget: alone
    assert all(len(batch) * max(lengths[index] for index in batch) <= 24 for batch in batches[1:])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"beam": 4, "temperature": 0.7}, "beam 4 .* temperature"),
        ({"beam": 4, "top_p": 0.9}, "top_p"),
        ({"beam": 4, "greedy": True}, "greedy"),
        ({"beam": 2, "n_best": 3}, "n_best 3"),
        ({"beam": 4, "groups": 3}, "3 groups"),
        ({"min_tokens": 9, "max_tokens": 5}, "min_tokens 9"),
        ({"beam": 2, "include": (((1, 2, 3),),), "max_tokens": 2}, "needs 3 tokens"),
        ({"beam": 2, "include": (((1, 2),),), "exclude": ((2,),)}, "contradict"),
        ({"beam": 2, "include": (((1, 1, 1),),), "no_repeat": 2}, "no_repeat"),
        ({"include": (((1,),),)}, "beam"),
        ({"beam": 4, "groups": 2, "include": (((1,),),)}, "groups"),
        ({"prefix": (1, 2), "exclude": ((2,),)}, "prefix"),
        ({"exclude": ((),)}, "at least one"),
        ({"prefix": (1, 2), "max_tokens": 1}, "prefix"),
        ({"length_form": "wu"}, "gnmt"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        DecodeSettings(**wrong)


def test_settings_that_do_not_fit_a_model_are_refused():
    for wrong, says in (
        ({"beam": 12}, "wider than the vocabulary of 11"),
        ({"exclude": ((END,),)}, "ends a text"),
        ({"beam": 2, "include": (((3, END),),)}, "ends a text"),
        ({"prefix": (11,)}, "id 11"),
    ):
        with pytest.raises(ConfigError, match=says):
            DecodeSettings(**wrong).fits(11, END)


def test_what_can_not_be_written_is_an_error_and_no_empty_answer():
    with pytest.raises(ConfigError, match=r"No text of at most 4 tokens"):
        run(MODELS["lstm"](5), [[0, 1]], beam=2, max_tokens=4, no_repeat=1, include=(((1,),),))


def test_a_state_that_moves_is_the_selected_one():
    """Rows that are moved again and again, in memory that is used again, read on as copies do."""
    model = gpt(11, 24, std=0.6, seed=3)
    prompts = Tokens.of([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    _, copied = model.extend(prompts, None)
    _, moved = model.extend(prompts, None)
    draw = torch.Generator().manual_seed(0)
    for count in (6, 6, 6, 5, 5, 3, 3):
        rows = torch.randint(0, len(copied.lengths), (count,), generator=draw)
        copied, moved = copied.select(rows), moved.move(rows)
        new = Tokens.of(torch.randint(0, 11, (count, 1), generator=draw))
        one, copied = model.extend(new, copied)
        other, moved = model.extend(new, moved)
        torch.testing.assert_close(one, other)
