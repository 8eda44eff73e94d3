"""Vectors of texts and of words in context, against means written out; a batch is its texts alone."""

import importlib.util
import itertools
import json
import shutil

import numpy as np
import pytest
import torch

from tiny_models import TEXTS, bert, wordpieces
from vocablo import checkpoint
from vocablo.api import load
from vocablo.base.errors import CheckpointError, ConfigError, DataError
from vocablo.contract import Tokens
from vocablo.data.order import by_length
from vocablo.inference.encoder import EncoderModel
from vocablo.inference.neighbors import cosine
from vocablo.inference.sentence_folder import sentence_folder


@pytest.fixture(scope="module")
def tokenizer():
    return wordpieces()


@pytest.fixture(scope="module")
def asked(tokenizer):
    return EncoderModel(bert(tokenizer.size), tokenizer)


def states(asked, text, layer):
    """The states [T, D] of a text with its special tokens at a layer, and the pooler's vector."""
    tokenizer = asked.tokenizer
    tokens = Tokens.of([[tokenizer.cls_id, *tokenizer.encode(text).ids, tokenizer.sep_id]])
    with torch.no_grad():
        hidden = asked.model.forward(tokens, keep=(layer,))
    return hidden.layers[0].numpy(), hidden.pooled[0].numpy()


POOLED = {
    "cls": lambda rows: rows[0],
    "mean": lambda rows: rows.mean(0),
    "max": lambda rows: rows.max(0),
}


@pytest.mark.parametrize("pooling", POOLED)
def test_pooling_is_over_all_tokens_of_the_chosen_layers(asked, pooling):
    for text in (*TEXTS, "pan"):
        found = asked.embed(text, pooling=pooling, layers=(-1, 1, 0))
        expected = np.concatenate([POOLED[pooling](states(asked, text, layer)[0]) for layer in (2, 1, 0)])
        np.testing.assert_allclose(found.vectors[0], expected, atol=1e-5)
        assert (found.layers, found.width, found.pooling) == ((2, 1, 0), 48, pooling)


def test_the_pooler_and_length_one(asked):
    np.testing.assert_allclose(
        asked.embed("el pan", pooling="pooler").vectors[0], states(asked, "el pan", 2)[1], atol=1e-6
    )
    plain, unit = (asked.embed(TEXTS, normalize=normalize).vectors for normalize in (False, True))
    np.testing.assert_allclose(unit, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)


def test_the_last_layer_is_after_the_final_norm(tokenizer):
    """As transformers counts hidden states; a pre-norm model's own layers are before it."""
    norm = {"place": "pre", "final": True, "embedding": False}
    asked = EncoderModel(bert(tokenizer.size, norm=norm, seed=2), tokenizer)
    with torch.no_grad():
        tokens = Tokens.of([[tokenizer.cls_id, *tokenizer.encode("el pan").ids, tokenizer.sep_id]])
        expected = asked.model.forward(tokens).states.mean(0).numpy()
    np.testing.assert_allclose(asked.embed("el pan").vectors[0], expected, atol=1e-5)
    assert np.abs(expected - states(asked, "el pan", 2)[0].mean(0)).max() > 1e-2


@pytest.mark.parametrize("pooling", [*POOLED, "pooler"])
def test_a_batch_is_the_texts_alone(asked, pooling):
    texts = [*TEXTS, "", "pan", *TEXTS]
    alone = np.concatenate([asked.embed(text, pooling=pooling).vectors for text in texts])
    np.testing.assert_allclose(asked.embed(texts, pooling=pooling).vectors, alone, atol=1e-5)


def test_batches_are_bounded_sorted_and_whole():
    draw = np.random.default_rng(0)
    for _ in range(50):
        lengths = draw.integers(1, 40, draw.integers(1, 60)).tolist()
        found = list(by_length(lengths, budget=64))
        assert sorted(itertools.chain(*found)) == list(range(len(lengths)))
        assert all(sum(lengths[one] for one in group) <= 64 for group in found)
        flat = [lengths[one] for one in itertools.chain(*found)]
        assert flat == sorted(flat)
    assert list(by_length([100, 1], budget=64)) == [[1], [0]]


