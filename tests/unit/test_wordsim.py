"""Word vectors against people's judgements: files as they are published, scipy's rho, and analogies by hand."""

import numpy as np
import pytest
import scipy.stats
import torch

from command_line import refused
from command_line import vocablo as command
from vocablo import api
from vocablo.base.errors import ConfigError, DataError
from vocablo.data.word_sets import Pairs, Questions, read_set, read_sets
from vocablo.evaluation import wordsim
from vocablo.inference.words import WordModel
from vocablo.models import word_vectors
from vocablo.text.tokenizer import Tokenizer

SETS = {
    "plain.txt": "tren\tcoche\t6.5\nperro\tgato\t8\n",
    "simlex.txt": "word1\tword2\tPOS\tSimLex999\r\ntren\tcoche\tN\t6.5\r\nperro\tgato\tN\t8\r\n",
    "combined.csv": "Word 1,Word 2,Human (mean),1\r\ntren,coche,6.5,7\r\nperro,gato,8,8\r\n",
    "msimlex.txt": "Word1,Word2,1,Average Score\ntren,coche,9,6.5\nperro,gato,9,8\n",
    "spaces.txt": "# a remark\ntren coche 6.5\nperro gato 8\n",
}
QUESTIONS = (
    ": reyes\nhombre rey mujer reina\nhombre mujer rey reina\nHombre rey mujer nadie\n: otra\nsol día luna noche\n"
)


@pytest.mark.parametrize("name", SETS)
def test_sets_are_read_as_they_are_published(name, tmp_path):
    (tmp_path / name).write_bytes(SETS[name].encode())
    assert read_set(tmp_path / name, name) == Pairs(name, (("tren", "coche", 6.5), ("perro", "gato", 8.0)))


def test_other_files_are_no_sets(tmp_path):
    for name, text in (
        ("README.txt", "Some words\nwithout scores\n"),
        ("bats.txt", "ant\tinsect/animal\n"),
        ("e.txt", ""),
    ):
        (tmp_path / name).write_text(text)
        assert read_set(tmp_path / name, name) is None
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "questions.txt").write_text(QUESTIONS, encoding="utf-8")
    (only,), others = read_sets(tmp_path)
    assert isinstance(only, Questions)
    assert list(map(len, only.sections.values())) == [3, 1]
    assert len(others) == 4
    with pytest.raises(DataError, match="no set of word pairs"):
        read_sets(tmp_path / "e.txt")
    with pytest.raises(DataError, match="no file or folder"):
        read_sets(tmp_path / "gone")


def asked(words, vectors) -> WordModel:
    tokenizer = Tokenizer.of_words(words)
    config = word_vectors.config_for("word-vectors", "tiny", tokenizer.size, 0, {"width": len(vectors[0])})
    model = word_vectors.build(config)
    for word, vector in zip(words, vectors, strict=True):
        model.vectors[tokenizer.id(word)] = torch.tensor(vector, dtype=torch.float32)
    return WordModel(model, tokenizer)


def test_similarity_is_scipys_rho_of_the_known_pairs(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(30)]
    vectors = rng.normal(size=(30, 5))
    pairs = [(words[i], words[29 - i], float(rng.integers(0, 8))) for i in range(15)]
    lines = [f"{a}\t{b}\t{score}" for a, b, score in [*pairs, ("w1", "desconocida", 3)]]
    lines[0] = f"{pairs[0][0].upper()}\t{pairs[0][1]}\t{pairs[0][2]}"
    (tmp_path / "set.txt").write_text("\n".join(lines), encoding="utf-8")
    found = wordsim.evaluate(asked(words, vectors), tmp_path)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = [float(unit[i] @ unit[29 - i]) for i in range(15)]
    (one,) = found.similarity
    assert one.score.value == pytest.approx(scipy.stats.spearmanr([score for *_, score in pairs], cosines)[0], abs=1e-6)
    assert (one.score.count, one.total, one.coverage) == (15, 16, 15 / 16)
    assert found.words == 30


def test_analogies_are_right_when_the_nearest_other_word_is(tmp_path, monkeypatch):
    monkeypatch.setattr(wordsim, "FEWEST", 1)
    words = ["hombre", "rey", "mujer", "reina", "cerca"]
    vectors = [[1, 0, 0.1], [1, 1, 0], [-1, 0, 0.1], [-1, 1, 0], [-0.9, 0.1, 0]]
    (tmp_path / "q.txt").write_text(QUESTIONS + "rey hombre reina cerca\n", encoding="utf-8")
    model = asked(words, vectors)
    expected = [model.analogy(a, b, c, k=1).answers[0].word == d for a, b, c, d in
                (("hombre", "rey", "mujer", "reina"), ("hombre", "mujer", "rey", "reina"), ("rey", "hombre", "reina", "cerca"))]  # fmt: skip
    assert expected == [True, True, False]  # mujer, not cerca
    found = {one.name: one for one in wordsim.evaluate(model, tmp_path).analogies}
    whole = found["q.txt"]
    assert (whole.score.value, whole.score.count, whole.total) == (2 / 3, 3, 5)
    assert found["q.txt, reyes"].score.value == 1
    assert found["q.txt, otra"].score.value == 0


def test_on_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    lines = [f"{word} {' '.join(map(str, rng.normal(size=4)))}" for word in words]
    (tmp_path / "m.glove").write_text("\n".join(lines))
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "one.txt").write_text("".join(f"w{i} w{i + 1} {i}\n" for i in range(11)))
    (tmp_path / "sets" / "tiny.txt").write_text("w1 w2 3\nw1 w3 4\n")
    given = ["evaluate", "wordsim", "-m", "m.glove", "--data", "sets"]
    done = command(*given)
    assert done.code == 0, done.err
    assert "11 of 11" in done.out
    assert "fewer than ten known: tiny.txt" in done.out
    assert '"similarity"' in command(*given, "--json").out
    refused(command(*given, "--out", "x"), "--out")
    refused(command(*given[:4]), "--data")
    refused(command("evaluate", "wordsim", "other", *given[2:]), "No set", "one.txt")
    refused(command("evaluate", "wordsim", "tiny", *given[2:]), "pairs or questions", early=False)
    with pytest.raises(ConfigError, match="vectors of words"):
        wordsim.evaluate(api, tmp_path)
