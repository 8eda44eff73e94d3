"""Published encoder-decoders there and back: transformers' models with random weights are the reference, both ways.

Theirs read padded batches with an attention mask, ours read the same sequences without padding.
"""

import json
import shutil
from dataclasses import dataclass, field

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from published import faults_are_named, loaded, near, nonsense_is_refused, same_bytes, spread
from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.errors import CheckpointError, ConfigError
from vocablo.checkpoint import generation
from vocablo.contract import Tokens
from vocablo.decoding.beam import search
from vocablo.decoding.settings import DecodeSettings
from vocablo.decoding.start import from_sources
from vocablo.landscape._layers import differences
from vocablo.models import transformer

VOCAB, SOURCES, TARGETS = 61, (12, 5, 9), (7, 10, 4)
BART = {
    "vocab_size": VOCAB, "d_model": 24, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 32, "encoder_attention_heads": 3, "decoder_attention_heads": 2, "max_position_embeddings": 32,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
}  # fmt: skip
MARIAN = BART | {"pad_token_id": 60, "eos_token_id": 0, "forced_eos_token_id": 0, "decoder_start_token_id": 60,
                 "activation_function": "swish", "scale_embedding": True}  # fmt: skip
FSMT = {name: value for name, value in BART.items() if name != "vocab_size"} | {
    "src_vocab_size": VOCAB, "tgt_vocab_size": 53, "max_length": 20,
}  # fmt: skip
T5 = {"vocab_size": VOCAB, "d_model": 24, "d_kv": 6, "d_ff": 40, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 3,
      "decoder_start_token_id": 0, "relative_attention_num_buckets": 8, "relative_attention_max_distance": 10}  # fmt: skip
GATED = T5 | {"feed_forward_proj": "gated-gelu"}
TWO = {
    "share_encoder_decoder_embeddings": False,
    "decoder_vocab_size": 57,
    "pad_token_id": 56,
    "decoder_start_token_id": 56,
}


@dataclass(frozen=True)
class Case:
    """One of their classes at a small size. ``own``: an output layer of its own, as T5 v1.1 is published.

    ``said``: what generation_config.json says beside.
    """

    architecture: str
    config: str
    shape: dict
    own: bool = False
    said: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        base = T5 if "T5" in self.config else BART
        told = [f"{key}={value}" for key, value in self.shape.items() if base.get(key) != value]
        return f"{self.architecture}({','.join(told)}){'+head' * self.own}"


CASES = [
    Case("BartForConditionalGeneration", "BartConfig", BART),
    Case("BartForConditionalGeneration", "BartConfig", BART | {"scale_embedding": True, "activation_function": "relu"},
         said={"num_beams": 2, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 2, "min_length": 8}),
    Case("BartForConditionalGeneration", "BartConfig", BART | {"decoder_layerdrop": 0.1}, said={"forced_bos_token_id": 0}),
    Case("MBartForConditionalGeneration", "MBartConfig", BART | {"decoder_start_token_id": 55}),
    Case("MBartForConditionalGeneration", "MBartConfig", BART | {"scale_embedding": True}, said={"forced_bos_token_id": 55}),
    Case("MarianMTModel", "MarianConfig", MARIAN, said={"bad_words_ids": [[60]]}),
    Case("MarianMTModel", "MarianConfig", {**MARIAN, **TWO}, said={"bad_words_ids": [[56]]}),
    Case("PegasusForConditionalGeneration", "PegasusConfig", BART | {
        "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": 1, "scale_embedding": True,
        "activation_function": "relu", "bos_token_id": None}),
    Case("M2M100ForConditionalGeneration", "M2M100Config", BART, said={"forced_bos_token_id": 55}),
    Case("M2M100ForConditionalGeneration", "M2M100Config", BART | {"pad_token_id": 0, "decoder_start_token_id": 55}),
    Case("BlenderbotForConditionalGeneration", "BlenderbotConfig", BART | {"decoder_start_token_id": 0,
                                                                         "encoder_no_repeat_ngram_size": 0}),
    Case("BlenderbotSmallForConditionalGeneration", "BlenderbotSmallConfig", BART),
    Case("FSMTForConditionalGeneration", "FSMTConfig", FSMT),
    Case("FSMTForConditionalGeneration", "FSMTConfig", FSMT | {"tie_word_embeddings": True, "tgt_vocab_size": VOCAB}),
    Case("T5ForConditionalGeneration", "T5Config", T5),
    Case("T5ForConditionalGeneration", "T5Config", GATED | {"tie_word_embeddings": False}, own=True),
    Case("T5ForConditionalGeneration", "T5Config", GATED | {"tie_word_embeddings": False}),
    Case("MT5ForConditionalGeneration", "MT5Config", GATED, own=True),
    Case("MT5ForConditionalGeneration", "MT5Config", T5 | {"feed_forward_proj": "gated-silu"}),
]  # fmt: skip


