"""Score, perplexity and next: against naive loops and against the enumeration of every token path."""

import math

import numpy as np
import pytest
import torch

from tiny_models import TEXTS, counted, gpt, kind, letters, lstm, naive_log_probs, naive_next, pieces
from vocablo.base.errors import ConfigError, DataError
from vocablo.inference.next import next_tokens, next_words
from vocablo.inference.reading import spans
from vocablo.inference.score import perplexity, score
from vocablo.text.kinds import KINDS
from vocablo.text.tokenizer import Tokenizer

TEXT = "la niña come ¿ y el ?"


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Models this small only wait for a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return kind(request.param)


@pytest.fixture(scope="module")
def words():
    return kind("word")


@pytest.mark.parametrize("make", [lambda v: gpt(v, 80), lstm], ids=["gpt", "lstm"])
@pytest.mark.parametrize("end", [False, True])
def test_a_score_is_the_chain_rule(tokenizer, make, end):
    model = make(tokenizer.size)
    ids = [tokenizer.end_id, *tokenizer.encode(TEXT).ids, *[tokenizer.end_id] * end]
    expected = naive_log_probs(model, ids)
    (found,) = score(model, tokenizer, [TEXT], end=end)
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-5)
    assert found.log_prob == pytest.approx(expected.sum(), abs=1e-4)
    assert found.ids == ids[1:]
    assert found.first == "boundary"
    assert found.perplexity == pytest.approx(math.exp(-expected.mean()), rel=1e-5)


def test_a_score_of_counts_is_the_chain_rule(words):
    model = counted(words)
    ids = [words.end_id, *words.encode(TEXTS[0]).ids]
    np.testing.assert_allclose(score(model, words, [TEXTS[0]])[0].log_probs, naive_log_probs(model, ids), atol=1e-5)


def test_words_have_the_tokens_between_white_space_and_sum_to_the_whole(tokenizer):
    model = gpt(tokenizer.size, 80)
    (found,) = score(model, tokenizer, [TEXTS[3]], end=True)
    assert sum(word.log_prob for word in found.words) == pytest.approx(found.log_prob, abs=1e-4)
    assert [word.begin for word in found.words] == [0, *(word.end for word in found.words[:-1])]
    assert found.words[-1].end == len(found.tokens)
    assert [word.word for word in found.words[:-1]] == TEXTS[3].split()
    for word in found.words:
        assert word.log_prob == pytest.approx(sum(found.log_probs[word.begin : word.end]), abs=1e-5)


def test_texts_scored_together_are_as_alone(words):
    model = gpt(words.size)
    texts = [*TEXTS, "", "gato"]
    together = score(model, words, texts, end=True)
    for text, one in zip(texts, together, strict=True):
        assert one.log_prob == pytest.approx(score(model, words, [text], end=True)[0].log_prob, abs=1e-4)
    empty = together[-2]
    assert (len(empty.tokens), empty.text) == (1, "")
    nothing = score(model, words, [""])[0]
    assert nothing.log_prob == 0
    assert math.isnan(nothing.perplexity)


def test_without_a_boundary_the_first_token_is_only_read():
    tokenizer = Tokenizer.train("char", TEXTS, specials={"end": None, "unk": None})
    model = gpt(tokenizer.size)
    (found,) = score(model, tokenizer, ["el gato"])
    assert found.first == "skipped"
    assert found.log_probs[0] is None
    np.testing.assert_allclose(found.log_probs[1:], naive_log_probs(model, found.ids), atol=1e-5)
    assert found.likelihood.bytes == 6
    with pytest.raises(ConfigError, match="boundary"):
        score(model, tokenizer, ["el"], end=True)
    with pytest.raises(DataError, match="prompt"):
        next_tokens(model, tokenizer, "")


def test_bits_per_byte_are_those_of_exact_text_only(words):
    bytewise = kind("byte")
    (exact,) = score(gpt(bytewise.size, 80), bytewise, [TEXT])
    assert exact.bits_per_byte == pytest.approx(-exact.log_prob / math.log(2) / len(TEXT.encode()))
    (unknown,) = score(gpt(words.size), words, ["el zorro come pan ."])
    assert unknown.unknown == 1
    assert unknown.bits_per_byte is None
    lower = Tokenizer.train("char", TEXTS, lowercase=True)
    (lossy,) = score(gpt(lower.size), lower, ["El gato"])
    assert lossy.unknown == 0
    assert lossy.bits_per_byte is None


@pytest.mark.parametrize(("length", "context", "stride"), [(1, 4, 2), (4, 4, 1), (5, 4, 4), (17, 4, 1), (18, 5, 3)])
def test_windows_score_each_token_once_with_enough_before_it(length, context, stride):
    scored = []
    for begin, first, end in spans(length, context, stride):
        assert 0 < end - begin <= context
        scored += range(first, end)
        if begin:
            assert first - begin >= context - stride
    assert scored == list(range(length))


