"""GPT-2 there and back: transformers' model with random weights is the reference, in both directions."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from vocablo import checkpoint
from vocablo.base.errors import CheckpointError
from vocablo.contract import Tokens
from vocablo.models import transformer

SHAPE = dict(vocab_size=61, n_positions=32, n_embd=24, n_layer=3, n_head=3, bos_token_id=0, eos_token_id=0)


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def theirs(request, tmp_path):
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(**SHAPE, tie_word_embeddings=request.param)).eval()
    for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "theirs")
    return model, tmp_path / "theirs"


def test_their_folder_gives_their_logits_here(theirs):
    reference, folder = theirs
    ids = torch.randint(0, 61, (4, 20), generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error")  # no key of a current GPT-2 config is unknown
        model = checkpoint.load(folder).model
        ours = model.logits(model(Tokens.of(ids)).states).view(4, 20, 61)
        assert (ours - reference(ids).logits).abs().max() < 1e-5


def test_our_folder_gives_our_logits_there_and_the_same_bytes(theirs, tmp_path):
    _, folder = theirs
    model = checkpoint.load(folder).model
    checkpoint.save(tmp_path / "ours", model)
    back, report = GPT2LMHeadModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    ids = torch.arange(30).remainder(61)[None]
    with torch.no_grad():
        ours = model.logits(model(Tokens.of(ids)).states)
        assert (ours - back.eval()(ids).logits[0]).abs().max() < 1e-5
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "ours"))
    assert before.keys() - {"lm_head.weight"} == after.keys() - {"lm_head.weight"}
    for name in after:
        assert torch.equal(before[name], after[name]), name


def test_a_missing_and_an_unknown_weight_are_named(theirs):
    _, folder = theirs
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    one = tensors.pop("transformer.h.1.attn.c_attn.bias")
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lack transformer\.h\.1\.attn\.c_attn\.bias"):
        checkpoint.load(folder)
    save_file(
        {**tensors, "transformer.h.1.attn.c_attn.bias": one, "transformer.extra": one.clone()},
        folder / "model.safetensors",
    )
    with pytest.raises(CheckpointError, match=r"have transformer\.extra"):
        checkpoint.load(folder)


def test_old_files_without_the_prefix_and_with_buffers_load(theirs):
    reference, folder = theirs
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("transformer."): tensor.clone() for name, tensor in tensors.items()}
    bare["h.0.attn.bias"] = torch.ones(1, 1, 32, 32)
    save_file(bare, folder / "model.safetensors")
    model = checkpoint.load(folder).model
    ids = torch.arange(8)[None]
    with torch.no_grad():
        assert (model.logits(model(Tokens.of(ids)).states) - reference(ids).logits[0]).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("key", "value"), [("scale_attn_by_inverse_layer_idx", True), ("activation_function", "tanhexp")]
)
def test_arithmetic_that_we_dont_have_is_refused(theirs, key, value):
    _, folder = theirs
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(CheckpointError, match=str(value)):
        checkpoint.load(folder)


def test_an_unknown_key_is_named_in_a_warning(theirs):
    _, folder = theirs
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"sparse_magic": 3}))
    with pytest.warns(UserWarning, match="sparse_magic"):
        checkpoint.load(folder)


def test_the_published_number_of_parameters():
    with torch.device("meta"):
        model = transformer.build(transformer.config_for("gpt", "base", 50257, 1024, {}))
    assert sum(parameter.numel() for parameter in model.parameters()) == 124_439_808


def test_training_gives_the_same_losses_step_for_step(theirs):
    """Without dropout, with the same optimizer and batches: 20 steps of both, losses within 1e-3."""
    _, folder = theirs
    reference = GPT2LMHeadModel.from_pretrained(folder, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0).train()
    model = checkpoint.load(folder).model.train()
    for module in model.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-3) for each in (model, reference)]
    draw = torch.Generator().manual_seed(2)
    at = torch.arange(4 * 16)
    for _ in range(20):
        ids = torch.randint(0, 61, (4, 17), generator=draw)
        hidden = model(Tokens.of(ids[:, :-1]))
        ours = -model.target_log_probs(hidden.states, at, ids[:, 1:].reshape(-1)).sum() / len(at)
        logits = reference(ids[:, :-1]).logits
        their = torch.nn.functional.cross_entropy(logits.reshape(-1, 61), ids[:, 1:].reshape(-1))
        assert abs(float(ours.detach()) - float(their.detach())) < 1e-3
        for loss, optimizer in zip((ours, their), optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
