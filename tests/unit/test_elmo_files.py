"""Published ELMo files: a small one written here in their layout, and recorded activations of the authors' own code."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from vocablo import checkpoint
from vocablo.base.errors import CheckpointError
from vocablo.contract import Tokens
from vocablo.elmo_files.reading import is_elmo
from vocablo.models import elmo
from vocablo.text.characters import ELMO

h5py = pytest.importorskip("h5py")
FIXTURE = Path(__file__).parents[3] / "shared" / "data" / "checkpoints" / "elmo_allennlp_fixture"
OPTIONS = {
    "lstm": {
        "cell_clip": 0.5, "proj_clip": 0.5, "use_skip_connections": True, "n_layers": 2, "projection_dim": 3, "dim": 4,
    },
    "char_cnn": {
        "embedding": {"dim": 2}, "filters": [[1, 2], [3, 3]], "n_highway": 1, "n_characters": 262,
        "max_characters_per_token": 50, "activation": "tanh",
    },
}  # fmt: skip


def written(folder: Path, options=OPTIONS, **changes) -> Path:
    """A folder in the published layout with random weights."""
    folder.mkdir(exist_ok=True)
    (folder / "tiny_options.json").write_text(json.dumps(options))
    draw = np.random.default_rng(0)
    cells, width = 4, 3
    shapes = {"char_embed": (261, 2), "CNN/W_cnn_0": (1, 1, 2, 2), "CNN/b_cnn_0": (2,), "CNN/W_cnn_1": (1, 3, 2, 3)}
    shapes |= {"CNN/b_cnn_1": (3,), "CNN_proj/W_proj": (5, width), "CNN_proj/b_proj": (width,)}
    for part in ("carry", "transform"):
        shapes |= {f"CNN_high_0/W_{part}": (5, 5), f"CNN_high_0/b_{part}": (5,)}
    for direction in range(2):
        for layer in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            shapes |= {
                f"{cell}/W_0": (2 * width, 4 * cells),
                f"{cell}/B": (4 * cells,),
                f"{cell}/W_P_0": (cells, width),
            }
    with h5py.File(folder / "tiny_weights.hdf5", "w") as file:
        for name, shape in (shapes | changes).items():
            if shape is not None:
                file[name] = draw.normal(size=shape).astype(np.float32)
    return folder


def by_hand(folder: Path, words: list[str]) -> np.ndarray:
    """The top layer [T, 2 D] of a sentence alone, from the file itself, in numpy and in the words of their code."""
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    with h5py.File(folder / "tiny_weights.hdf5") as file:
        w = {}
        file.visititems(lambda name, item: w.update({name: item[...]}) if isinstance(item, h5py.Dataset) else None)
    vectors = []
    for word in words:
        chars = w["char_embed"][ELMO.rows([word])[0] - 1]
        tops = []
        for number, width in enumerate((1, 3)):
            kernel, bias = w[f"CNN/W_cnn_{number}"][0], w[f"CNN/b_cnn_{number}"]
            places = [np.einsum("we,wen->n", chars[j : j + width], kernel) + bias for j in range(50 - width + 1)]
            tops.append(np.tanh(np.max(places, axis=0)))
        y = np.concatenate(tops)
        carry = sigmoid(y @ w["CNN_high_0/W_carry"] + w["CNN_high_0/b_carry"])
        y = carry * np.maximum(y @ w["CNN_high_0/W_transform"] + w["CNN_high_0/b_transform"], 0) + (1 - carry) * y
        vectors.append(y @ w["CNN_proj/W_proj"] + w["CNN_proj/b_proj"])
    both = []
    for direction, inputs in enumerate((vectors, vectors[::-1])):
        for layer in range(2):
            cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
            m, c, outputs = np.zeros(3), np.zeros(4), []
            for x in inputs:
                i, j, f, o = np.split(np.concatenate([x, m]) @ w[f"{cell}/W_0"] + w[f"{cell}/B"], 4)
                c = np.clip(sigmoid(f + 1.0) * c + sigmoid(i) * np.tanh(j), -0.5, 0.5)
                m = np.clip((sigmoid(o) * np.tanh(c)) @ w[f"{cell}/W_P_0"], -0.5, 0.5)
                outputs.append(m + x if layer else m)
            inputs = outputs
        both.append(inputs if direction == 0 else inputs[::-1])
    return np.concatenate([np.array(both[0]), np.array(both[1])], axis=1)


def test_a_file_in_the_published_layout_gives_its_activations(tmp_path) -> None:
    folder = written(tmp_path / "elmo")
    assert is_elmo(folder)
    loaded = checkpoint.load(folder)
    words = ["el", "año", "come", "."]
    plain = Tokens.of([[0] * 4])
    rows = torch.from_numpy(ELMO.rows(words)).long()
    with torch.no_grad():
        states = loaded.model(Tokens(plain.ids, plain.fences, plain.positions, chars=rows)).states
    np.testing.assert_allclose(states.numpy(), by_hand(folder, words), atol=1e-5)
    assert checkpoint.describe(folder).family == "elmo"


def test_it_is_saved_as_ours_and_is_the_same(tmp_path) -> None:
    loaded = checkpoint.load(written(tmp_path / "elmo"))
    checkpoint.save(tmp_path / "ours", loaded.model, loaded.tokenizer)
    again = checkpoint.load(tmp_path / "ours").model
    tokens = Tokens.of([[0, 2, 1]])
    with torch.no_grad():
        assert torch.equal(again(tokens).states, loaded.model(tokens).states)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation": "gelu"}, "activation is 'gelu'"),
        ({"n_highways": 2}, "n_highways isn't known"),
        ({"filters": None}, "doesn't say a model"),
        ({"n_characters": 100}, "n_characters is 100"),
        ({"filters": [[1, 2], [3, 4]]}, "shape"),
    ],
)
def test_options_that_are_not_known_are_refused_in_one_line(tmp_path, change, said) -> None:
    options = OPTIONS | {"char_cnn": OPTIONS["char_cnn"] | change}
    with pytest.raises(CheckpointError, match=said) as error:
        checkpoint.load(written(tmp_path / "elmo", options))
    assert "\n" not in str(error.value)


def test_a_weight_that_is_missing_and_a_file_that_is_none_are_refused(tmp_path) -> None:
    with pytest.raises(CheckpointError, match="has no CNN_proj/b_proj"):
        checkpoint.load(written(tmp_path / "elmo", **{"CNN_proj/b_proj": None}))
    (tmp_path / "elmo/tiny_weights.hdf5").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="no HDF5 file"):
        checkpoint.load(tmp_path / "elmo")
    (tmp_path / "elmo/vocab.txt").write_bytes("cañón".encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"vocab.txt can't be read as UTF-8"):
        checkpoint.load(tmp_path / "elmo")
    (tmp_path / "elmo/vocab-2016.txt").write_text("cañón", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"2 files vocab\*.txt"):
        checkpoint.load(tmp_path / "elmo")
    (tmp_path / "elmo/other_options.json").write_text("{}")
    with pytest.raises(CheckpointError, match="2 files"):
        checkpoint.load(tmp_path / "elmo")


@pytest.mark.skipif(not FIXTURE.exists(), reason="recorded activations are not at hand")
def test_recorded_activations_of_the_authors_come_out() -> None:
    """Their code read ten batches of three sentences, and each sentence goes on with the state of the one before it."""
    loaded = checkpoint.load(FIXTURE)
    model, begin, end = loaded.model, loaded.tokenizer.cls_id, loaded.tokenizer.end_id
    texts = json.loads((FIXTURE / "sentences.json").read_text())
    expected = [h5py.File(FIXTURE / f"lm_embeddings_{k}.hdf5") for k in range(3)]
    state, worst = None, 0.0
    for number in range(10):
        batch = [texts[k][number].split() for k in range(3)]
        plain = Tokens.of([[begin, *[0] * len(words), end] for words in batch])
        rows = [np.stack([ELMO.begin_sentence, *ELMO.rows(words), ELMO.end_sentence]) for words in batch]
        chars = torch.from_numpy(np.concatenate(rows)).long()
        with torch.no_grad():
            hidden = model(Tokens(plain.ids, plain.fences, plain.positions, chars=chars), state=state)
        state = hidden.state
        for k, states in enumerate(hidden.states.split(plain.fences.lengths)):
            recorded = expected[k][str(number)][...]  # [2, T, D]
            joined = np.concatenate([recorded[0], recorded[1]], axis=1)
            worst = max(worst, float(np.abs(states[1:-1].numpy() - joined).max()))
    assert worst < 1e-5
    assert isinstance(model, elmo.Elmo)
