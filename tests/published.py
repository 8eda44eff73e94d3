"""What the tests of published layouts share: transformers' models with random weights, and checks that hold for all."""

import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file

from vocablo import checkpoint
from vocablo.base.errors import CheckpointError, ConfigError

# Numbers that change nothing in what is computed here, or nothing in a model without the head that they are of, or that are
# of how texts are searched for.
IRRELEVANT_SIZES = {
    "bos_index", "chunk_size_feed_forward", "end_n_top", "eos_index", "mask_index", "output_embedding_size", "pad_index",
    "start_n_top", "unk_index", "encoder_no_repeat_ngram_size", "max_length", "num_beams",
}  # fmt: skip


def spread(model, std=0.3):
    """Biases and norms too: at their start they hide mistakes. Parameters stay tied, and fixed tables as they are."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (each for each in model.parameters() if each.requires_grad):
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * std)
        named = dict(model.named_parameters())
        for name in named:  # a head that isn't tied has a second bias, which its forward pass doesn't use
            if (used := name.replace("predictions.bias", "predictions.decoder.bias")) in named:
                named[name].copy_(named[used])
    return model.eval()


def loaded(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no key of a current configuration is unknown
        return checkpoint.load(folder)


def near(ours, theirs, within=1e-5):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() < within


def same_bytes(folder, other):
    before, after = (load_file(path / "model.safetensors") for path in (folder, other))
    assert before.keys() == after.keys()
    for name in after:
        assert torch.equal(before[name], after[name]), name


def faults_are_named(folder, names, rows):
    """``names`` of tensors: missing, misshapen; and one that nobody knows."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name in names:
        save_file({key: value for key, value in tensors.items() if key != name}, file)
        with pytest.raises(CheckpointError, match=f"lack .*{name}"):
            checkpoint.load(folder)
        save_file({**tensors, name: torch.zeros(rows, 7)}, file)
        with pytest.raises(CheckpointError, match=rf"{name} is \[{rows}, 7\] and .* asks for \["):
            checkpoint.load(folder)
    save_file({**tensors, "magic.weight": torch.zeros(2)}, file)
    with pytest.raises(CheckpointError, match=r"have .*magic\.weight"):
        checkpoint.load(folder)


def nonsense_is_refused(layout, theirs):
    """Whatever key it is: a text, a list or a negative number where a size belongs."""
    sizes = [
        key for key, value in theirs.items() if type(value) is int and not key.endswith("_id") and "_drop" not in key
    ]
    assert len(sizes) >= 4
    assert layout.config_from(theirs, ())[1] == []
    for key in sizes:
        for nonsense in ("many", [3], -3):
            try:
                layout.config_from(theirs | {key: nonsense}, ())
            except ConfigError:
                continue
            assert key in IRRELEVANT_SIZES, (key, nonsense)
