"""Attention weights that are shown are those of the formula, and what is drawn says what it was given."""

import struct
import xml.etree.ElementTree as ET
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest

from tiny_models import counted, gpt, kind
from vocablo.base.errors import ConfigError
from vocablo.contract import Tokens
from vocablo.inference.left_model import LanguageModel
from vocablo.nn import taps
from vocablo.views import attention as views
from vocablo.views.png import png

TEXT = "el gato come pan ."


@pytest.fixture(scope="module")
def asked():
    tokenizer = kind("word")
    return LanguageModel(gpt(tokenizer.size, std=0.6), tokenizer)


def test_weights_are_those_that_the_taps_recorded(asked):
    found = asked.attend(TEXT)
    ids = [asked.tokenizer.end_id, *asked.tokenizer.encode(TEXT).ids]
    with taps.watching() as seen:
        asked.model.forward(Tokens.of([ids]))
    assert found.tokens == ("<end>", *TEXT.split())
    assert (found.depth, found.width, found.layers, found.heads) == (1, 2, (1,), (1, 2))
    np.testing.assert_allclose(found.weights[0], seen.weights(0)[0].detach().numpy(), atol=1e-6)
    np.testing.assert_allclose(found.weights.sum(-1), 1, atol=1e-5)
    assert not np.triu(found.weights[0, 0], 1).any(), "a GPT doesn't look ahead"


def test_layers_and_heads_are_chosen_by_number_from_one(asked):
    every = asked.attend(TEXT)
    for given, head in (([2], 2), ([-1], 2), ([-2], 1)):
        one = asked.attend(TEXT, heads=given)
        assert one.heads == (head,)
        np.testing.assert_array_equal(one.matrix(), every.matrix(1, head))
    np.testing.assert_allclose(every.matrix(), every.weights[0].mean(0))
    assert every.title() == "layer 1 of 1, mean of 2 heads"
    assert asked.attend(TEXT, heads=[2]).title() == "layer 1 of 1, head 2"
    for wrong in (0, 3, -3):
        with pytest.raises(ConfigError, match=f"no head {wrong}: this model has heads 1 to 2"):
            asked.attend(TEXT, heads=[wrong])


def test_models_without_attention_and_texts_over_the_context_are_refused(asked):
    tokenizer = asked.tokenizer
    with pytest.raises(ConfigError, match=r"attend needs a model with attention.*next"):
        LanguageModel(counted(tokenizer), tokenizer).attend(TEXT)
    assert "attend" not in LanguageModel(counted(tokenizer), tokenizer).verbs
    with pytest.raises(ConfigError, match="32"):
        asked.attend(TEXT * 10)


WEIGHTS = np.array([[0.75, 0.25, 0.0], [0.0, 1.0, 0.0], [0.002, 0.498, 0.5]], dtype=np.float32)


def test_the_terminal_shows_percent_and_leaves_out_what_is_not_looked_at():
    lines = views.heat_table(["gato", " come", "<extraordinariamente>"], WEIGHTS).splitlines()
    assert lines[0].split() == ["gato", "come", "<ex…"]
    assert [line.split() for line in lines[1:3]] == [["gato", "█75", "▒25"], ["come", "█100"]]
    assert lines[3].split() == ["<extraordin…", "·", "▓50", "▓50"]
    narrow = views.heat_table(["a", "b", "c"], WEIGHTS, columns=14)
    assert max(map(len, narrow.splitlines())) <= 14
    assert narrow.count("75") == 1


def test_a_head_is_drawn_with_its_weights_as_tips():
    root = ET.fromstring(views.head_svg(["ga<to", "come", "pan"], WEIGHTS, "layer 1 & head 2"))
    tips = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert len(tips) == 9
    assert tips[0] == "ga<to → ga<to: 0.750"
    shades = [float(cell.get("fill-opacity")) for cell in root.findall("{*}rect") if cell.get("fill-opacity")]
    np.testing.assert_allclose(np.square(shades), WEIGHTS.ravel(), atol=1e-3)


class Images(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.found.append(dict(attributes))


def test_the_page_has_every_head_and_asks_for_nothing(asked):
    drawn = asked.attend(TEXT)._repr_html_()
    images = Images(drawn).found
    assert [one["title"] for one in images] == ["layer 1, head 1", "layer 1, head 2", "layer 1, mean of the heads"]
    assert [one.get("class") for one in images] == [None, None, "on"]
    assert all(one["src"].startswith("data:image/png;base64,") for one in images)
    for forbidden in ("http://", "https://", "@import", "import("):
        assert forbidden not in drawn.replace("http://www.w3.org/2000/svg", "")


def test_long_texts_are_images_of_the_same_shades():
    count = views.DRAWN + 1
    drawn = views.head_svg(["x"] * count, np.full((count, count), 1 / count, dtype=np.float32), "all")
    assert "<image" in drawn
    assert len(ET.fromstring(drawn).findall("{*}rect")) == 1


def test_the_image_has_the_levels_it_was_given():
    levels = np.array([[0, 255, 7], [128, 1, 2]], dtype=np.uint8)
    data, chunks, at = png(levels), {}, 8
    while at < len(data):
        size, kind_ = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind_ + body)
        chunks[kind_] = body
        at += 12 + size
    assert struct.unpack(">II", chunks[b"IHDR"][:8]) == (3, 2)
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), dtype=np.uint8).reshape(2, 4)
    np.testing.assert_array_equal(rows[:, 1:], levels)
    assert not rows[:, 0].any()
    assert chunks[b"tRNS"] == bytes(range(256))
