"""News of matches in two languages: always the same, and the lecture's sentence among what may come."""

import re

from command_line import vocablo
from vocablo.data.match_pairs import pairs

LECTURE = (
    "River ganó y sumó 3 puntos que lo dejan en la punta del campeonato",
    "River won and added 3 points that leave it at the top of the championship",
)


def test_a_pair_of_a_seed_is_always_the_same():
    first = list(pairs(30))
    assert list(pairs(20)) == first[:20]
    assert list(pairs(30, seed=1)) != first
    assert len({one.es for one in pairs(500)}) > 300


def test_what_is_said_in_one_language_is_said_in_the_other():
    for one in pairs(300):
        assert re.findall(r"\d+", one.es) == re.findall(r"\d+", one.en)
        assert (" no " in one.es) == (" did not " in one.en)
        names = [word for word in one.es.split() if word[0].isupper()]
        assert all(name in one.en.split() for name in names)
        assert ("que lo dejan" in one.es) == ("that leave it" in one.en)


def test_the_lectures_sentence_is_made_of_the_same_words():
    made = list(pairs(3000))
    for side, sentence in zip(("es", "en"), LECTURE, strict=True):
        assert set(sentence.split()) <= {word for one in made for word in getattr(one, side).split()}
    pattern = re.compile(r"River ganó y sumó \d puntos que lo dejan en la \w+ del \w+")
    assert any(pattern.fullmatch(one.es) for one in pairs(20000))


def test_the_command(tmp_path):
    out = tmp_path / "partidos.csv"
    assert vocablo("corpus", "--matches", "5", "--out", str(out)).code == 0
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "es,en"
    assert lines[1:] == [f"{one.es},{one.en}" for one in pairs(5)]