def config_of(case):
    return getattr(transformers, case.config)(**case.shape)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def theirs(case, tmp_path_factory):
    """Their model and its folder, which nobody may change."""
    folder = tmp_path_factory.mktemp("theirs")
    model = spread(getattr(transformers, case.architecture)(config_of(case)))
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.copy_(
            torch.randn(model.final_logits_bias.shape, generator=torch.Generator().manual_seed(5))
        )
    if case.own:
        matrix = torch.randn(VOCAB, 24, generator=torch.Generator().manual_seed(6)) * 0.3
        model.lm_head.weight = torch.nn.Parameter(matrix)
    for name, value in case.said.items():
        setattr(model.generation_config, name, value)
    model.save_pretrained(folder)
    return model, folder


def sequences(lengths, seed, first=None, vocab=50):
    """Ids that are no special token of any case; ``first``: the one that targets begin with."""
    draw = torch.Generator().manual_seed(seed)
    rows = [torch.randint(3, vocab, (length,), generator=draw) for length in lengths]
    return rows if first is None else [torch.cat([torch.tensor([first]), row[1:]]) for row in rows]


def padded(rows, pad):
    ids = torch.full((len(rows), max(map(len, rows))), pad)
    mask = torch.zeros(ids.shape, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return ids, mask


@torch.no_grad()
def compare(model, reference):
    """Encoder states, states of every decoder layer and logits are the same."""
    pad = reference.config.pad_token_id
    sources, targets = sequences(SOURCES, 1), sequences(TARGETS, 2, model.start[0])
    ids, mask = padded(sources, pad)
    given, there = padded(targets, pad)
    out = reference(input_ids=ids, attention_mask=mask, decoder_input_ids=given, decoder_attention_mask=there,
                    output_hidden_states=True, use_cache=False)  # fmt: skip
    source, tokens = (Tokens.of([row.tolist() for row in rows]) for rows in (sources, targets))
    near(model.read_source(source), out.encoder_last_hidden_state[mask.bool()])
    depth = model.decoder.depth
    hidden = model(tokens, source, keep=tuple(range(depth)))
    for ours, layer in zip(hidden.layers, out.decoder_hidden_states[:depth], strict=True):
        near(ours, layer[there.bool()])
    near(model.logits(hidden.states), out.logits[there.bool()], 2e-5)


@torch.no_grad()
def generated(model, settings):
    """Ids of each source's best text, with ``start``, without what follows the end."""
    source = Tokens.of([row.tolist() for row in sequences(SOURCES, 1)])
    found = search(from_sources(model, source), settings, generation.ends(model))
    return [[*model.start, *hypotheses[0].ids] for hypotheses in found]


@torch.no_grad()
def generated_there(reference, **told):
    config = reference.generation_config
    ids, mask = padded(sequences(SOURCES, 1), reference.config.pad_token_id)
    out = reference.generate(ids, attention_mask=mask, do_sample=False, **told)
    rows = []
    for row in out.tolist():
        end = next((at for at, token in enumerate(row) if at and token == config.eos_token_id), len(row))
        rows.append(row[: end + 1])
    return rows


def test_their_folder_gives_their_numbers_here(theirs):
    reference, folder = theirs
    compare(loaded(folder).model, reference)


@pytest.mark.parametrize("beam", [1, 4])
def test_their_folder_gives_their_texts_here(theirs, beam):
    """Greedy and beam search, with what the folder says of tokens that are forced or never written."""
    reference, folder = theirs
    model = loaded(folder).model
    told = generation.settings(model) | {"beam": beam, "max_tokens": 12}
    assert generated(model, DecodeSettings(**told)) == generated_there(reference, num_beams=beam, max_new_tokens=12)


def test_our_folder_gives_our_numbers_and_texts_there_and_the_same_bytes(case, theirs, tmp_path):
    _, folder = theirs
    model = loaded(folder).model
    checkpoint.save(tmp_path / "ours", model)
    told = json.loads((tmp_path / "ours" / "config.json").read_text())
    assert told["architectures"] == [case.architecture]
    back, report = getattr(transformers, case.architecture).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    compare(model, back.eval())
    same_bytes(folder, tmp_path / "ours")
    settings = DecodeSettings(**generation.settings(model) | {"beam": 3, "max_tokens": 12})
    assert generated(model, settings) == generated_there(back, num_beams=3, max_new_tokens=12)
    again = loaded(tmp_path / "ours")
    assert again.model.config == model.config
    assert again.model.generation == model.generation
    assert again.config["model_type"] == json.loads((folder / "config.json").read_text())["model_type"]


def test_missing_unknown_and_misshapen_weights_are_named(theirs, tmp_path):
    folder = shutil.copytree(theirs[1], tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    norm = next(name for name, tensor in tensors.items() if tensor.dim() == 1 and name.endswith("norm.weight"))
    cross = next(name for name in tensors if "ttn.q_proj.weight" in name or "EncDecAttention.q.weight" in name)
    faults_are_named(folder, [norm, cross], 60)


@pytest.mark.parametrize("name", sorted({config_of(case).model_type for case in CASES}))
def test_nonsense_in_a_configuration_is_refused_by_its_name(name):
    layout = registry.load("vocablo.landscape", registry.owners("vocablo.landscape", "TYPES")[name])
    nonsense_is_refused(layout, next(config_of(case) for case in CASES if config_of(case).model_type == name).to_dict())


def saved(folder, architecture="BartForConditionalGeneration", config="BartConfig", **changed):
    model = spread(getattr(transformers, architecture)(getattr(transformers, config)(**BART | changed)))
    model.save_pretrained(folder)
    return model


def edit(path, **changes):
    told = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (told | changes).items() if value is not None}))


