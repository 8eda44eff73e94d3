"""Generation against a loop without a cache, transformers' processors and generate(), and the promised distribution."""

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tiny_models import TEXTS, counted, gpt, kind, letters, lstm, naive_log_probs, naive_next
from vocablo import checkpoint
from vocablo.base.errors import ConfigError
from vocablo.decoding.sampling import SamplingSettings, distribution
from vocablo.inference.generate import GenerateSettings, generate, stream
from vocablo.text.kinds import KINDS

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Models this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def words():
    return kind("word")


MAKERS = {"gpt": lambda t: gpt(t.size, 64), "lstm": lambda t: lstm(t.size), "ngram": counted}


@pytest.fixture(scope="module", params=sorted(MAKERS))
def model(request, words):
    return MAKERS[request.param](words)


def write(model, tokenizer, prompt="", **settings):
    return generate(model, tokenizer, prompt, GenerateSettings(**settings))


def naive_greedy(model, tokenizer, prompt, count):
    """The best next token, ``count`` times, the whole text read again for each."""
    ids = [tokenizer.end_id, *tokenizer.encode(prompt).ids]
    start = len(ids)
    while len(ids) < start + count:
        ids.append(int(naive_next(model, ids).argmax()))
        if ids[-1] == tokenizer.end_id:
            break
    return ids[start:]


@pytest.mark.parametrize("prompt", ["", "la luna", "el perro mira la"])
def test_greedy_is_the_loop_without_a_cache(model, words, prompt):
    (found,) = write(model, words, prompt, greedy=True, max_tokens=25)
    expected = naive_greedy(model, words, prompt, 25)
    assert list(found.ids) == expected
    assert found.finished_by == ("end" if expected[-1] == words.end_id else "max_tokens")
    before = [words.end_id, *words.encode(prompt).ids]
    logs = naive_log_probs(model, [*before, *expected])[len(before) - 1 :]
    np.testing.assert_allclose(found.log_probs, logs, atol=1e-4)
    assert found.log_prob == pytest.approx(logs.sum(), abs=1e-3)


def test_greedy_is_what_transformers_generates(tmp_path):
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=275, n_positions=48, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0, pad_token_id=0
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    theirs.save_pretrained(tmp_path)
    tokenizer = kind("bpe")
    ours = checkpoint.load(tmp_path).model
    for prompt in ("", "el gato", "¿ la niña"):
        ids = [tokenizer.end_id, *tokenizer.encode(prompt).ids]
        for penalty in (1.0, 1.4):
            with torch.no_grad():
                expected = theirs.generate(
                    torch.tensor([ids]), max_new_tokens=20, do_sample=False, repetition_penalty=penalty
                )[0, len(ids) :]
            (found,) = write(ours, tokenizer, prompt, greedy=True, max_tokens=20, repetition_penalty=penalty)
            assert list(found.ids) == expected.tolist()


def processed(logits, history, settings):
    """What transformers' processors make of the scores, in the order in which its generate() has them."""
    t = transformers
    made = []
    if settings.repetition_penalty != 1:
        made.append(t.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.temperature != 1:
        made.append(t.TemperatureLogitsWarper(settings.temperature))
    if settings.top_k is not None:
        made.append(t.TopKLogitsWarper(settings.top_k))
    if settings.top_p is not None and settings.top_p < 1:
        made.append(t.TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        made.append(t.MinPLogitsWarper(settings.min_p))
    for processor in made:
        logits = processor(history, logits)
    return logits.softmax(1)


CHOICES = {
    "temperature": (1.0, 0.6, 2.0),
    "top_k": (None, 2, 9),
    "top_p": (None, 0.3, 0.92),
    "min_p": (None, 0.15),
    "repetition_penalty": (1.0, 1.3, 0.7),
}


@pytest.mark.parametrize("penalty", CHOICES["repetition_penalty"])
def test_every_combination_of_filters_is_that_of_transformers(penalty):
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(16, 40, generator=draw) * 2
    history = torch.randint(0, 40, (16, 12), generator=draw)
    for values in itertools.product(*(CHOICES[name] for name in CHOICES if name != "repetition_penalty")):
        names = [name for name in CHOICES if name != "repetition_penalty"]
        settings = SamplingSettings(**dict(zip(names, values, strict=True)), repetition_penalty=penalty)
        ours = distribution(logits, history, settings)
        torch.testing.assert_close(ours, processed(logits, history, settings), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.7, "top_p": 0.9}, {"top_k": 3}, {"min_p": 0.1}])
