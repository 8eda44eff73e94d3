"""Published encoders there and back: transformers' models with random weights are the reference, in both directions.

Theirs read padded batches with an attention mask, ours read the same sequences without padding.
"""

import json
import shutil
from dataclasses import dataclass, field, replace

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from published import faults_are_named, loaded, near, nonsense_is_refused, same_bytes, spread
from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.contract import Tokens
from vocablo.landscape import bert
from vocablo.landscape._layers import differences
from vocablo.models import transformer
from vocablo.text.tokenizer import Tokenizer

LANDSCAPE = "vocablo.landscape"
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


NARROW = SHAPE | {"embedding_size": 16}
REMBERT = SHAPE | {"input_embedding_size": 16, "output_embedding_size": 20}
DISTILBERT = {
    "vocab_size": VOCAB,
    "dim": 24,
    "n_layers": 3,
    "n_heads": 3,
    "hidden_dim": 40,
    "max_position_embeddings": 32,
}
XLM = {"vocab_size": VOCAB, "emb_dim": 24, "n_layers": 3, "n_heads": 3, "max_position_embeddings": 32}
CASES = [
    Case("BertModel", "BertConfig"),
    Case("BertForMaskedLM", "BertConfig"),
    Case("BertForMaskedLM", "BertConfig", {**SHAPE, "tie_word_embeddings": False, "hidden_act": "gelu_new"}),
    Case("BertForPreTraining", "BertConfig", heads=("next_sentence",)),
    Case("BertForPreTraining", "BertConfig", {**SHAPE, "type_vocab_size": 3}, heads=("next_sentence",)),
    Case("BertForNextSentencePrediction", "BertConfig", heads=("next_sentence",)),
    Case("RobertaModel", "RobertaConfig"),
    Case("RobertaForMaskedLM", "RobertaConfig", {**SHAPE, "pad_token_id": 0, "hidden_act": "relu"}),
    Case("RobertaForMaskedLM", "RobertaConfig", {**SHAPE, "type_vocab_size": 1}, segments=False),
    Case("CamembertForMaskedLM", "CamembertConfig", {**SHAPE, "type_vocab_size": 1}, segments=False),
    Case("XLMRobertaModel", "XLMRobertaConfig", {**SHAPE, "type_vocab_size": 1}, segments=False),
    Case("DistilBertModel", "DistilBertConfig", DISTILBERT, segments=False),
    Case("DistilBertForMaskedLM", "DistilBertConfig", {**DISTILBERT, "activation": "relu"}, segments=False),
    Case("DistilBertForMaskedLM", "DistilBertConfig", {**DISTILBERT, "sinusoidal_pos_embds": True}, segments=False),
    Case("ElectraModel", "ElectraConfig", NARROW),
    Case("ElectraForMaskedLM", "ElectraConfig", {**NARROW, "hidden_act": "relu"}),
    Case("ElectraForMaskedLM", "ElectraConfig", {**NARROW, "embedding_size": 24}),
    Case("ElectraForPreTraining", "ElectraConfig", NARROW, heads=("replaced_token",)),
    Case("AlbertModel", "AlbertConfig", NARROW),
    Case("AlbertForMaskedLM", "AlbertConfig", {**NARROW, "embedding_size": 24}),
    Case("AlbertForPreTraining", "AlbertConfig", NARROW, heads=("sentence_order",)),
    Case("MegatronBertModel", "MegatronBertConfig", last=True),
    Case("MegatronBertForPreTraining", "MegatronBertConfig", heads=("next_sentence",), last=True),
    Case("RoFormerModel", "RoFormerConfig"),
    Case("RoFormerForMaskedLM", "RoFormerConfig", {**NARROW, "rotary_value": True}),
    Case("MPNetModel", "MPNetConfig", segments=False),
    Case("MPNetForMaskedLM", "MPNetConfig", {**SHAPE, "hidden_act": "relu"}, segments=False),
    Case("RemBertModel", "RemBertConfig", REMBERT),
    Case("RemBertForMaskedLM", "RemBertConfig", REMBERT),
    Case("SplinterModel", "SplinterConfig"),
    Case("XLMModel", "XLMConfig", XLM, segments=False),
    Case("XLMWithLMHeadModel", "XLMConfig", {**XLM, "sinusoidal_embeddings": True}, segments=False),
    Case("XLMWithLMHeadModel", "XLMConfig", {**XLM, "gelu_activation": False}, segments=False),
    Case("FlaubertModel", "FlaubertConfig", {**XLM, "layerdrop": 0.2}, segments=False),
    Case("FlaubertWithLMHeadModel", "FlaubertConfig", {**XLM, "pre_norm": True}, segments=False),
    Case("BertGenerationEncoder", "BertGenerationConfig", segments=False),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(case, tmp_path_factory):
    """Their model and its folder, which nobody may change."""
    folder = tmp_path_factory.mktemp("theirs")
    model = spread(getattr(transformers, case.architecture)(config_of(case)))
    model.save_pretrained(folder)
    return model, folder


def config_of(case):
    return getattr(transformers, case.config)(**case.shape)


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
    if case.shape.get("pre_norm"):
        given["cache"] = NoCache([None] * case.shape["n_layers"])
    return reference(**given, output_hidden_states=True), lambda x: x[mask.bool()]


class NoCache(list):
    """transformers' FlauBERT with pre_norm asks its cache for a layer's part, which the cache that it makes hasn't."""

    def get_seq_length(self):
        return 0


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
    for name in heads.keys() & {"next_sentence", "sentence_order"}:
        of_pairs = getattr(out, "seq_relationship_logits", getattr(out, "sop_logits", logits))
        near(heads[name](hidden.pooled), of_pairs)
    if "replaced_token" in heads:
        near(heads["replaced_token"](hidden.states).squeeze(1), flat(logits))
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
    same_bytes(folder, tmp_path / "ours")


def test_saved_and_loaded_here_it_is_the_same(theirs, tmp_path):
    found = loaded(theirs[1])
    checkpoint.save(tmp_path / "ours", found.model, heads=found.heads)
    again = loaded(tmp_path / "ours")
    assert again.model.config == found.model.config
    assert again.config["model_type"] == found.config["model_type"]
    for one, other in zip((found.model, *found.heads.values()), (again.model, *again.heads.values()), strict=True):
        for name, tensor in one.state_dict().items():
            assert torch.equal(tensor, other.state_dict()[name]), name


def test_missing_unknown_and_misshapen_weights_are_named(theirs, tmp_path):
    folder = shutil.copytree(theirs[1], tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    table = next(name for name in tensors if name.endswith("embeddings.weight") and tensors[name].shape[0] == VOCAB)
    norm = next(name for name, tensor in tensors.items() if tensor.dim() == 1 and name.endswith("weight"))
    faults_are_named(folder, [table, norm], VOCAB - 1)


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


def test_a_layout_says_a_configuration_exactly_or_refuses():
    """Whatever the family: what a layout writes for it, it reads as the same."""
    layouts = {name: registry.load(LANDSCAPE, name) for name in registry.names(LANDSCAPE)}
    said = 0
    for case in CASES:
        theirs = config_of(case)
        own = layouts[registry.owners(LANDSCAPE, "TYPES")[theirs.model_type]]
        config = own.config_from(theirs.to_dict(), ())[0]
        for layout in layouts.values():
            try:
                written = layout.config_to(config)
            except ConfigError:
                assert layout is not own
                continue
            names = {each for entry in layout.entries(config) for each in entry.names}
            assert not differences(config, layout.config_from(written, names)[0])
            said += 1
    assert len(CASES) <= said < len(CASES) * len(layouts) / 2


def test_what_is_not_of_a_trunk_is_left_out_with_a_warning(tmp_path):
    reference = spread(transformers.SplinterForPreTraining(transformers.SplinterConfig(**SHAPE)))
    reference.save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"isn't used here: .*splinter_qass\.start_classifier\.weight"):
        found = checkpoint.load(tmp_path)
    compare(found.model, found.heads, reference.splinter, Case("SplinterModel", "SplinterConfig"))


def test_rotations_are_computed_where_a_file_lacks_them(tmp_path):
    model = spread(transformers.RoFormerModel(transformers.RoFormerConfig(**SHAPE)))
    model.encoder.embed_positions.weight.data.copy_(model.encoder.embed_positions.create_weight())
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert torch.equal(loaded(tmp_path).model.rotary.table, tensors.pop("encoder.embed_positions.weight"))
    save_file(tensors, tmp_path / "model.safetensors")
    compare(loaded(tmp_path).model, {}, model, Case("RoFormerModel", "RoFormerConfig"))


@pytest.mark.parametrize(
    ("architecture", "config", "changed", "said"),
    [
        ("XLMModel", "XLMConfig", {"n_langs": 4}, "language embeddings"),
        ("XLMModel", "XLMConfig", {"causal": True}, "causal"),
        ("AlbertModel", "AlbertConfig", {"num_hidden_groups": 2}, "num_hidden_groups"),
        ("MPNetModel", "MPNetConfig", {"relative_attention_num_buckets": 40}, "relative_attention_num_buckets"),
    ],
)
def test_what_families_cannot_follow_is_refused(architecture, config, changed, said, tmp_path):
    shape = XLM if config == "XLMConfig" else SHAPE
    getattr(transformers, architecture)(getattr(transformers, config)(**shape, **changed)).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("name", sorted({config_of(case).model_type for case in CASES}))
def test_nonsense_in_a_configuration_is_refused_by_its_name(name):
    layout = registry.load(LANDSCAPE, registry.owners(LANDSCAPE, "TYPES")[name])
    nonsense_is_refused(layout, next(config_of(case) for case in CASES if config_of(case).model_type == name).to_dict())


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
    _, folder, _ = bert_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is a pickle.*BertForPreTraining\.from_pretrained"):
        checkpoint.load(folder)


def test_padding_of_another_id_is_refused_where_positions_are_counted_from_it(tmp_path):
    tokenizer = Tokenizer.train("wordpiece", ["el gato come pan"] * 3, vocab=30)
    assert tokenizer.pad_id != 5
    config = transformers.RobertaConfig(**SHAPE | {"pad_token_id": 5})
    transformers.RobertaForMaskedLM(config).save_pretrained(tmp_path / "theirs")
    model = loaded(tmp_path / "theirs").model
    with pytest.raises(ConfigError, match="counts positions from pad_token_id 5"):
        checkpoint.save(tmp_path / "ours", model, tokenizer)
    assert not (tmp_path / "ours").exists()


def test_transformers_reads_our_ids_and_logits(tmp_path):
    """A model of ours with its tokenizer, opened by the Auto classes."""
    tokenizer = Tokenizer.train("wordpiece", ["El gato come pan.", "La gata come queso."] * 3, vocab=45)
    torch.manual_seed(0)
    config = transformer.config_for("bert", "tiny", tokenizer.size, 16, {})
    model = transformer.build(config).eval()
    head = torch.nn.Linear(128, 2)
    for heads, auto in ((None, "AutoModelForMaskedLM"), ({"next_sentence": head}, "AutoModelForPreTraining")):
        checkpoint.save(tmp_path / auto, model, tokenizer, heads)
        theirs = getattr(transformers, auto).from_pretrained(tmp_path / auto).eval()
        text = "La gata come pan."
        ids = transformers.AutoTokenizer.from_pretrained(tmp_path / auto)(text, add_special_tokens=False)["input_ids"]
        assert ids == tokenizer.encode(text).ids
        with torch.no_grad():
            out, hidden = theirs(torch.tensor([ids])), model(Tokens.of([ids]))
            near(model.logits(hidden.states), (out.logits if heads is None else out.prediction_logits)[0])
            if heads:
                near(head(hidden.pooled), out.seq_relationship_logits)