def test_a_missing_decoder_start_is_said_and_found_in_either_file(tmp_path):
    saved(tmp_path)
    edit(tmp_path / "config.json", decoder_start_token_id=None)
    assert loaded(tmp_path).model.start == (2,)
    assert checkpoint.describe(tmp_path).family == "transformer"
    edit(tmp_path / "generation_config.json", decoder_start_token_id=None)
    with pytest.raises(CheckpointError, match=r"decoder_start_token_id has to be the id .* add it to config\.json"):
        checkpoint.load(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    edit(tmp_path / "config.json", decoder_start_token_id=7)
    assert loaded(tmp_path).model.start == (7,)


def test_what_older_folders_say_of_searching(tmp_path):
    """facebook/bart-large-cnn and its like have all of it in config.json, in words of their own."""
    saved(tmp_path)
    (tmp_path / "generation_config.json").unlink()
    edit(tmp_path / "config.json", num_beams=4, max_length=142, min_length=56, no_repeat_ngram_size=3, early_stopping=True,
         force_bos_token_to_be_generated=True, normalize_before=False, task_specific_params={"summarization": {}})  # fmt: skip
    found = generation.settings(loaded(tmp_path).model)
    assert found == {"beam": 4, "max_tokens": 141, "min_tokens": 55, "no_repeat": 3, "early_stopping": "full",
                     "force_end": True, "prefix": (0,)}  # fmt: skip
    DecodeSettings(**found)


def test_settings_of_searching_that_are_not_followed_are_named(tmp_path):
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"encoder_no_repeat_ngram_size": 3, "do_sample": False})
    )
    assert generation.ignored(tmp_path, {"num_beam_groups": 1, "diversity_penalty": 0.5}) == [
        "encoder_no_repeat_ngram_size=3",
        "diversity_penalty=0.5",
    ]


def test_old_files_repeat_tables_and_lack_the_logits_bias(tmp_path):
    reference = saved(tmp_path, "MarianMTModel", "MarianConfig", **{k: v for k, v in MARIAN.items() if k not in BART})
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["final_logits_bias"]
    for name in ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = tensors["model.shared.weight"].clone()
    tensors["model.encoder.embed_positions.weight"] = torch.zeros(32, 24)
    save_file(tensors, tmp_path / "model.safetensors")
    compare(loaded(tmp_path).model, reference)
    tensors["lm_head.weight"][0] += 1
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight should be the same as model\.shared\.weight"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        ("BartConfig", {"activation_function": "gelu_magic"}, "activation_function"),
        ("BartConfig", {"decoder_attention_heads": 5}, "decoder.heads"),
        ("BartConfig", {"decoder_start_token_id": "two"}, "decoder_start_token_id"),
        ("MarianConfig", {"decoder_vocab_size": 57}, "decoder_vocab_size"),
        ("T5Config", {"feed_forward_proj": "twice-gelu"}, "feed_forward_proj"),
        ("T5Config", {"feed_forward_proj": "gated-magic"}, "magic"),
        ("FSMTConfig", {"tgt_vocab_size": None, "tie_word_embeddings": True}, "src_vocab_size"),
    ],
)
def test_what_cannot_be_followed_is_refused(config, changes, said):
    case = next(case for case in CASES if case.config == config)
    theirs = config_of(case).to_dict()
    layout = registry.load("vocablo.landscape", registry.owners("vocablo.landscape", "TYPES")[theirs["model_type"]])
    theirs = {key: value for key, value in (theirs | changes).items() if value is not None}
    with pytest.raises(ConfigError, match=said):
        layout.config_from(theirs, ())


def test_an_encoder_decoder_of_ours_is_saved_in_the_first_layout_that_says_it(tmp_path):
    halves = {"position": {"kind": "sinusoidal", "layout": "halves"}, "init": {"kind": "normal"}}
    for changes, kind in (
        (halves | {"head": {"bias": True}}, "marian"),
        (halves | {"head": {"bias": True}, "decoder": {"vocab": 9}}, "marian"),
        ({"embed": {"scaled": False}}, "vocablo-transformer"),
    ):
        config = transformer.config_for("transformer", "tiny", 10, 8, changes).paired((0,))
        model = transformer.build(config)
        checkpoint.save(tmp_path / "model", model)
        found = loaded(tmp_path / "model")
        assert found.config["model_type"] == kind
        assert not differences(config, found.model.config)