def test_long_texts_are_refused_cut_or_read_in_parts(tokenizer):
    asked = EncoderModel(bert(tokenizer.size, context=9), tokenizer)
    short, long = TEXTS[0], TEXTS[2]
    ids = tokenizer.encode(long).ids
    with pytest.raises(DataError, match=r"18 tokens and 7 fit.*--window.*--truncate"):
        asked.embed([short, long])
    cut = asked.embed([short, long], truncate=True)
    assert (cut.truncated, cut.windowed) == (1, 0)
    parts = [ids[0:6], ids[6:12], ids[12:18]]
    with torch.no_grad():
        read = [asked.model.forward(Tokens.of([[tokenizer.cls_id, *one, tokenizer.sep_id]])).states for one in parts]
        first = asked.model.forward(Tokens.of([[tokenizer.cls_id, *ids[:7], tokenizer.sep_id]])).states
    np.testing.assert_allclose(cut.vectors[1], first.mean(0), atol=1e-5)
    whole = asked.embed([short, long, short], window=True)
    assert (whole.truncated, whole.windowed) == (0, 1)
    np.testing.assert_allclose(whole.vectors[1], torch.cat(read).mean(0), atol=1e-5)
    np.testing.assert_allclose(whole.vectors[[0, 2]], asked.embed([short, short]).vectors, atol=1e-5)
    greatest = asked.embed([long], window=True, pooling="max")
    np.testing.assert_allclose(greatest.vectors[0], torch.cat(read).amax(0), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pooling": "men"}, "mean"),
        ({"layers": (3,)}, "no layer 3: this model has 0 .* to 2"),
        ({"layers": (-4,)}, "no layer -4"),
        ({"layers": ()}, "layers is empty"),
        ({"window": True, "truncate": True}, "exclude"),
        ({"pooling": "pooler", "layers": (1,)}, "last layer only"),
        ({"poolin": "mean"}, "pooling"),
    ],
)
def test_wrong_settings(asked, settings, words):
    with pytest.raises(ConfigError, match=words):
        asked.embed("el pan", **settings)


def test_a_model_without_a_pooler_and_no_text(tokenizer):
    asked = EncoderModel(bert(tokenizer.size, pooler=False), tokenizer)
    with pytest.raises(ConfigError, match="no pooler"):
        asked.embed("el pan", pooling="pooler")
    with pytest.raises(ConfigError, match="nothing to embed"):
        asked.embed([])


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(TEXTS * 3) + "\n", encoding="utf-8")
    return path


