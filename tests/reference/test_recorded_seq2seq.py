"""T5 and GPT-2 against parameters, inputs and outputs that apple/axlearn recorded from transformers and t5x."""

import numpy as np
import pytest
import torch
from test_recorded_encoders import arrays, model_of, tensor

from vocablo.contract import Tokens

CROSS = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "feed_forward": "DenseReluDense"}
GATED = {"linear1_0": "wi_0", "linear1_1": "wi_1", "linear1": "wi", "linear2": "wo"}
T5 = {"model_type": "t5", "tie_word_embeddings": False, "decoder_start_token_id": 0}


def places(side, part):
    """The number of a part within a block, as Hugging Face counts."""
    return {"self_attention": 0, "cross_attention": 1, "feed_forward": 2 if side == "decoder" else 1}[part]


def of_axlearn(name):
    """transformer/layer0/self_attention/norm/scale -> block.0.layer.0.layer_norm.weight"""
    side, *rest = name.split("/")
    if rest[0] != "transformer":
        told = {"output": "final_layer_norm", "output_norm": "final_layer_norm"}.get(rest[0])
        return f"{side}.{told or 'block.0.layer.0.SelfAttention.relative_attention_bias'}.weight"
    number, part, where = rest[1].removeprefix("layer"), rest[2], rest[3:-1]
    inner = "layer_norm" if where == ["norm"] else f"{CROSS[part]}.{GATED.get(where[-1], where[-1][0])}"
    return f"{side}.block.{number}.layer.{places(side, part)}.{inner}.weight"


def rows(ids):
    return Tokens.of([[int(token) for token in row if token > 0] for row in ids])


@pytest.mark.parametrize("kind", ["t5-v1", "t5-v1-1", "t5-ul2"])
def test_logits_of_t5(kind, tmp_path):
    """An output layer of its own in all three; relu, gated gelu and gated silu."""
    found = arrays("t5_test.npz", f"test_against_t5_encoder_decoder_model_{kind}")
    stored = {"shared.weight": tensor("", found["params/shared_token_emb/weight"]),
              "lm_head.weight": tensor("", found["params/decoder/lm_head/weight"])}  # fmt: skip
    for name, array in found.items():
        if name.startswith(("params/encoder/", "params/decoder/")) and "lm_head" not in name:
            scale = 0.5 if "q_proj" in name else 1.0  # axlearn divides scores by sqrt(4), and keeps queries times it
            stored[of_axlearn(name.removeprefix("params/"))] = tensor(name, array) * scale
    layers = 1 + max(int(name.split(".")[2]) for name in stored if name.startswith("encoder.block"))
    proj = {"t5-v1": "relu", "t5-v1-1": "gated-gelu", "t5-ul2": "gated-silu"}[kind]
    inner = 48 if kind == "t5-v1" else 32
    shape = {"vocab_size": 128, "d_model": 12, "d_kv": 4, "d_ff": inner, "num_heads": 3, "num_layers": layers}
    model = model_of(stored, T5 | shape | {"feed_forward_proj": proj}, tmp_path)
    targets = found["inputs/target_labels"]
    kept = targets >= 0
    counts = kept.sum(1)
    tokens = Tokens.of([row[:count].tolist() for row, count in zip(found["inputs/target_ids"], counts, strict=True)])
    labels = torch.from_numpy(targets[kept]).long()
    with torch.no_grad():
        states = model(tokens, rows(found["inputs/source_ids"])).states
        logits = model.logits(states).numpy()
        loss = -model.target_log_probs(states, torch.arange(len(labels)), labels).mean()
    assert np.abs(logits - found["outputs/ref_logits"][kept]).max() < 1e-4
    assert float(loss) == pytest.approx(float(found["outputs/ref_loss"]), abs=1e-4)


PARTS = {"pre_attention_layer_norm": "0.layer_norm", "pre_self_attention_layer_norm": "0.layer_norm",
         "pre_cross_attention_layer_norm": "1.layer_norm", "attention": "0.SelfAttention",
         "self_attention": "0.SelfAttention", "encoder_decoder_attention": "1.EncDecAttention"}  # fmt: skip


