"""BERT and DistilBERT against parameters, inputs and outputs that apple/axlearn recorded from other implementations."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vocablo import checkpoint
from vocablo.contract import Tokens

RECORDED = Path(__file__).parents[3] / "shared" / "data" / "checkpoints" / "axlearn_npz"
PARTS = {
    "self_attention/attention/o_proj": "attention.output.dense",
    "self_attention/norm": "attention.output.LayerNorm",
    "feed_forward/linear1": "intermediate.dense",
    "feed_forward/linear2": "output.dense",
    "feed_forward/norm": "output.LayerNorm",
    **{f"self_attention/attention/i_proj/{x[0]}_proj": f"attention.self.{x}" for x in ("query", "key", "value")},
}
DISTIL = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}
CONFIG = {
    "model_type": "bert",
    "vocab_size": 24,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 20,
}


def arrays(file, test):
    """The arrays of one of their tests, by the rest of their names."""
    path = RECORDED / file
    if not path.exists():
        pytest.skip(f"{file} isn't here")
    with np.load(path, allow_pickle=False) as found:
        return {name.removeprefix(f"{test}/"): found[name] for name in found.files if name.startswith(f"{test}/")}


def tensor(name, array):
    """Theirs are [in, out], projections to heads [in, H, K], and the one from heads [out, H, K]."""
    if "o_proj/weight" in name:
        array = array.reshape(array.shape[0], -1)
    elif "i_proj" in name:
        array = array.reshape(-1) if name.endswith("bias") else array.reshape(array.shape[0], -1).T
    elif "linear" in name and name.endswith("weight"):
        array = array.T
    return torch.from_numpy(np.ascontiguousarray(array))


def weights(found, prefix, layers, names):
    """The trunk under Hugging Face's names."""
    tables = {"token_emb": "word", "pos_emb": "position", "type_emb": "token_type"}
    stored = {
        f"{prefix}embeddings.{theirs}_embeddings.weight": tensor(ours, found[f"params/encoder/emb/{ours}/weight"]).squeeze(0)
        for ours, theirs in tables.items()
        if f"params/encoder/emb/{ours}/weight" in found
    }  # fmt: skip
    kinds = {"bias": "bias", "weight": "weight", "scale": "weight"}
    for name, array in found.items():
        where, _, kind = name.removeprefix("params/encoder/").rpartition("/")
        if where == "emb/norm":
            stored[f"{prefix}embeddings.LayerNorm.{kinds[kind]}"] = tensor(name, array)
        elif where.startswith("transformer/layer"):
            number, _, part = where.removeprefix("transformer/layer").partition("/")
            stored[f"{prefix}{layers}.{number}.{names(PARTS[part])}.{kinds[kind]}"] = tensor(name, array)
    return stored


def model_of(stored, config, folder):
    save_file({name: value.contiguous() for name, value in stored.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return checkpoint.load(folder).model


def flat(found, padding):
    """Their padded input without its padding, and the mask of what remains."""
    ids, kept = found["inputs/input_ids"], ~padding
    tokens = Tokens.of([row[mask].tolist() for row, mask in zip(ids, kept, strict=True)])
    if "inputs/token_type_ids" in found:
        tokens = replace(tokens, segments=torch.from_numpy(found["inputs/token_type_ids"][kept]).long())
    return tokens, kept


@pytest.mark.parametrize("test", ["test_for_mlm", "test_for_mlm_with_padding"])
def test_masked_words_of_bert(test, tmp_path):
    found = arrays("bert_test.npz", test)
    stored = weights(found, "bert.", "encoder.layer", lambda name: name)
    stored |= {
        f"cls.predictions.transform.{theirs}.{kind}": tensor(ours, found[f"params/head/transform/{ours}"])
        for theirs, kind, ours in (
            ("dense", "weight", "linear/weight"),
            ("dense", "bias", "linear/bias"),
            ("LayerNorm", "weight", "norm/scale"),
            ("LayerNorm", "bias", "norm/bias"),
        )
    }
    stored["cls.predictions.bias"] = tensor("", found["params/head/output_bias"])
    model = model_of(stored, CONFIG, tmp_path)
    padding = found["inputs/input_ids"] == 0 if "padding" in test else np.zeros((3, 20), dtype=bool)
    tokens, kept = flat(found, padding)
    targets = torch.from_numpy(found["inputs/target_labels"][kept])
    at = (targets >= 0).nonzero().squeeze(1)
    with torch.no_grad():
        states = model(tokens).states
        logits = model.logits(states)
        loss = -model.target_log_probs(states, at, targets[at]).mean()
    assert np.abs(states.numpy() - found["outputs/hidden_states_last"][kept]).max() < 1e-5
    assert np.abs(logits.numpy() - found["outputs/logits"][kept]).max() < 1e-5
    assert float(loss) == pytest.approx(float(found["outputs/loss"]), abs=1e-5)


CLASSIFIERS = ("sequence_classification_1", "sequence_classification_2", "sequence_classification_3",
               "sequence_binary_classification", "multiple_choice_classification")  # fmt: skip


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_pooled_states_of_bert(name, tmp_path):
    """Their classifiers are a linear map of the pooled state; a choice is a sequence of its own."""
    found = arrays("bert_test.npz", f"test_{name}")
    for key in ("input_ids", "token_type_ids", "padding_mask"):
        if f"inputs/{key}" in found:
            found[f"inputs/{key}"] = found[f"inputs/{key}"].reshape(-1, 20)
    stored = weights(found, "bert.", "encoder.layer", lambda name: name)
    for kind in ("weight", "bias"):
        key = f"params/head/pooler/linear/{kind}"
        stored[f"bert.pooler.dense.{kind}"] = tensor(key, found[key])
    tokens, _ = flat(found, ~found["inputs/padding_mask"])  # true where a token is
    with torch.no_grad():
        pooled = model_of(stored, CONFIG, tmp_path)(tokens).pooled.numpy()
    logits = pooled @ found["params/head/output/weight"] + found["params/head/output/bias"]
    assert np.abs(logits - found["outputs/logits"].reshape(logits.shape)).max() < 1e-5


def test_states_of_distilbert(tmp_path):
    found = arrays("distilbert_test.npz", "test_distilbert")
    stored = weights(found, "distilbert.", "transformer.layer", DISTIL.get)
    shape = {"vocab_size": 30522, "dim": 32, "n_layers": 1, "n_heads": 8, "hidden_dim": 64}
    model = model_of(stored, {"model_type": "distilbert", "max_position_embeddings": 12, **shape}, tmp_path)
    tokens, _ = flat(found, found["inputs/input_ids"] == 0)
    with torch.no_grad():
        states = model(tokens).states[tokens.fences.first()].numpy()
    assert np.abs(states - found["outputs/text_embeddings"][:, 0]).max() < 1e-5