def test_windows_of_a_text_that_fits_are_the_text(words):
    model = gpt(words.size, 32)
    plain, windows = (score(model, words, TEXTS, stride=stride) for stride in (None, 4))
    assert [one.log_probs for one in plain] == [one.log_probs for one in windows]


@pytest.mark.parametrize("stride", [1, 3, 8])
def test_windows_are_what_a_loop_over_them_gives(words, stride):
    model = gpt(words.size, 8)
    text = " ".join(TEXTS[:3])
    ids = [words.end_id, *words.encode(text).ids]
    expected = list(naive_log_probs(model, ids[:9]))
    while len(expected) < len(ids) - 1:
        end = min(len(expected) + stride, len(ids) - 1)
        expected += list(naive_log_probs(model, ids[end - 8 : end + 1]))[len(expected) - end :]
    (found,) = score(model, words, [text], stride=stride)
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-5)


def test_a_text_over_the_context_is_an_error_that_names_the_way_out(words):
    model = gpt(words.size, 8)
    with pytest.raises(ConfigError, match="stride"):
        score(model, words, [" ".join(TEXTS)])
    for stride in (0, -1, 9):
        with pytest.raises(ConfigError, match="at most the model's context, 8"):
            score(model, words, [TEXTS[0]], stride=stride)


def test_a_model_and_a_tokenizer_of_other_sizes_are_refused(words):
    with pytest.raises(ConfigError, match="belong together"):
        score(gpt(5), words, [TEXTS[0]])


def test_perplexity_of_documents_is_that_of_their_scores(tokenizer):
    model = gpt(tokenizer.size, 80)
    parts = [one.likelihood for one in score(model, tokenizer, TEXTS, end=True)]
    whole = perplexity(model, tokenizer, TEXTS)
    assert whole.log_prob == pytest.approx(sum(part.log_prob for part in parts), abs=1e-3)
    assert whole.tokens == sum(part.tokens for part in parts)
    assert whole.words == sum(len(text.split()) + 1 for text in TEXTS)
    assert whole.bytes == sum(len(text.encode()) for text in TEXTS)
    halves = perplexity(model, tokenizer, TEXTS[:1]) + perplexity(model, tokenizer, TEXTS[1:])
    assert halves.log_prob == pytest.approx(whole.log_prob, abs=1e-3)


def test_carrying_is_one_long_stream(words):
    model = lstm(words.size)
    carried = perplexity(model, words, TEXTS, carry=True)
    stream = [words.end_id]
    for text in TEXTS:
        stream += [*words.encode(text).ids, words.end_id]
    assert carried.log_prob == pytest.approx(naive_log_probs(model, stream).sum(), abs=1e-4)
    alone = perplexity(model, words, TEXTS)
    assert abs(alone.log_prob - carried.log_prob) > 1e-3
    assert (alone.tokens, alone.words) == (carried.tokens, carried.words) == (len(stream) - 1, alone.words)


def test_carrying_goes_on_over_groups_of_documents(words, monkeypatch):
    model = lstm(words.size)
    once = perplexity(model, words, TEXTS, carry=True)
    monkeypatch.setattr("vocablo.inference.score.GROUP", 1)
    assert perplexity(model, words, TEXTS, carry=True).log_prob == pytest.approx(once.log_prob, abs=1e-4)
    monkeypatch.setattr("vocablo.inference.reading.BATCH_TOKENS", 3)
    assert perplexity(model, words, TEXTS, carry=True).log_prob == pytest.approx(once.log_prob, abs=1e-4)
    assert perplexity(model, words, TEXTS).log_prob == pytest.approx(
        sum(one.log_prob for one in score(model, words, TEXTS, end=True)), abs=1e-3
    )


def test_how_the_first_tokens_were_treated_is_stated(words):
    model = gpt(words.size, 8)
    assert perplexity(model, words, ["la niña"]).policy == "boundary"
    assert perplexity(model, words, [TEXT * 3, TEXT], stride=4).policy == "boundary, windows of 8 tokens, stride 4"
    assert "state carried" in perplexity(lstm(words.size), words, TEXTS, carry=True).policy
    assert score(model, words, ["la niña"])[0].likelihood.policy == "boundary"
    assert score(model, words, ["la niña"], convention="minicons")[0].likelihood.policy == "skipped"


def test_only_what_carries_a_state_can_carry_it(words):
    with pytest.raises(ConfigError, match="lstm"):
        perplexity(gpt(words.size), words, TEXTS, carry=True)