def test_files_of_vectors(asked, lines, tmp_path, monkeypatch):
    from vocablo.inference import score

    expected = asked.embed(TEXTS * 3, normalize=True).vectors
    for group in (1024, 5):
        monkeypatch.setattr(score, "GROUP", group)  # so that there are several windows
        made = asked.embed_files(lines, tmp_path / "v.npy", normalize=True)
        assert (made.texts, made.width) == (12, 16)
        np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-6)
        asked.embed_files(lines, tmp_path / "v.jsonl", normalize=True)
        rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [row["text"] for row in rows] == TEXTS * 3
        np.testing.assert_allclose([row["vector"] for row in rows], expected, atol=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow isn't installed")
def test_parquet(asked, lines, tmp_path):
    import pyarrow.parquet as pq

    asked.embed_files(lines, tmp_path / "v.parquet")
    table = pq.read_table(tmp_path / "v.parquet")
    assert table["text"].to_pylist() == TEXTS * 3
    np.testing.assert_allclose(table["vector"].to_pylist(), asked.embed(TEXTS * 3).vectors, atol=1e-6)


def test_a_file_is_whole_or_absent(asked, lines, tmp_path, monkeypatch):
    lines.write_text("\n".join([*TEXTS, "pan " * 100]) + "\n")
    with pytest.raises(DataError, match="100 tokens"):
        asked.embed_files(lines, tmp_path / "v.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]
    with pytest.raises(ConfigError, match=r"aren't written as '\.csv'"):
        asked.embed_files(lines, tmp_path / "v.csv")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install"):
        asked.embed_files(lines, tmp_path / "v.parquet")


def test_similarity_of_texts_and_of_a_word_in_two_contexts(asked, tokenizer):
    one, other = asked.embed(["el pan", "la luna"]).vectors
    found = asked.similarity("el pan", "la luna")
    assert found.cosine == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-6)
    # "piñones" is 5 pieces, from the second token on and from the fourth on; [CLS] stands before them.
    first, second = states(asked, "el piñones", 1)[0][2:7].mean(0), states(asked, "y la luna Piñones", 1)[0]
    second = second[4 : 4 + len(tokenizer.encode("Piñones").ids)].mean(0)
    word = asked.similarity("el piñones", "y la luna Piñones", word="piñones", layers=(1,))
    assert word.cosine == pytest.approx(first @ second / np.linalg.norm(first) / np.linalg.norm(second), abs=1e-5)
    assert asked.similarity("el pan", "el pan", word="pan").cosine == pytest.approx(1)
    with pytest.raises(ConfigError, match="layers only"):
        asked.similarity("el pan", "el pan", word="pan", pooling="cls")


def test_cosines():
    rows = np.array([[2, 0], [0, 3], [-1, 0], [1, 1], [0, 0]], dtype=np.float32)
    np.testing.assert_allclose(cosine(rows, np.array([5.0, 0], dtype=np.float32)), [1, 0, -1, 0.5**0.5, 0], atol=1e-12)


class Constructed(torch.nn.Module):
    """An encoder whose state is known: a token's vector says which token stands before it, and which it is."""

    reads, vocab, context = "both", 64, 32

    def __init__(self):
        super().__init__()
        self.config = type("C", (), {"stack": type("S", (), {"layers": 1}), "head": None, "pooler": False})

    def forward(self, tokens, source=None, state=None, keep=()):
        from vocablo.contract import Hidden

        eye = torch.eye(self.vocab)
        before = torch.cat([tokens.ids[:1], tokens.ids[:-1]])
        made = torch.cat([3 * eye[before], eye[tokens.ids]], 1)
        return Hidden(made, layers=tuple(made for _ in keep))


def test_neighbors_are_the_words_with_the_nearest_vectors(tokenizer, lines):
    """With vectors that are mostly the token before, words behind the same token are near: 0.9, or 1 for the same word."""
    asked = EncoderModel(Constructed(), tokenizer)
    lines.write_text("la luna mira\n\nel pan y la luna\nel mir\nla come\n", encoding="utf-8")
    found = asked.neighbors("la pan", "pan", lines, k=4)
    assert (found.word, found.begin, found.end, found.searched) == ("pan", 3, 6, 12)
    assert [(one.word, one.sentence, one.begin) for one in found.neighbors] == [
        ("luna", "la luna mira", 3),
        ("luna", "el pan y la luna", 12),
        ("come", "la come", 3),
        ("pan", "el pan y la luna", 3),
    ]
    np.testing.assert_allclose([one.cosine for one in found.neighbors], [0.9, 0.9, 0.9, 0.1], atol=1e-6)
    same = asked.neighbors("la pan", "Pan", lines, same=True)
    assert [one.word for one in same.neighbors] == ["pan"]
    assert same.searched == 1
    assert asked.neighbors("la come", "come", lines, k=1).neighbors[0].word == "luna", "not the very place asked about"


def test_neighbors_of_a_word_of_several_pieces_and_a_large_file(asked, lines):
    """The file is read in windows; the nearest are those of one reading of everything."""
    every = asked.neighbors(TEXTS[3], "piñones", lines, k=1000)
    assert every.searched == sum(len([w for w in text.split() if w[0].isalnum()]) for text in TEXTS * 3) - 3
    few = asked.neighbors(TEXTS[3], "piñones", lines, k=3)
    assert few.neighbors == every.neighbors[:3]
    cosines = [one.cosine for one in every.neighbors]
    assert cosines == sorted(cosines, reverse=True)


@pytest.mark.parametrize(
    ("sentence", "word", "options", "words"),
    [
        ("el pan", "queso", {}, "'queso' isn't in 'el pan', whose words are: el, pan"),
        (TEXTS[2], "luna", {}, "'luna' stands 2 times.*--occurrence 1"),
        (TEXTS[2], "luna", {"occurrence": 3}, "no occurrence 3"),
        ("el pan", "pan", {"k": 0}, "k is at least 1"),
        ("pan " * 40, "pan", {}, "40 tokens and 30 fit"),
    ],
)
def test_words_that_can_not_be_found(asked, lines, sentence, word, options, words):
    with pytest.raises((DataError, ConfigError), match=words):
        asked.neighbors(sentence, word, lines, **options)


def test_next_sentence_reads_both_as_one_sequence_with_segments(tokenizer):
    head = torch.nn.Linear(16, 2)
    asked = EncoderModel(bert(tokenizer.size), tokenizer, {"next_sentence": head})
    one, other = (tokenizer.encode(text).ids for text in ("el pan", "la luna"))
    ids = [tokenizer.cls_id, *one, tokenizer.sep_id, *other, tokenizer.sep_id]
    plain = Tokens.of([ids])
    segments = torch.tensor([0] * (len(one) + 2) + [1] * (len(other) + 1))
    with torch.no_grad():
        pooled = asked.model.forward(Tokens(plain.ids, plain.fences, plain.positions, segments)).pooled
        expected = float(head(pooled)[0].softmax(0)[0])
    assert asked.next_sentence("el pan", "la luna").prob == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ConfigError, match="next_sentence needs a next-sentence head"):
        EncoderModel(bert(tokenizer.size), tokenizer).next_sentence("el", "pan")
    with pytest.raises(DataError, match="two texts have"):
        asked.next_sentence("pan " * 20, "pan " * 20)
    assert asked.attend("el pan", "la luna").tokens == ("[CLS]", "el", "pan", "[SEP]", "la", "luna", "[SEP]")


