"""The encoder-decoder against other implementations: torch's own, and the parts that published checkpoints differ in."""

import numpy as np
import pytest
import torch
from torch import nn

from vocablo.contract import Tokens
from vocablo.models import transformer
from vocablo.nn.positions import distance_buckets, sinusoids

WIDTH, HEADS, INNER = 16, 2, 40
SOURCES, TARGETS = [[3, 1, 4, 1, 5, 9], [2, 6], [5, 3, 5, 8]], [[1, 7, 2], [1, 8, 2, 8, 1], [1]]


def ours(place: str) -> transformer.EncoderDecoder:
    changes = {
        "stack": {"layers": 2, "width": WIDTH},
        "attention": {"heads": HEADS},
        "feed_forward": {"width": INNER},
        "norm": {"place": place, "final": True},
        "decoder": {"layers": 3, "vocab": 11, "start": [1]},
    }
    torch.manual_seed(0)
    return transformer.build(transformer.config_for("transformer", "tiny", 13, 12, changes)).eval()


def theirs(model: transformer.EncoderDecoder, place: str) -> nn.Transformer:
    """torch's module with our weights."""
    other = nn.Transformer(WIDTH, HEADS, 2, 3, INNER, 0.0, "relu", norm_first=place == "pre", batch_first=True).eval()
    given = model.state_dict()

    def named(side: str, number: int) -> dict[str, torch.Tensor]:
        mine = {name.removeprefix(f"{side}.layers.{number}."): tensor for name, tensor in given.items()}
        names = {"attention_norm": "norm1", "feed_forward.up": "linear1", "feed_forward.down": "linear2"}
        names |= {"attention.out": "self_attn.out_proj"}
        names |= (
            {"feed_forward_norm": "norm2"}
            if side == "encoder"
            else {"cross_norm": "norm2", "feed_forward_norm": "norm3", "cross.out": "multihead_attn.out_proj"}
        )
        made = {f"{new}.{part}": mine[f"{old}.{part}"] for old, new in names.items() for part in ("weight", "bias")}
        made |= {f"self_attn.in_proj_{part}": mine[f"attention.qkv.{part}"] for part in ("weight", "bias")}
        if side == "decoder":
            made |= {
                f"multihead_attn.in_proj_{part}": torch.cat([mine[f"cross.q.{part}"], mine[f"cross.kv.{part}"]])
                for part in ("weight", "bias")
            }
        return made

    for side, stack in (("encoder", other.encoder), ("decoder", other.decoder)):
        for number, layer in enumerate(stack.layers):
            layer.load_state_dict(named(side, number))
        stack.norm.load_state_dict({part: given[f"{side}.final_norm.{part}"] for part in ("weight", "bias")})
    return other


@pytest.mark.parametrize("place", ["pre", "post"])
def test_states_are_those_of_torchs_transformer(place):
    model = ours(place)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
        other = theirs(model, place)
        states = model(Tokens.of(TARGETS), Tokens.of(SOURCES)).states
        table = sinusoids(12, WIDTH, 10000.0, "interleaved")
        for target, source, got in zip(
            TARGETS, SOURCES, states.split([len(target) for target in TARGETS]), strict=True
        ):
            x = model.tokens(torch.tensor(source)) * WIDTH**0.5 + table[: len(source)]
            y = model.target_tokens(torch.tensor(target)) * WIDTH**0.5 + table[: len(target)]
            mask = nn.Transformer.generate_square_subsequent_mask(len(target))
            expected = other(x[None], y[None], tgt_mask=mask, tgt_is_causal=True)[0]
            torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.logits(states), states @ model.target_tokens.weight.T)


def test_the_lectures_sinusoids():
    """P[t, 2i] = sin(t / 10000^(2i/D)), P[t, 2i+1] = cos(the same), number by number."""
    table = sinusoids(50, 8, 10000.0, "interleaved").numpy()
    for t in (0, 1, 7, 49):
        for i in range(4):
            angle = t / 10000 ** (2 * i / 8)
            np.testing.assert_allclose(table[t, 2 * i : 2 * i + 2], [np.sin(angle), np.cos(angle)], atol=1e-6)


def test_layouts_of_published_checkpoints():
    pytest.importorskip("transformers")
    from transformers.models.m2m_100.modeling_m2m_100 import M2M100SinusoidalPositionalEmbedding as Fairseq
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding as Marian

    marian = Marian(20, 12)
    made = marian.create_weight() if hasattr(marian, "create_weight") else marian.weight
    torch.testing.assert_close(sinusoids(20, 12, 10000.0, "halves"), made.detach())
    fairseq = Fairseq.get_embedding(20, 12, None)
    torch.testing.assert_close(sinusoids(20, 12, 10000.0, "halves", stretched=True), fairseq, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_buckets_are_t5s(causal):
    pytest.importorskip("transformers")
    from transformers.models.t5.modeling_t5 import T5Attention

    distances = torch.arange(-300, 300)
    for buckets, farthest in ((32, 128), (8, 20)):
        expected = T5Attention._relative_position_bucket(distances, not causal, buckets, farthest)
        assert torch.equal(distance_buckets(distances, buckets, farthest, causal), expected)


T5 = {
    "embed": {"scaled": False},
    "position": {"kind": "none", "buckets": 8, "distance": 10},
    "attention": {"scaled": False, "bias": False, "head_width": 5},
    "feed_forward": {"activation": "gelu_tanh", "gated": True, "bias": False, "dropout": 0.1},
    "norm": {"kind": "rms", "place": "pre", "final": True, "eps": 1e-6},
    "head": {"scaled": True},
}
BART = {
    "position": {"kind": "learned", "offset": 2},
    "feed_forward": {"activation": "gelu"},
    "norm": {"embedding": True},
    "head": {"bias": True},
    "decoder": {"layers": 1, "heads": 4, "width": 24, "max": 9},
}


@pytest.mark.parametrize("changes", [T5, BART, {"stack": {"shared": True}}, {"position": {"kind": "rotary"}}])
def test_other_shapes_step_by_step_are_as_at_once(changes):
    torch.manual_seed(0)
    small = {"stack": {"layers": 2, "width": WIDTH, **changes.get("stack", {})}}
    config = transformer.config_for("transformer", "tiny", 13, 12, changes | small)
    model = transformer.build(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.2)
        whole = model.logits(model(Tokens.of(TARGETS), Tokens.of(SOURCES)).states)
        alone = [
            model.logits(model(Tokens.of([target]), Tokens.of([source])).states)
            for target, source in zip(TARGETS, SOURCES, strict=True)
        ]
        torch.testing.assert_close(whole, torch.cat(alone), atol=1e-5, rtol=1e-5)
        logits, state = model.extend(Tokens.of([t[:1] for t in TARGETS]), model.encode(Tokens.of(SOURCES)))
        state = state.select(torch.tensor([1, 0]))
        logits, state = model.extend(Tokens.of([TARGETS[1][1:4], TARGETS[0][1:2]]), state)
        logits, state = model.extend(Tokens.of([TARGETS[1][4:], TARGETS[0][2:]]), state)
        torch.testing.assert_close(logits, whole[[7, 2]], atol=1e-5, rtol=1e-5)
