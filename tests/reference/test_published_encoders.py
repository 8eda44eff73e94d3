"""Published encoders there and back: transformers' models with random weights are the reference, in both directions.

Theirs read padded batches with an attention mask, ours read the same sequences without padding.
"""

import json
import warnings
from dataclasses import dataclass, field, replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from vocablo import checkpoint
from vocablo.base.errors import CheckpointError
from vocablo.contract import Tokens
from vocablo.landscape import bert

VOCAB, LENGTHS = 61, (12, 5, 9)
SHAPE = dict(
    vocab_size=VOCAB,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=40,
    max_position_embeddings=32,
)


@dataclass(frozen=True)
class Case:
    """One of their classes at a small size. ``last``: their last hidden state is the one after a final norm."""

    architecture: str
    config: str
    shape: dict = field(default_factory=lambda: SHAPE)
    segments: bool = True
    heads: tuple[str, ...] = ()
    last: bool = False

    @property
    def name(self) -> str:
        told = ",".join(f"{key}={value}" for key, value in self.shape.items() if SHAPE.get(key) != value)
        return f"{self.architecture}({told})"


CASES = [
    Case("BertModel", "BertConfig"),
    Case("BertForMaskedLM", "BertConfig"),
    Case("BertForMaskedLM", "BertConfig", {**SHAPE, "tie_word_embeddings": False, "hidden_act": "gelu_new"}),
    Case("BertForPreTraining", "BertConfig", heads=("next_sentence",)),
    Case("BertForPreTraining", "BertConfig", {**SHAPE, "type_vocab_size": 3}, heads=("next_sentence",)),
    Case("BertForNextSentencePrediction", "BertConfig", heads=("next_sentence",)),
]