def test_samples_are_as_frequent_as_the_distribution_says(model, words, changes):
    """Pearson's statistic of 2,000 first tokens is below the 99.9 % quantile, about df + 4.5 sqrt(df) + 10 here."""
    count = 2000
    found = write(model, words, "la", samples=count, max_tokens=1, **changes)
    ids = torch.tensor([[words.end_id, *words.encode("la").ids]])
    logits = torch.tensor(naive_next(model, ids[0].tolist())).log()[None]
    expected = distribution(logits, ids, SamplingSettings(**changes))[0].numpy() * count
    seen = np.bincount([one.ids[0] for one in found], minlength=words.size)
    assert not seen[expected == 0].any()
    often = expected >= 5
    assert often.sum() >= 2
    statistic = ((seen - expected)[often] ** 2 / expected[often]).sum()
    freedom = often.sum()
    assert statistic < freedom + 4.5 * np.sqrt(freedom) + 10
    rest = expected[~often].sum()
    assert abs(seen[~often].sum() - rest) <= 4 * np.sqrt(rest) + 1


def test_two_tokens_are_sampled_from_the_joint_distribution(words):
    model = gpt(letters().size, 16, std=0.5)
    tokenizer = letters()
    found = write(model, tokenizer, "a", samples=3000, max_tokens=2, seed=4)
    start = [tokenizer.end_id, *tokenizer.encode("a").ids]
    first = naive_next(model, start)
    for one, two in itertools.product(range(tokenizer.size), repeat=2):
        if one == tokenizer.end_id:
            continue
        prob = first[one] * naive_next(model, [*start, one])[two]
        seen = sum(each.ids == (one, two) for each in found) / 3000
        assert seen == pytest.approx(prob, abs=4.5 * np.sqrt(prob / 3000) + 1e-3)


def test_a_seed_decides_each_sample_however_many_there_are(model, words):
    three = write(model, words, "la", samples=3, seed=7, max_tokens=12)
    five = write(model, words, "la", samples=5, seed=7, max_tokens=12)
    assert [one.ids for one in three] == [one.ids for one in five[:3]]
    assert write(model, words, "la", seed=7, max_tokens=12)[0].ids == three[0].ids
    assert len({one.ids for one in five}) > 1
    assert [one.ids for one in write(model, words, "la", samples=3, seed=8, max_tokens=12)] != [
        one.ids for one in three
    ]


def test_samples_do_not_depend_on_torch_s_own_random_numbers(words):
    model = gpt(words.size)
    torch.manual_seed(0)
    first = write(model, words, "la", max_tokens=12)
    torch.manual_seed(1)
    assert write(model, words, "la", max_tokens=12) == first


def test_max_tokens_counts_what_is_generated(model, words):
    for count in (1, 4):
        (found,) = write(model, words, "la", max_tokens=count, seed=3)
        assert len(found.ids) <= count
        assert len(found.ids) == len(found.tokens) == len(found.log_probs)
        if found.finished_by == "max_tokens":
            assert len(found.ids) == count


def test_end_is_a_token_but_no_text(words):
    found = write(counted(words), words, "el perro mira la luna", samples=8, max_tokens=200)
    assert {one.finished_by for one in found} == {"end"}
    for one in found:
        assert one.ids[-1] == words.end_id
        assert one.tokens[-1] == "<end>"
        assert "<end>" not in one.text
        assert words.end_id not in one.ids[:-1]


def test_the_context_ends_a_text_or_moves_on_with_a_window():
    tokenizer = letters()
    model = gpt(tokenizer.size, 10, std=0.2)
    with torch.no_grad():
        model.head.weight[tokenizer.end_id] = 0  # a text that never ends by itself
        model.final_norm.bias[:] = 3.0
        model.head.weight[tokenizer.id("a")] = 0.2
    (found,) = write(model, tokenizer, "ab", max_tokens=60, seed=1)
    assert found.finished_by == "context"
    assert len(found.ids) == 10 - 3 + 1  # the last one is predicted from a full context and not read
    assert found.dropped == 0
    (windowed,) = write(model, tokenizer, "ab", max_tokens=60, seed=1, window=True)
    assert windowed.ids[: len(found.ids)] == found.ids
    assert windowed.finished_by == "max_tokens"
    assert len(windowed.ids) == 60
    assert 0 < windowed.dropped <= 3 + 60 - 7


def test_a_window_reads_the_last_part_of_the_text():
    tokenizer = letters()
    moved, said = 0, set()
    for seed in range(30):
        model = gpt(tokenizer.size, 8, std=0.5, seed=seed)
        (found,) = write(model, tokenizer, "ab", max_tokens=30, greedy=True, window=True)
        text = [tokenizer.end_id, *tokenizer.encode("ab").ids]
        begin = 0
        for token in found.ids:
            if len(text) - begin > 8:
                begin = len(text) - 6  # three quarters
            assert token == int(naive_next(model, text[begin:]).argmax())
            text.append(token)
        assert found.dropped == begin
        moved, said = moved + (begin > 0), said | set(found.ids)
    assert moved > 10
    assert len(said) == tokenizer.size