def of_t5x(name):
    """decoder/layers_0/mlp/wi_0/kernel -> decoder.block.0.layer.2.DenseReluDense.wi_0.weight"""
    side, layer, *rest = name.split("/")
    if not layer.startswith("layers_"):
        whole = {
            "logits_dense": "lm_head",
            "relpos_bias": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        }
        return whole.get(layer, f"{side}.final_layer_norm") + ".weight"
    last = 2 if side == "decoder" else 1
    part = PARTS.get(rest[0], f"{last}.layer_norm" if rest[0] == "pre_mlp_layer_norm" else f"{last}.DenseReluDense")
    leaf = "" if rest[-1] == "scale" else "." + (rest[1] if rest[0] == "mlp" else rest[1][0])
    return f"{side}.block.{layer.removeprefix('layers_')}.layer.{part}{leaf}.weight"


def test_logits_of_t5x(tmp_path):
    """Google's own implementation of T5 v1.1."""
    found = arrays("encoder_decoder_test.npz", "test_against_t5x_False")
    stored = {"shared.weight": tensor("", found["params/token_embedder/embedding"])}
    for name, array in found.items():
        if name.startswith(("params/encoder/", "params/decoder/")):
            turned = array if name.endswith("scale") else array.T
            stored[of_t5x(name.removeprefix("params/"))] = torch.from_numpy(np.ascontiguousarray(turned))
    shape = {"vocab_size": 48, "d_model": 16, "d_kv": 4, "d_ff": 64, "num_heads": 4, "num_layers": 4}
    model = model_of(stored, T5 | shape | {"feed_forward_proj": "gated-gelu"}, tmp_path)
    kept = found["target_labels"] >= 0
    counts = kept.sum(1)
    tokens = Tokens.of([row[:count].tolist() for row, count in zip(found["target_ids"], counts, strict=True)])
    with torch.no_grad():
        logits = model.logits(model(tokens, Tokens.of(found["source_ids"].tolist())).states).numpy()
    assert np.abs(logits - found["outputs"][kept]).max() < 1e-4


def test_logits_of_gpt2(tmp_path):
    found = arrays("causal_lm_test.npz", "test_against_hf_gpt2_lm")
    prefix = "params/decoder/"
    stored = {"transformer.wte.weight": tensor("", found[f"{prefix}emb/token_emb/weight"]),
              "transformer.wpe.weight": tensor("", found[f"{prefix}emb/pos_emb/weight"]).squeeze(0)}  # fmt: skip
    kinds = {"scale": "weight", "weight": "weight", "bias": "bias"}
    told = {"self_attention/norm": "ln_1", "feed_forward/norm": "ln_2", "feed_forward/linear1": "mlp.c_fc",
            "feed_forward/linear2": "mlp.c_proj", "self_attention/attention/o_proj": "attn.c_proj"}  # fmt: skip
    layers = 1 + max(int(name.split("/layer")[1].split("/")[0]) for name in found if "/layer" in name)
    for kind in ("scale", "bias"):
        stored[f"transformer.ln_f.{kinds[kind]}"] = tensor("", found[f"{prefix}output_norm/{kind}"])
    for layer in range(layers):
        here = f"{prefix}transformer/layer{layer}/"
        for part, name in told.items():
            for kind in ("scale", "weight", "bias"):
                if (key := f"{here}{part}/{kind}") in found:
                    value = tensor(key, found[key])
                    stored[f"transformer.h.{layer}.{name}.{kinds[kind]}"] = value.T if value.dim() == 2 else value
        for kind in ("weight", "bias"):
            keys = [f"{here}self_attention/attention/i_proj/{x}_proj/{kind}" for x in "qkv"]
            joined = torch.cat([tensor(key, found[key]) for key in keys])
            stored[f"transformer.h.{layer}.attn.c_attn.{kind}"] = joined.T if joined.dim() == 2 else joined
    shape = {"vocab_size": 24, "n_positions": 11, "n_embd": 16, "n_layer": layers, "n_head": 4}
    model = model_of(stored, {"model_type": "gpt2", **shape}, tmp_path)
    ids = found["inputs/input_ids"]
    with torch.no_grad():
        logits = model.logits(model(Tokens.of(ids.tolist())).states).numpy()
    assert np.abs(logits - found["outputs/logits"].reshape(logits.shape)).max() < 1e-4
