"""Choosing tokens, and turning them into text as they come."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tiny_models import kind
from vocablo.base.errors import ConfigError
from vocablo.decoding.sampling import SamplingSettings, choose, distribution, penalise
from vocablo.decoding.text import StopStrings, TextStream
from vocablo.text.tokenizer import Tokenizer

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5], [0.0, 0.0, 3.0, 0.0, 0.0]])
PLAIN = SamplingSettings()


def probs(**changes):
    return distribution(LOGITS, None, SamplingSettings(**changes))


def test_plain_sampling_is_the_softmax():
    torch.testing.assert_close(probs(), LOGITS.softmax(1))
    torch.testing.assert_close(probs(temperature=0.5), (LOGITS * 2).softmax(1))


@pytest.mark.parametrize("changes", [{"greedy": True}, {"temperature": 0}, {"top_k": 1}])
def test_deterministic_settings_take_the_best_and_need_no_draw(changes):
    chosen = choose(LOGITS, None, SamplingSettings(**changes))
    assert chosen.tolist() == [0, 2]
    assert probs(**changes).tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0]]


def test_greedy_takes_the_smallest_id_of_equals():
    assert choose(torch.zeros(1, 4), None, SamplingSettings(greedy=True)).tolist() == [0]


def test_a_draw_picks_by_the_inverse_of_the_cumulative_probability():
    """Every draw of a fine grid falls on the token whose interval it is in, so frequencies are probabilities."""
    settings = SamplingSettings(temperature=0.8, top_p=0.9)
    wanted = distribution(LOGITS[:1], None, settings)[0]
    grid = (torch.arange(10000, dtype=torch.float64) + 0.5) / 10000
    chosen = choose(LOGITS[:1].expand(10000, -1), None, settings, grid)
    torch.testing.assert_close(torch.bincount(chosen, minlength=5) / 10000, wanted, atol=2e-4, rtol=0)


def test_the_largest_draw_never_picks_a_token_that_is_out():
    logits = torch.full((1, 50), -math.inf)
    logits[0, 7] = 0.0
    for draw in (0.0, 0.5, math.nextafter(1.0, 0.0)):
        assert choose(logits, None, PLAIN, torch.tensor([draw], dtype=torch.float64)).tolist() == [7]


def test_each_row_is_chosen_by_its_own_draw():
    draws = torch.tensor([0.999, 0.001], dtype=torch.float64)
    together = choose(LOGITS, None, PLAIN, draws)
    alone = [choose(LOGITS[row : row + 1], None, PLAIN, draws[row : row + 1]) for row in range(2)]
    assert together.tolist() == torch.cat(alone).tolist()


def test_top_k_larger_than_the_vocabulary_and_top_p_of_one_leave_all():
    torch.testing.assert_close(probs(top_k=99), LOGITS.softmax(1))
    torch.testing.assert_close(probs(top_p=1.0), LOGITS.softmax(1))
    torch.testing.assert_close(probs(min_p=0.0), LOGITS.softmax(1))


def test_the_nucleus_is_the_smallest_set_that_reaches_p():
    flat = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    for p, size in ((0.39, 1), (0.41, 2), (0.69, 2), (0.71, 3), (0.95, 4)):
        assert int((distribution(flat, None, SamplingSettings(top_p=p)) > 0).sum()) == size
    tiny = distribution(flat, None, SamplingSettings(top_p=1e-6))
    assert tiny.tolist() == [[1, 0, 0, 0]]


def test_the_steps_come_in_the_order_that_is_written_down():
    """Temperature before the nucleus, and the nucleus of what top-k left."""
    flat = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]]))
    both = distribution(flat, None, SamplingSettings(top_k=2, top_p=0.56))
    assert (both > 0).tolist() == [[True, False, False, False]]  # 0.4 / 0.7 = 0.571 reaches 0.56
    hot = distribution(flat, None, SamplingSettings(temperature=10, top_p=0.4))
    assert int((hot > 0).sum()) == 2  # nearly uniform by then


def test_the_penalty_lowers_what_is_there_once():
    logits = torch.tensor([[3.0, -1.0, 2.0]])
    history = torch.tensor([[0, 1, 1, 0]])
    assert penalise(logits, history, 2.0).tolist() == [[1.5, -2.0, 2.0]]
    assert logits.tolist() == [[3.0, -1.0, 2.0]]
    assert choose(logits, history, SamplingSettings(greedy=True, repetition_penalty=2.0)).tolist() == [2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"x": 1},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValidationError):
        SamplingSettings(**wrong)


def fed(stops, pieces):
    """What is shown of pieces, and whether a stop string ended them."""
    finder = StopStrings(stops)
    shown = ""
    for piece in pieces:
        part, stopped = finder.feed(piece)
        shown += part
        assert not any(stop in shown for stop in stops)
        if stopped:
            return shown, True
    return shown + finder.flush(), False


@settings(max_examples=300, deadline=None)
@given(
    text=st.text("ab.", max_size=14),
    stops=st.lists(st.text("ab.", min_size=1, max_size=4), max_size=3),
    cuts=st.sets(st.integers(0, 14)),
)
def test_a_stop_string_is_found_wherever_the_pieces_are_cut(text, stops, cuts):
    edges = [0, *sorted(cut for cut in cuts if cut < len(text)), len(text)]
    pieces = [text[begin:end] for begin, end in itertools.pairwise(edges)]
    shown, stopped = fed(stops, pieces)
    # Independently: the shortest prefix of the text, at a cut, that holds a stop string decides.
    ends = [end for end in edges[1:] if any(stop in text[:end] for stop in stops)]
    if ends:
        seen = text[: ends[0]]
        assert stopped
        assert shown == seen[: min(seen.find(stop) for stop in stops if stop in seen)]
    else:
        assert (shown, stopped) == (text, False)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ConfigError, match="empty"):
        StopStrings(["a", ""])


SPANISH = "¿Qué tal, pequeñín? ¡Añil! «Cigüeña» 🙂👩‍👩‍👧 日本 e\u0301 fin"


@pytest.mark.parametrize("name", ["char", "byte", "bpe", "word", "wordpiece", "unigram"])
@pytest.mark.parametrize("split", [0, 3])
def test_the_stream_of_a_text_is_the_text(name, split):
    tokenizer = Tokenizer.train(name, [SPANISH * 2], vocab=290 if name == "bpe" else None)
    ids = tokenizer.encode(SPANISH * 3).ids
    stream = TextStream(tokenizer.decode, ids[:split])
    parts = [stream.feed(token) for token in ids[split:]]
    whole = tokenizer.decode(ids)
    assert "\ufffd" not in "".join(parts)
    assert "".join(parts) + stream.flush() == whole[len(tokenizer.decode(ids[:split])) :]


@settings(max_examples=100, deadline=None)
@given(text=st.text("añ¿🙂 ́日", max_size=40))
def test_characters_of_several_bytes_come_whole(text):
    tokenizer = kind("byte")
    stream = TextStream(tokenizer.decode)
    shown = ""
    for token in tokenizer.encode(text).ids:
        shown += stream.feed(token)
        assert text.startswith(shown)
    assert shown + stream.flush() == text


def test_a_character_that_is_never_finished_shows_as_such_only_in_the_end():
    tokenizer = kind("byte")
    ids = tokenizer.encode("a🙂").ids[:-1]
    stream = TextStream(tokenizer.decode)
    assert "".join(stream.feed(token) for token in ids) == "a"
    assert set(stream.flush()) == {"\ufffd"}
