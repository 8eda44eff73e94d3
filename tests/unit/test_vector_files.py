"""Files of word vectors: written and read again, the published formats byte by byte, and files that lie."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

import vocablo
from command_line import refused
from command_line import vocablo as command
from vocablo import api, checkpoint
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.models import word_vectors
from vocablo.text.tokenizer import Tokenizer
from vocablo.vector_files import fasttext, reading, writing

WORDS = ["el", "niño", "¿", "freezer", "</s>"]
FILES = {"m.vec": reading.TEXT, "m.txt": reading.TEXT, "m.bin": reading.BINARY, "m.glove": reading.GLOVE}
SHARED = Path(__file__).parents[3] / "shared" / "data" / "checkpoints" / "gensim_vectors"
if not SHARED.exists():
    SHARED = Path(__file__).parents[4] / "shared" / "data" / "checkpoints" / "gensim_vectors"
shared = pytest.mark.skipif(not SHARED.exists(), reason="the files of ../shared aren't here")


@pytest.fixture
def model():
    torch.manual_seed(0)
    tokenizer = Tokenizer.of_words(WORDS)
    config = word_vectors.config_for("word-vectors", "tiny", tokenizer.size, 0, {"width": 3})
    return word_vectors.build(config), tokenizer


@pytest.mark.parametrize("name", FILES)
def test_written_and_read_again_the_numbers_are_the_same(name, model, tmp_path):
    vectors, tokenizer = model
    checkpoint.save(tmp_path / "model", vectors, tokenizer)
    told = api.export(tmp_path / "model", tmp_path / name)
    assert (told.model_type, told.vocabulary, told.parameters) == (FILES[name], 5, 15)
    again = vocablo.load(tmp_path / name)
    for word in WORDS:
        assert torch.equal(torch.from_numpy(again.vector(word)), vectors.vectors[tokenizer.id(word)])
    assert len(again.neighbors("el", k=9).neighbors) == 4


def test_the_formats_are_those_of_the_programs(model, tmp_path):
    """word2vec.c: "%d %d\\n", then "%s " and the numbers, in text or binary, and "\\n"; GloVe the same without the header."""
    vectors, tokenizer = model
    rows = {word: vectors.vectors[tokenizer.id(word)].tolist() for word in WORDS}
    for name in ("m.vec", "m.bin", "m.glove"):
        writing.write(tmp_path / name, vectors, tokenizer)
    lines = [f"{word} {' '.join(f'{one:.9g}' for one in rows[word])}\n".encode() for word in WORDS]
    assert (tmp_path / "m.vec").read_bytes() == b"5 3\n" + b"".join(lines)
    assert (tmp_path / "m.glove").read_bytes() == b"".join(lines)
    binary = b"".join(word.encode() + b" " + struct.pack("<3f", *rows[word]) + b"\n" for word in WORDS)
    assert (tmp_path / "m.bin").read_bytes() == b"5 3\n" + binary
    (tmp_path / "no-breaks").write_bytes(b"5 3\n" + binary.replace(b"\n\n", b"\n"))  # gensim writes none between words
    (tmp_path / "packed.gz").write_bytes(gzip.compress((tmp_path / "m.vec").read_bytes()))
    assert reading.load(tmp_path / "packed.gz").words == WORDS


def test_words_with_spaces_and_words_that_come_again(tmp_path, capsys):
    (tmp_path / "glove.txt").write_text("a 1 2 3\n. . . 4 5 6\na 7 8 9\n<unk> 0.5 0 0\n", encoding="utf-8")
    found = reading.load(tmp_path / "glove.txt")
    assert found.words == ["a", ". . .", "<unk>"]
    np.testing.assert_array_equal(found.vectors, [[1, 2, 3], [4, 5, 6], [0.5, 0, 0]])
    assert "1 of 4 words come again" in capsys.readouterr().err
    read, tokenizer = reading.read(tmp_path / "glove.txt")
    assert read.vectors[tokenizer.unk_id].tolist() == [0.5, 0, 0]


LIES = {
    "more words": (b"3 2\na 1 2\nb 3 4\n", "says 3 words, and 2 follow"),
    "fewer words": (b"1 2\na 1 2\nb 3 4\n", "says 1 words, and 2 follow"),
    "other width": (b"2 3\na 1 2\nb 3 4\n", r"line 2 \('a'\): there should be 3 numbers, and there are 2"),
    "mixed": (b"a 1 2 3\nb 3 4\n", r"line 2 \('b'\): there should be 3 numbers, and there are 2"),
    "mixed, wider": (b"2 2\na 1 2\nb 3 4 5\n", r"line 3 \('b'\): there should be 2 numbers, and there are 3"),
    "letters": (b"2 2\na 1 2\nb 3 x4\n", r"line 3 \('b'\): there should be a word and numbers"),
    "not finite": (b"2 2\na 1 2\nb 3 nan\n", "'b' has a number that isn't finite"),
    "binary, short": (b"9 2\n" + b"a " + bytes(8) + b"\n", "says 9 words of 2 numbers, and the file has .* less"),
    "binary, long": (b"1 2\n" + (b"a " + bytes(8) + b"\n") * 2, "says 1 words of 2 numbers, and more follows"),
    "binary, wide": (b"1 99999999\n" + b"a " + bytes(8), "vectors of 99999999 numbers"),
    "fastText, cut": (fasttext.MAGIC + struct.pack("<i", 12) + bytes(20), "ends early"),
    "fastText, older": (fasttext.MAGIC + struct.pack("<i", 3) + bytes(20), "version 3"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_lies_is_refused_in_one_line(name, tmp_path):
    data, message = LIES[name]
    (tmp_path / "vectors").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        vocablo.load(tmp_path / "vectors")
    refused(command("neighbors", "a", "-m", str(tmp_path / "vectors")))


def test_a_vocabulary_of_other_words_is_refused(model, tmp_path):
    writing.write(tmp_path / "m.vec", *model)
    (tmp_path / "right").write_text("".join(f"{word} 7\n" for word in reversed(WORDS)), encoding="utf-8")
    (tmp_path / "wrong").write_text("el 3\nniño 2\n¿ 2\nheladera 1\n", encoding="utf-8")
    assert reading.read(tmp_path / "m.vec", vocabulary=tmp_path / "right")
    with pytest.raises(CheckpointError, match=r"2 of its 5 words aren't there and 1 others are, such as '</s>'"):
        reading.read(tmp_path / "m.vec", vocabulary=tmp_path / "wrong")
    with pytest.raises(CheckpointError, match="no vocabulary file"):
        reading.read(tmp_path / "m.vec", vocabulary=tmp_path / "gone")
    checkpoint.save(tmp_path / "model", *model)
    for words in (WORDS[:-1], [*WORDS, "más"]):
        Tokenizer.of_words(words).save(tmp_path / "model")
        with pytest.raises(CheckpointError, match="don't belong together"):
            vocablo.load(tmp_path / "model")


def test_what_can_not_be_written_is_refused(model, tmp_path):
    vectors, tokenizer = model
    with pytest.raises(ConfigError, match=r"\.vec, \.txt"):
        writing.write(tmp_path / "m.npy", vectors, tokenizer)
    spaced = Tokenizer.of_words([*WORDS[:-1], "dos palabras"])
    with pytest.raises(ConfigError, match="white space"):
        writing.write(tmp_path / "m.vec", vectors, spaced)
    assert not (tmp_path / "m.vec").exists()
    (tmp_path / "poem.txt").write_text("verde que te quiero\n")
    with pytest.raises(CheckpointError, match=r"poem.txt is a file"):
        vocablo.load(tmp_path / "poem.txt")


def test_a_fasttext_word_is_the_mean_of_its_row_and_of_its_ngrams(tmp_path):
    """A model written by hand: "no" has the 3-grams <no and no>, hashed by the published function."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(2 + 5, 3)).astype("<f4")
    data = fasttext.MAGIC + struct.pack("<i12id", 12, 3, 5, 1, 1, 5, 1, 2, 2, 5, 3, 3, 1, 1e-4)
    data += struct.pack("<3i2q", 2, 2, 0, 9, -1)
    data += b"</s>\0" + struct.pack("<qb", 4, 0) + b"no" + b"\0" + struct.pack("<qb", 5, 0)
    data += b"\0" + struct.pack("<2q", *matrix.shape) + matrix.tobytes()
    (tmp_path / "m.bin").write_bytes(data)
    found = reading.load(tmp_path / "m.bin")
    assert (found.words, found.format) == (["</s>", "no"], reading.FASTTEXT)
    rows = [1]
    for gram in ("<no", "no>"):
        value = 2166136261
        for byte in gram.encode():
            value = ((value ^ byte) * 16777619) % 2**32
        rows.append(2 + value % 5)
    np.testing.assert_allclose(found.vectors[1], matrix[rows].mean(0), rtol=1e-6)
    np.testing.assert_array_equal(found.vectors[0], matrix[0])
    assert fasttext.hashes("¿".encode(), 1, 2) == [fasttext._hash(part.encode()) for part in ("<¿", "¿", "¿>")]


@shared
@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("EN.1-10.cbow1_wind5_hs0_neg10_size300_smpl1e-05.txt", (20, 300), reading.TEXT),
        ("euclidean_vectors.bin", (2747, 10), reading.BINARY),
        ("word2vec_pre_kv_c", (1750, 10), reading.TEXT),
        ("crime-and-punishment.vec", (291, 5), reading.TEXT),
        ("test_glove.txt", (76, 50), reading.GLOVE),
        ("lee_fasttext_new.bin", (1763, 10), reading.FASTTEXT),
        ("crime-and-punishment.bin", (291, 5), reading.FASTTEXT),
    ],
)
def test_published_files_are_read(name, shape, kind):
    found = reading.load(SHARED / name)
    assert (found.vectors.shape, found.format) == (shape, kind)


@shared
def test_fasttexts_own_two_files_agree():
    model, text = (reading.load(SHARED / f"crime-and-punishment.{ending}") for ending in ("bin", "vec"))
    assert model.words == text.words
    np.testing.assert_allclose(model.vectors, text.vectors, atol=2e-5, rtol=1e-4)
