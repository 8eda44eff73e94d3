"""Published decoders there and back: transformers' models with random weights are the reference, in both directions."""

import json
import shutil
from dataclasses import dataclass

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from published import faults_are_named, loaded, near, nonsense_is_refused, same_bytes, spread
from vocablo import checkpoint
from vocablo.base import registry
from vocablo.base.errors import CheckpointError
from vocablo.contract import Tokens
from vocablo.models import transformer

VOCAB, LENGTHS = 61, (12, 5, 9)
GPT = {"vocab_size": VOCAB, "n_positions": 32, "n_embd": 24, "n_layer": 3, "n_head": 3}
NEO = {"vocab_size": VOCAB, "max_position_embeddings": 32, "hidden_size": 24, "num_layers": 4, "num_heads": 3}
NEO |= {"attention_types": [[["global", "local"], 2]], "window_size": 5}
NEOX = {"vocab_size": VOCAB, "max_position_embeddings": 32, "hidden_size": 24, "num_hidden_layers": 3}
NEOX |= {"num_attention_heads": 3, "intermediate_size": 40}
GPTJ = GPT | {"rotary_dim": 4}


@dataclass(frozen=True)
class Case:
    """One of their classes at a small size."""

    architecture: str
    config: str
    shape: dict

    @property
    def name(self) -> str:
        return f"{self.architecture}({','.join(f'{key}={value}' for key, value in list(self.shape.items())[5:])})"