def spread(model):
    """Biases and norms too: at their start they hide mistakes. Parameters stay tied."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
        named = dict(model.named_parameters())
        for name in named:  # a head that isn't tied has a second bias, which its forward pass doesn't use
            if (used := name.replace("predictions.bias", "predictions.decoder.bias")) in named:
                named[name].copy_(named[used])
    return model.eval()


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture
def theirs(case, tmp_path):
    config = getattr(transformers, case.config)(**case.shape)
    model = spread(getattr(transformers, case.architecture)(config))
    model.save_pretrained(tmp_path / "theirs")
    return model, tmp_path / "theirs"


def loaded(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no key of a current configuration is unknown
        return checkpoint.load(folder)


def sequences(seed=1):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCAB, (length,), generator=draw) for length in LENGTHS]


def read_by(ours, case, keep):
    """Hidden of the flat batch; the second half of every sequence is of segment 1."""
    tokens = Tokens.of([ids.tolist() for ids in sequences()])
    if case.segments:
        tokens = replace(tokens, segments=torch.cat([torch.arange(n) // ((n + 1) // 2) for n in LENGTHS]))
    return ours.forward(tokens, keep=keep)


def outputs_of(reference, case):
    """Their outputs of the padded batch, and a function that takes the padding away."""
    batch, longest = sequences(), max(LENGTHS)
    pad = reference.config.pad_token_id or 0
    ids = torch.full((len(batch), longest), pad)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    segments = torch.zeros_like(mask)
    for row, sequence in enumerate(batch):
        n = len(sequence)
        ids[row, :n], mask[row, :n] = sequence, 1
        segments[row, :n] = torch.arange(n) // ((n + 1) // 2)
    given = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": segments} if case.segments else {})
    return reference(**given, output_hidden_states=True), lambda x: x[mask.bool()]


def near(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < 1e-5


@torch.no_grad()
def compare(model, heads, reference, case):
    """States of every layer, pooled, logits and heads are the same."""
    out, flat = outputs_of(reference, case)
    depth = model.config.stack.layers
    hidden = read_by(model, case, tuple(range(depth + 1)))
    ours = (*hidden.layers[:-1], hidden.states) if case.last else hidden.layers
    for one, other in zip(ours, out.hidden_states, strict=True):
        near(one, flat(other))
    if (pooled := getattr(out, "pooler_output", None)) is not None:
        near(hidden.pooled, pooled)
    logits = getattr(out, "prediction_logits", getattr(out, "logits", None))
    if model.config.head is not None:
        near(model.logits(hidden.states), flat(logits))
    if "next_sentence" in heads:
        near(heads["next_sentence"](hidden.pooled), getattr(out, "seq_relationship_logits", logits))
    assert set(heads) == set(case.heads)


def test_their_folder_gives_their_numbers_here(case, theirs):
    reference, folder = theirs
    found = loaded(folder)
    compare(found.model, found.heads, reference, case)


def test_our_folder_gives_our_numbers_there_and_the_same_bytes(case, theirs, tmp_path):
    _, folder = theirs
    found = loaded(folder)
    checkpoint.save(tmp_path / "ours", found.model, heads=found.heads)
    told = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert told["architectures"] == [case.architecture]
    back, report = getattr(transformers, case.architecture).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    compare(found.model, found.heads, back.eval(), case)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "ours"))
    assert before.keys() == after.keys()
    for name in after:
        assert torch.equal(before[name], after[name]), name


def test_saved_and_loaded_here_it_is_the_same(theirs, tmp_path):
    found = loaded(theirs[1])
    checkpoint.save(tmp_path / "ours", found.model, heads=found.heads)
    again = loaded(tmp_path / "ours")
    assert again.model.config == found.model.config
    assert again.config["model_type"] == found.config["model_type"]
    for one, other in zip((found.model, *found.heads.values()), (again.model, *again.heads.values()), strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_missing_unknown_and_misshapen_weights_are_named(theirs):
    _, folder = theirs
    file = folder / "model.safetensors"
    tensors = load_file(file)
    table = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    for name in (table, next(name for name in tensors if "2" in name)):
        save_file({key: value for key, value in tensors.items() if key != name}, file)
        with pytest.raises(CheckpointError, match=f"lack .*{name}"):
            checkpoint.load(folder)
        save_file({**tensors, name: torch.zeros(VOCAB - 1, 7)}, file)
        with pytest.raises(CheckpointError, match=rf"{name} is \[60, 7\] and .* asks for \["):
            checkpoint.load(folder)
    save_file({**tensors, "magic.weight": torch.zeros(2)}, file)
    with pytest.raises(CheckpointError, match=r"have .*magic\.weight"):
        checkpoint.load(folder)


def bert_folder(tmp_path, architecture="BertForPreTraining"):
    model = spread(getattr(transformers, architecture)(transformers.BertConfig(**SHAPE)))
    model.save_pretrained(tmp_path)
    return model, tmp_path, load_file(tmp_path / "model.safetensors")


BERT = Case("BertForPreTraining", "BertConfig", heads=("next_sentence",))


def test_old_bert_files_with_gamma_beta_and_buffers_load(tmp_path):
    reference, folder, tensors = bert_folder(tmp_path)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for name, tensor in tensors.items()}
    old = {name.replace("LayerNorm.bias", "LayerNorm.beta"): tensor for name, tensor in old.items()}
    old["bert.embeddings.position_ids"] = torch.arange(32)[None]
    old["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].clone()
    save_file(old, folder / "model.safetensors")
    found = loaded(folder)
    compare(found.model, found.heads, reference, BERT)
    described = checkpoint.describe(folder)
    assert described.parameters == sum(parameter.numel() for parameter in reference.parameters())
    old["cls.predictions.decoder.weight"][0] += 1
    save_file(old, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"should be the same as bert\.embeddings\.word_embeddings\.weight"):
        checkpoint.load(folder)


LECTURE = {  # the lecture's config.json, with other sizes
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.11,
    "gradient_checkpointing": False,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.12,
    "hidden_size": 24,
    "initializer_range": 0.03,
    "intermediate_size": 40,
    "layer_norm_eps": 1e-7,
    "max_position_embeddings": 32,
    "model_type": "bert",
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 4,
    "use_cache": True,
    "vocab_size": VOCAB,
}


def test_every_field_of_the_lectures_config_takes_effect_or_is_named_as_irrelevant():
    config, unknown = bert.config_from(LECTURE, ())
    assert unknown == []
    told = (config.attention.dropout, config.stack.dropout, config.embed.dropout, config.feed_forward.activation)
    assert told == (0.11, 0.12, 0.12, "relu")
    assert (config.init.std, config.norm.eps, config.position.max) == (0.03, 1e-7, 32)
    assert (config.embed.vocab, config.embed.segments, config.feed_forward.width) == (VOCAB, 4, 40)
    assert (config.stack.layers, config.stack.width, config.attention.heads) == (2, 24, 3)
    irrelevant = {"architectures", "gradient_checkpointing", "model_type", "pad_token_id", "transformers_version"}
    for key in LECTURE.keys() - irrelevant - {"use_cache", "position_embedding_type"}:
        other = {"hidden_act": "silu"}.get(key, LECTURE[key] * 2 if key != "num_attention_heads" else 6)
        assert bert.config_from(LECTURE | {key: other}, ())[0] != config, key


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "relative_key"),
        ("hidden_act", "tanhexp"),
        ("is_decoder", True),
        ("type_vocab_size", 0),
    ],
)
def test_what_cannot_be_followed_is_refused(tmp_path, key, value):
    _, folder, _ = bert_folder(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(CheckpointError, match=key):
        checkpoint.load(folder)


def test_a_head_that_a_layout_has_no_place_for_is_kept_in_ours(tmp_path):
    _, folder, _ = bert_folder(tmp_path)
    found = loaded(folder)
    torch.manual_seed(0)
    heads = {
        "next_sentence": found.heads["next_sentence"],
        "mood": torch.nn.Sequential(torch.nn.Linear(24, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3, bias=False)),
    }
    checkpoint.save(tmp_path / "ours", found.model, heads=heads)
    again = loaded(tmp_path / "ours")
    assert again.config["model_type"] == "vocablo-transformer"
    assert again.model.config == found.model.config
    x = torch.randn(5, 24)
    for name, head in heads.items():
        assert torch.equal(head(x), again.heads[name](x))
    with pytest.raises(CheckpointError, match="Bilinear can't be saved"):
        checkpoint.save(tmp_path / "no", found.model, heads={"odd": torch.nn.Bilinear(2, 2, 2)})
    assert not (tmp_path / "no").exists()