def test_asking_leaves_a_model_in_training_as_it_was(words):
    model = gpt(words.size).train()
    perplexity(model, words, TEXTS)
    next_words(model, words, "el gato", 3)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_next_tokens_are_the_softmax(tokenizer):
    model = gpt(tokenizer.size)
    expected = naive_next(model, [tokenizer.end_id, *tokenizer.encode("el gato").ids])
    found = next_tokens(model, tokenizer, "el gato", k=tokenizer.size).tokens
    assert [one.prob for one in found] == sorted((one.prob for one in found), reverse=True)
    assert {one.id: one.prob for one in found} == pytest.approx(dict(enumerate(expected)), abs=1e-6)
    assert [one.token for one in found[:3]] == [tokenizer.surface(one.id) for one in found[:3]]


def is_letter(tokenizer, token):
    return token not in tokenizer.special_ids and tokenizer.surface(token)[0] in "ab"


def enumerated(model, tokenizer, prompt, depth):
    """Every word that the model can say after ``prompt`` with at most ``depth`` tokens, its probability, and finished.

    By hand, from the rules that are written down: a leading space is the word's, the prompt's last word is finished, a
    word goes on with letters, and a stop, a space or ``<end>`` ends it; a stop and ``<end>`` are words.
    """
    led = prompt.endswith(" ")
    start = [tokenizer.end_id, *tokenizer.encode(prompt.removesuffix(" ")).ids]
    ids = range(tokenizer.size)
    spelled = {token: tokenizer.surface(token) for token in ids}
    if led:
        first = [token for token in ids if spelled[token].startswith(" ")]
    else:
        first = [token for token in ids if not (prompt and prompt[-1] in "ab" and is_letter(tokenizer, token))]
    probs = naive_next(model, start)
    finished = probs[first].sum()
    found = {}

    def follow(path, prob):
        text = "".join(spelled[token] for token in path)
        word = text.strip()
        after = naive_next(model, [*start, *path]) if not word or word[-1] in "ab" else None
        if after is None:  # a stop or <end>: whole as it stands
            found[word] = found.get(word, 0.0) + prob
            return
        going = [token for token in ids if (is_letter(tokenizer, token) if word else True)]
        if word:
            found[word] = found.get(word, 0.0) + prob * (1 - after[going].sum())
        for token in going:
            if len(path) < depth or spelled[token].strip() in (".", "<end>"):
                follow((*path, token), prob * after[token])

    for token in first:
        follow((token,), probs[token] / finished)
    return found, finished


@pytest.mark.parametrize("make", [letters, pieces])
@pytest.mark.parametrize("prompt", ["", "a", "a ", "ab.", "b a "])
def test_next_words_are_the_sums_over_all_spellings(make, prompt):
    tokenizer = make()
    room = 4
    read = 1 + len(tokenizer.encode(prompt.removesuffix(" ")).ids)
    model = gpt(tokenizer.size, read + room, std=0.6, seed=3)
    expected, finished = enumerated(model, tokenizer, prompt, room)
    found = next_words(model, tokenizer, prompt, k=10**6, budget=10**6)
    assert found.finished == pytest.approx(finished, abs=1e-6)
    got = {one.word: one.prob for one in found.words}
    for word, prob in expected.items():
        assert got.get(word, 0.0) == pytest.approx(prob, abs=2e-6), word
    assert set(got) <= set(expected)
    assert sum(got.values()) + found.left_out == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("budget", [1, 3, 10, 40])
def test_left_out_bounds_what_is_missing(budget):
    tokenizer = pieces()
    model = gpt(tokenizer.size, 5, std=0.5, seed=5)
    expected, _ = enumerated(model, tokenizer, "ab", 3)
    found = next_words(model, tokenizer, "ab", k=10**6, budget=budget)
    got = {one.word: one.prob for one in found.words}
    missing = {word: prob - got.get(word, 0.0) for word, prob in expected.items()}
    assert min(missing.values()) > -1e-6
    assert max(missing.values()) > 1e-4  # something is missing, or the bound would bound nothing
    assert sum(missing.values()) <= found.left_out + 1e-6
    assert found.left_out < 1


def test_the_best_words_are_the_best_of_all_words():
    tokenizer = pieces()
    for seed in range(3):
        model = gpt(tokenizer.size, 5, std=0.6, seed=seed)
        expected, _ = enumerated(model, tokenizer, "b", 3)
        best = sorted(expected, key=lambda word: -expected[word])[:3]
        found = next_words(model, tokenizer, "b", k=3)
        assert len(found.words) == 3
        for word in found.words:
            assert expected[word.word] - word.prob <= found.left_out + 1e-6
            assert expected[word.word] >= expected[best[2]] - found.left_out
        for word in found.words:
            ids = [tokenizer.surfaces.index(token) for token in word.tokens]
            assert "".join(tokenizer.surface(token) for token in ids).strip() == word.word