def test_a_prompt_over_the_context_names_the_way_out():
    tokenizer = letters()
    model = gpt(tokenizer.size, 8)
    with pytest.raises(ConfigError, match=r"11 tokens.*reads 8.*window"):
        write(model, tokenizer, "abababab a")
    (found,) = write(model, tokenizer, "abababab a", window=True, max_tokens=3, greedy=True)
    assert found.ids[0] == int(naive_next(model, tokenizer.encode("abababab a").ids[-6:]).argmax())


def test_wrong_settings_are_refused():
    for wrong in ({"max_tokens": 0}, {"samples": 0}, {"temperature": -1.0}, {"stop": "."}):
        with pytest.raises(ValidationError):
            GenerateSettings(**wrong)


def long_text(model, tokenizer, **settings):
    """A sampled text of some length, and its settings."""
    for seed in range(40):
        settings |= {"seed": seed, "max_tokens": 40}
        (found,) = write(model, tokenizer, "la", **settings)
        if len(found.text) > 12:
            return found, settings
    raise AssertionError("no long text")


@pytest.mark.parametrize("name", KINDS)
def test_streamed_pieces_join_to_the_text(name):
    tokenizer = kind(name)
    model = gpt(tokenizer.size, 64, std=0.3)
    found, settings = long_text(model, tokenizer)
    pieces = list(stream(model, tokenizer, "la", GenerateSettings(**settings)))
    assert "".join(pieces) == found.text
    assert all(pieces)
    ids = [*tokenizer.encode("la").ids, *(token for token in found.ids if token != tokenizer.end_id)]
    assert tokenizer.decode(tokenizer.encode("la").ids) + found.text == tokenizer.decode(ids)


@pytest.mark.parametrize("name", ["char", "byte", "bpe", "word"])
def test_a_stop_string_across_tokens_ends_the_text_before_it(name):
    tokenizer = kind(name)
    model = gpt(tokenizer.size, 64, std=0.3)
    found, settings = long_text(model, tokenizer)
    tried = 0
    for begin, size in itertools.product(range(3, 10), (1, 2, 4)):
        stop = found.text[begin : begin + size]
        if "\ufffd" in stop or found.text.find(stop) < 0:
            continue
        tried += 1
        (ended,) = write(model, tokenizer, "la", stop=(stop, "not in it"), **settings)
        assert ended.finished_by == "stop"
        assert ended.text == found.text[: found.text.find(stop)]
        assert ended.ids == found.ids[: len(ended.ids)]
        pieces = list(stream(model, tokenizer, "la", GenerateSettings(stop=(stop,), **settings)))
        assert "".join(pieces) == ended.text
    assert tried > 5


class Parrot:
    """Says one text, whatever was read: a model for tests of what becomes of tokens."""

    reads, carries, context = "left", False, None

    def __init__(self, ids, vocab):
        self.ids, self.vocab = ids, vocab

    def extend(self, tokens, state):
        done = 0 if state is None else state.done
        logits = torch.full((tokens.fences.count, self.vocab), -50.0)
        logits[:, self.ids[done] if done < len(self.ids) else 0] = 50.0
        return logits, State(done + 1)


class State:
    def __init__(self, done):
        self.done = done

    def select(self, rows):
        return self


SPANISH = "¿Qué tal, pequeñín? ¡Añil! Cigüeñas 🙂👩‍👩‍👧 fin"


@pytest.mark.parametrize("name", ["byte", "bpe", "char"])
def test_accents_marks_and_emoji_are_never_broken(name):
    tokenizer = kind(name, [SPANISH, *TEXTS])
    ids = tokenizer.encode(SPANISH).ids
    model = Parrot([*ids, tokenizer.end_id], tokenizer.size)
    pieces = list(stream(model, tokenizer, "di:", GenerateSettings(greedy=True, max_tokens=200)))
    assert "".join(pieces) == SPANISH
    assert not any("\ufffd" in piece for piece in pieces)
    for stop in ("ñ", "🙂", "¡A", "eñas 🙂"):
        (found,) = write(model, tokenizer, "di:", greedy=True, stop=(stop,), max_tokens=200)
        assert (found.text, found.finished_by) == (SPANISH[: SPANISH.find(stop)], "stop")


def test_an_unfinished_character_at_the_end_is_shown_as_one():
    tokenizer = kind("byte")
    ids = tokenizer.encode("a🙂").ids
    (found,) = write(Parrot(ids, tokenizer.size), tokenizer, "x", greedy=True, max_tokens=3)
    assert found.finished_by == "max_tokens"
    assert found.text.startswith("a\ufffd")


def test_only_one_sample_is_streamed(words):
    with pytest.raises(ConfigError, match="samples"):
        stream(gpt(words.size), words, "la", GenerateSettings(samples=2))
