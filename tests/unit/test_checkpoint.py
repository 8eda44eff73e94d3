"""Model folders: whole or absent, strict, and honest about what is wrong with them."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from vocablo import checkpoint
from vocablo.base.errors import CheckpointError, ConfigError, StorageError
from vocablo.contract import Tokens
from vocablo.models import rnn, transformer
from vocablo.text.tokenizer import Tokenizer

WORDS = "el gato come queso y la gata mira la luna"


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train("word", [WORDS])


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    return transformer.build(transformer.config_for("gpt", "tiny", tokenizer.size, 16, {})).eval()


@pytest.fixture
def folder(model, tokenizer, tmp_path):
    checkpoint.save(tmp_path / "model", model, tokenizer)
    return tmp_path / "model"


def states(model):
    with torch.no_grad():
        return model(Tokens.of([[1, 2, 3], [4, 5]])).states


def edit(folder, **changes):
    """Change keys of config.json; None removes one."""
    config = json.loads((folder / "config.json").read_text())
    config |= changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))


def test_a_gpt_is_a_gpt2_folder_with_its_tokenizers_ends(folder, tokenizer):
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "gpt2"
    assert config["architectures"] == ["GPT2LMHeadModel"]
    assert config["bos_token_id"] == config["eos_token_id"] == tokenizer.end_id
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == 16
    assert sorted(path.name for path in folder.parent.iterdir()) == ["model"]  # nothing temporary is left


def test_transformers_reads_the_whole_folder(folder, tokenizer):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs(WORDS)["input_ids"] == tokenizer.encode(WORDS).ids
    generated = transformers.AutoModelForCausalLM.from_pretrained(folder).generation_config
    assert generated.eos_token_id == tokenizer.end_id


@pytest.mark.parametrize(
    "changes", [{"norm": {"place": "post"}}, {"attention": {"bias": False}}, {"norm": {"final": False}}]
)
def test_what_gpt2_cant_say_is_saved_as_our_own(changes, tmp_path):
    torch.manual_seed(0)
    model = transformer.build(transformer.config_for("gpt", "tiny", 9, 8, changes)).eval()
    checkpoint.save(tmp_path / "model", model)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["model_type"] == "vocablo-transformer"
    loaded = checkpoint.load(tmp_path / "model")
    assert loaded.tokenizer is None
    assert loaded.model.config == model.config
    assert torch.equal(states(loaded.model), states(model))


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_stored_once_and_stay_tied(tied, tmp_path):
    changes = {"head": {"tied": tied}, "embed": {"width": 128}, "stack": {"width": 128}}
    model = rnn.build(rnn.config_for("lstm", "tiny", 9, 8, changes)).eval()
    checkpoint.save(tmp_path / "model", model)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert ("head.weight" in stored) != tied
    again = checkpoint.load(tmp_path / "model").model
    assert (again.head.weight is again.tokens.weight) == tied
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_loading_draws_no_random_numbers_and_sets_every_parameter(folder, model):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    again = checkpoint.load(folder).model
    assert torch.equal(before, torch.random.get_rng_state())
    assert not again.training
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in again.parameters())


def test_a_dtype_can_be_asked_for(folder):
    assert checkpoint.load(folder, dtype="bf16").model.tokens.weight.dtype == torch.bfloat16
    with pytest.raises(ConfigError, match="did you mean 'bf16'"):
        checkpoint.load(folder, dtype="bf61")


def test_bf16_weights_are_stored_as_they_are_and_read_as_fp32(model, tmp_path):
    checkpoint.save(tmp_path / "half", model.bfloat16())
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == "bfloat16"
    again = checkpoint.load(tmp_path / "half").model
    assert again.tokens.weight.dtype == torch.float32
    assert torch.equal(again.tokens.weight, model.tokens.weight.float())


def test_shards_are_read_by_their_index(folder, model):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
    for name, members in parts.items():
        save_file({member: tensors[member] for member in members}, folder / name)
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {member: name for name, members in parts.items() for member in members}})
    )
    assert torch.equal(states(checkpoint.load(folder).model), states(model))
    (folder / "b.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no b\.safetensors"):
        checkpoint.load(folder)
    index.write_text(json.dumps({"weight_map": {names[0]: "../a.safetensors"}}))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(folder)


def test_a_model_can_be_described_without_its_weights(folder, model, monkeypatch):
    def never(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(checkpoint, "read_tensors", never)
    described = checkpoint.describe(folder)
    assert (described.family, described.model_type, described.dtype) == ("transformer", "gpt2", "F32")
    assert described.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert (described.context, described.vocabulary, described.tokenizer) == (16, model.vocab, "word")
    assert described.config["stack"]["layers"] == 2
    assert described.run is None


def test_a_head_stored_beside_its_twin_must_be_the_same(folder, model):
    tensors = load_file(folder / "model.safetensors")
    twin = tensors["transformer.wte.weight"].clone()
    save_file({**tensors, "lm_head.weight": twin}, folder / "model.safetensors")
    assert torch.equal(states(checkpoint.load(folder).model), states(model))
    assert checkpoint.describe(folder).parameters == sum(parameter.numel() for parameter in model.parameters())
    save_file({**tensors, "lm_head.weight": twin + 1}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="should be the same as"):
        checkpoint.load(folder)


def truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def reshape(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.wpe.weight"] = torch.zeros(3, 128)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (truncate, r"model\.safetensors is damaged"),
        (pickled, r"pytorch_model\.bin is a pickle.*convert"),
        (reshape, r"wpe\.weight is \[3, 128\] and config\.json asks for \[16, 128\]"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"has no model\.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), r"has no config\.json"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json is damaged"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json is damaged"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), r"tokenizer\.json"),
        (lambda folder: edit(folder, model_type=None), "doesn't say its model_type"),
        (lambda folder: edit(folder, model_type="gtp2"), "did you mean 'gpt2'"),
        (lambda folder: edit(folder, model_type="vocablo-transformer"), "'vocablo' section"),
        (lambda folder: edit(folder, model_type="vocablo-transformer", vocablo={"format": 99, "config": {}}), "format 99"),
        (lambda folder: edit(folder, model_type="vocablo-rnn", vocablo={"format": 1, "config": {"x": 1}}), "unknown key 'x'"),
        (lambda folder: edit(folder, n_layer="many"), "stack.layers"),
        (lambda folder: edit(folder, n_layer=3), r"lack transformer\.h\.2\."),
        (lambda folder: edit(folder, n_layer=1), r"have transformer\.h\.1\."),
        (lambda folder: edit(folder, n_head=5), "isn't a multiple"),
        (lambda folder: edit(folder, add_cross_attention=True), "add_cross_attention"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_folder_is_said(folder, damage, said):
    damage(folder)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.load(folder)


def test_a_tokenizer_of_another_model_is_refused(folder):
    Tokenizer.train("word", [WORDS + " " + " ".join(f"palabra{n}" for n in range(9))]).save(folder)
    with pytest.raises(CheckpointError, match="don't belong together"):
        checkpoint.load(folder)


def test_a_run_that_isnt_finished_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match="--resume"):
        checkpoint.load(tmp_path)


def test_names_that_lead_nowhere(tmp_path, folder):
    for name in (tmp_path / "nothing", "./nothing", "a/b/c", "../x"):
        with pytest.raises(CheckpointError, match="There is no model folder"):
            checkpoint.load(name)
    with pytest.raises(CheckpointError, match="is a file"):
        checkpoint.load(folder / "config.json")
    with pytest.raises(CheckpointError, match="could be had from the hub"):
        checkpoint.load("nobody/nothing-at-all")


def test_saving_replaces_whole_or_not_at_all(folder, model, monkeypatch):
    before = states(checkpoint.load(folder).model)
    with torch.no_grad():
        model.tokens.weight.add_(1.0)

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(StorageError, match="free some space"):
        checkpoint.save(folder, model)
    assert torch.equal(states(checkpoint.load(folder).model), before)
    monkeypatch.undo()
    checkpoint.save(folder, model)
    assert torch.equal(states(checkpoint.load(folder).model), states(model))
    assert not (folder / "tokenizer.json").exists()  # the folder is the new one, not a mixture


def test_a_tensor_without_a_place_isnt_dropped(model, tmp_path):
    model.register_buffer("more", torch.zeros(2))
    with pytest.raises(CheckpointError, match="no place for more"):
        checkpoint.save(tmp_path / "model", model)
    assert not (tmp_path / "model").exists()