def sentence_model(folder, tokenizer, pooling, modules=("Transformer", "Pooling", "Normalize")):
    checkpoint.save(folder, bert(tokenizer.size, head=None), tokenizer)
    kinds = [
        {"type": f"sentence_transformers.models.{kind}", "path": f"1_{kind}" if n else ""}
        for n, kind in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(kinds))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12, "do_lower_case": false}')


def test_a_folder_of_sentence_transformers_says_its_own_way(tokenizer, tmp_path):
    pooling = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    sentence_model(tmp_path / "model", tokenizer, pooling)
    asked = load(tmp_path / "model")
    assert (asked.sentences.pooling, asked.sentences.normalize, asked.sentences.limit) == ("cls", True, 12)
    plain = EncoderModel(asked.model, tokenizer)
    expected = plain.embed(TEXTS[0], pooling="cls", normalize=True).vectors
    np.testing.assert_allclose(asked.embed(TEXTS[0]).vectors, expected)
    np.testing.assert_allclose(
        asked.embed(TEXTS[0], pooling="mean", normalize=False).vectors, plain.embed(TEXTS[0]).vectors
    )
    with pytest.raises(DataError, match="10 fit, of the 12"):
        asked.embed(TEXTS[2])
    assert asked.embed(TEXTS[2], truncate=True).truncated == 1


@pytest.mark.parametrize(
    ("pooling", "modules", "words"),
    [
        (
            {"pooling_mode_mean_tokens": True},
            ("Transformer", "Pooling", "Dense"),
            "modules Transformer, Pooling, Dense",
        ),
        ({"pooling_mode_lasttoken": True}, ("Transformer", "Pooling"), "pools by pooling_mode_lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("Transformer", "Pooling"), "and"),
    ],
)
def test_ways_that_are_not_known_here_are_named_when_they_are_asked_for(tokenizer, tmp_path, pooling, modules, words):
    sentence_model(tmp_path / "model", tokenizer, pooling, modules)
    asked = load(tmp_path / "model")
    with pytest.raises(CheckpointError, match=f"{words}.*--pooling mean"):
        asked.embed(TEXTS[0])
    expected = EncoderModel(asked.model, tokenizer).embed(TEXTS[0], pooling="max").vectors
    np.testing.assert_array_equal(asked.embed(TEXTS[0], pooling="max").vectors, expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "damaged .*copy or download it again"),
        ("{}", "holds no JSON list"),
        ('[{"path": ""}]', "should list modules with their types"),
        ('[{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "../other"}]', "in the folder itself"),
    ],
)
def test_damaged_modules_are_refused(tokenizer, tmp_path, text, words):
    sentence_model(tmp_path / "model", tokenizer, {"pooling_mode_mean_tokens": True})
    (tmp_path / "model" / "modules.json").write_text(text)
    with pytest.raises(CheckpointError, match=words):
        load(tmp_path / "model")
    assert sentence_folder(tmp_path) is None


@pytest.mark.parametrize("inside", ["", "0_Transformer"])
def test_a_sentence_model_of_the_hub_brings_its_pooling_along(tokenizer, tmp_path, monkeypatch, inside):
    """The hub is a folder here, and its client copies what the patterns allow, as the real one does."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    hub, cache = tmp_path / "hub", tmp_path / "cache" / "snapshots" / "0f1e2d"
    sentence_model(hub, tokenizer, {"pooling_mode_cls_token": True})
    (hub / "onnx").mkdir()
    (hub / "onnx" / "config.json").write_text("{}")
    (hub / "pytorch_model.bin").write_bytes(b"pickle")
    if inside:
        (hub / inside).mkdir()
        for path in list(hub.iterdir()):
            if path.is_file() and path.name not in ("modules.json", "pytorch_model.bin"):
                path.rename(hub / inside / path.name)
        kinds = json.loads((hub / "modules.json").read_text())
        kinds[0]["path"] = inside
        (hub / "modules.json").write_text(json.dumps(kinds))
    revisions = []

    def snapshot_download(name, *, allow_patterns, ignore_patterns, revision):
        revisions.append((name, revision))
        files = [str(path.relative_to(hub)) for path in hub.rglob("*") if path.is_file()]
        for file in filter_repo_objects(files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns):
            (cache / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(hub / file, cache / file)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.chdir(tmp_path)
    asked = load("someone/sentences")
    assert revisions == [("someone/sentences", None), ("someone/sentences", "0f1e2d")]
    assert (asked.sentences.pooling, asked.sentences.normalize, asked.sentences.limit) == ("cls", True, 12)
    np.testing.assert_array_equal(asked.embed(TEXTS[0]).vectors, load(hub).embed(TEXTS[0]).vectors)
    assert not (cache / "onnx").exists()
    assert not (cache / "pytorch_model.bin").exists()