CASES = [
    Case("GPT2LMHeadModel", "GPT2Config", GPT | {"n_inner": 40, "activation_function": "relu"}),
    Case("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT),
    Case("OpenAIGPTLMHeadModel", "OpenAIGPTConfig", GPT | {"afn": "relu", "tie_word_embeddings": False}),
    Case("CTRLLMHeadModel", "CTRLConfig", GPT | {"dff": 40}),
    Case("CTRLLMHeadModel", "CTRLConfig", GPT | {"dff": 96, "tie_word_embeddings": False}),
    Case("GPTNeoForCausalLM", "GPTNeoConfig", NEO),
    Case("GPTNeoForCausalLM", "GPTNeoConfig", NEO | {"attention_types": [[["global"], 4]], "intermediate_size": 40}),
    Case("GPTNeoForCausalLM", "GPTNeoConfig", NEO | {"attention_types": [[["global", "local", "local"], 1], [["global"], 1]]}),
    Case("GPTJForCausalLM", "GPTJConfig", GPTJ),
    Case("GPTJForCausalLM", "GPTJConfig", GPTJ | {"rotary_dim": 8, "n_inner": 40, "tie_word_embeddings": True}),
    Case("GPTNeoXForCausalLM", "GPTNeoXConfig", NEOX),
    Case("GPTNeoXForCausalLM", "GPTNeoXConfig", NEOX | {"use_parallel_residual": False, "attention_bias": False}),
    Case("GPTNeoXForCausalLM", "GPTNeoXConfig", NEOX | {"tie_word_embeddings": True, "rope_parameters": {
        "rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 1.0}}),
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
    model.save_pretrained(folder)
    return model, folder


def sequences():
    draw = torch.Generator().manual_seed(1)
    return [torch.randint(0, VOCAB, (length,), generator=draw) for length in LENGTHS]


@torch.no_grad()
def compare(model, reference):
    """States of every layer and logits of a batch are those of each sequence alone, there."""
    batch = sequences()
    hidden = model(Tokens.of([ids.tolist() for ids in batch]), keep=tuple(range(model.config.stack.layers)))
    outs = [reference(ids[None], output_hidden_states=True) for ids in batch]
    for number, ours in enumerate(hidden.layers):
        near(ours, torch.cat([out.hidden_states[number][0] for out in outs]))
    near(model.logits(hidden.states), torch.cat([out.logits[0] for out in outs]))


@torch.no_grad()
def greedy(model, prompt, count):
    """``count`` more tokens, each read onto the state."""
    logits, state = model.extend(Tokens.of([prompt]), None)
    ids = list(prompt)
    while True:
        ids.append(int(logits.argmax()))
        if len(ids) == len(prompt) + count:
            return ids
        logits, state = model.extend(Tokens.of([ids[-1:]]), state)


def test_their_folder_gives_their_numbers_and_their_greedy_ids_here(theirs):
    reference, folder = theirs
    model = loaded(folder).model
    compare(model, reference)
    for prompt in sequences():
        told = {"do_sample": False, "max_new_tokens": 15, "eos_token_id": None, "pad_token_id": 0}
        wanted = reference.generate(prompt[None], attention_mask=torch.ones(1, len(prompt)), **told)[0].tolist()
        assert greedy(model, prompt.tolist(), 15) == wanted


def test_our_folder_gives_our_numbers_there_and_the_same_bytes(case, theirs, tmp_path):
    _, folder = theirs
    model = loaded(folder).model
    checkpoint.save(tmp_path / "ours", model)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [case.architecture]
    back, report = getattr(transformers, case.architecture).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    compare(model, back.eval())
    same_bytes(folder, tmp_path / "ours")
    again = loaded(tmp_path / "ours")
    assert again.model.config == model.config
    assert again.config["model_type"] == json.loads((folder / "config.json").read_text())["model_type"]


def test_missing_unknown_and_misshapen_weights_are_named(theirs, tmp_path):
    folder = shutil.copytree(theirs[1], tmp_path / "theirs")
    tensors = load_file(folder / "model.safetensors")
    norm = next(name for name, tensor in tensors.items() if tensor.shape == (24,) and name.endswith("weight"))
    two = [name for name, tensor in tensors.items() if tensor.dim() == 2][:2]
    faults_are_named(folder, [norm, *two], VOCAB - 1)


@pytest.mark.parametrize("name", sorted({config_of(case).model_type for case in CASES}))
def test_nonsense_in_a_configuration_is_refused_by_its_name(name):
    layout = registry.load("vocablo.landscape", registry.owners("vocablo.landscape", "TYPES")[name])
    nonsense_is_refused(layout, next(config_of(case) for case in CASES if config_of(case).model_type == name).to_dict())


@pytest.mark.parametrize(
    ("number", "changed", "said"),
    [
        (1, {"afn": "gelu_fast"}, "afn"),
        (3, {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon"),
        (5, {"attention_types": [[["global", "near"], 2]]}, "attention_types"),
        (5, {"attention_types": [[["global"], 3]]}, "attention_types say 'global' or 'local' for each of 4 layers"),
        (5, {"attention_types": "global"}, "attention_types"),
        (8, {"rotary_dim": 7}, "position.turned"),
        (8, {"rotary": False}, "rotary"),
        (10, {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}, "rope_parameters"),
        (10, {"rope_parameters": {"partial_rotary_factor": "half"}}, "rope_parameters"),
        (10, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling"),
    ],
)
def test_what_cannot_be_followed_is_refused(number, changed, said, tmp_path):
    case = CASES[number]
    getattr(transformers, case.architecture)(config_of(case)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(tmp_path)


def test_older_files_say_rotation_and_output_in_other_words(tmp_path):
    """Pythia's config.json has rotary_pct and rotary_emb_base, the output layer had two names."""
    reference = spread(transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**NEOX)))
    reference.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    (tmp_path / "config.json").write_text(json.dumps(config | {"rotary_pct": 0.25, "rotary_emb_base": 10000}))
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors.pop("embed_out.weight")
    tensors["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = torch.ones(1)
    save_file(tensors, tmp_path / "model.safetensors")
    compare(loaded(tmp_path).model, reference)


def test_a_decoder_of_ours_is_saved_in_the_first_layout_that_says_it(tmp_path):
    for changes, kind in (
        ({}, "gpt2"),
        ({"norm": {"place": "post", "final": False}, "init": {"residual": False}}, "openai-gpt"),
        ({"norm": {"kind": "rms"}}, "vocablo-transformer"),
        ({"stack": {"parallel": True}}, "vocablo-transformer"),
    ):
        model = transformer.build(transformer.config_for("gpt", "tiny", 10, 8, changes))
        checkpoint.save(tmp_path / "model", model)
        found = loaded(tmp_path / "model")
        assert found.config["model_type"] == kind
        assert found.model.config == model.config