@pytest.mark.parametrize("make", [letters, pieces, lambda: kind("word"), lambda: kind("wordpiece")])
def test_named_words_are_as_probable_as_among_all(make):
    tokenizer = make()
    model = gpt(tokenizer.size, 6, std=0.3, seed=2)
    prompt = "a" if tokenizer.size < 20 else "el gato come"
    every = {one.word: one.prob for one in next_words(model, tokenizer, prompt, k=10**6, budget=10**6).words}
    # <unk> and <end> stand for no word that can be named.
    names = sorted(every.keys() - set(tokenizer.specials.values()), key=lambda name: -every[name])[:12]
    named = next_words(model, tokenizer, prompt, among=names, budget=10**5)
    assert [one.word for one in named.words] == names
    for one in named.words:
        assert one.prob == pytest.approx(every[one.word], rel=5e-3, abs=1e-7), one.word
    for one in next_words(model, tokenizer, prompt, k=3).words:
        assert one.prob <= every[one.word] + 1e-7


def test_a_phrase_is_its_words_one_after_the_other(words):
    model = counted(words)
    (phrase,) = next_words(model, words, "la", among=["gata come"]).words
    (first,) = next_words(model, words, "la", among=["gata"]).words
    (second,) = next_words(model, words, "la gata", among=["come"]).words
    assert phrase.prob == pytest.approx(first.prob * second.prob, rel=1e-5)


def test_what_the_vocabulary_can_not_spell_has_no_probability(words):
    found = next_words(counted(words), words, "el", among=["zorro", "gato"])
    assert [one.word for one in found.words] == ["gato", "zorro"]
    assert found.words[1].prob == 0


@pytest.mark.parametrize("make", [lambda t: gpt(t.size), counted, lambda t: lstm(t.size)], ids=["gpt", "ngram", "lstm"])
def test_words_of_every_kind_are_answered_alike(tokenizer, make):
    found = next_words(make(tokenizer), tokenizer, "el gato", k=4)
    assert 1 <= len(found.words) <= 4
    assert all(0 < one.prob <= 1 for one in found.words)
    assert not any(any(space in one.word for space in " \n") for one in found.words)
    assert 0 <= found.left_out <= 1
    assert 0 < found.finished <= 1 + 1e-9


@pytest.mark.parametrize("among", [None, ["come", "mira"]])
def test_a_prompt_over_the_context_names_the_way_out(words, among):
    model = gpt(words.size, 8)
    with pytest.raises(ConfigError, match="shorten"):
        next_words(model, words, " ".join(TEXTS), among=among)
    with pytest.raises(ConfigError, match="shorten"):
        next_tokens(model, words, " ".join(TEXTS))


def test_a_prompt_that_fills_the_context_is_still_answered(words):
    """Nothing more can be read, so words that end by themselves are known and the others are left out."""
    tokenizer = letters()
    model = gpt(tokenizer.size, 4)
    found = next_words(model, tokenizer, "a b", k=5)
    assert {one.word for one in found.words} <= {".", "<end>"}
    assert sum(one.prob for one in found.words) + found.left_out == pytest.approx(1, abs=1e-6)
    assert next_words(gpt(words.size, 3), words, "el gato", k=2).left_out == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("k", [0, -3])
def test_k_is_at_least_one(words, k):
    for ask in (next_words, next_tokens):
        with pytest.raises(ConfigError, match="at least 1"):
            ask(counted(words), words, "el", k)


def test_an_empty_candidate_is_refused(words):
    with pytest.raises(ConfigError, match="candidate"):
        next_words(counted(words), words, "el", among=["gato", " "])


def test_answers_are_drawn():
    tokenizer = letters()
    model = gpt(tokenizer.size)
    assert "<svg" in next_words(model, tokenizer, "a")._repr_html_()
    assert "<svg" in next_tokens(model, tokenizer, "a")._repr_html_()


def test_a_named_word_has_at_least_its_usual_spelling():
    tokenizer = kind("bpe")
    model = gpt(tokenizer.size, 80)
    prompt = [tokenizer.end_id, *tokenizer.encode("la niña").ids]
    whole = [tokenizer.end_id, *tokenizer.encode("la niña xilófono").ids]
    asked = next_words(model, tokenizer, "la niña", among=["xilófono"], budget=1)
    spelled = naive_log_probs(model, whole)[len(prompt) - 1 :].sum()
    ends = naive_next(model, whole)[~tokenizer.words.joins].sum()
    assert whole[: len(prompt)] == prompt
    assert asked.words[0].prob == pytest.approx(math.exp(spelled) * ends / asked.finished, rel=1e-4)
