"""ELMo's published files, read into the family ``elmo``: a folder with ``*options.json``, ``*weights.hdf5`` and perhaps a vocabulary.

    options["char_cnn"], options["lstm"]    the shape: filters, highway layers, activation; cells, projection, clips, skips
    char_embed [261, E]                     no row for 0, which stands for nothing
    CNN/W_cnn_i [1, w, E, n], b_cnn_i       filters
    CNN_high_i/W_carry, W_transform [F, F]  the highway's gate and its other branch, transposed to ours
    CNN_proj/W_proj [F, D]                  projection
    RNN_d/.../CellL/LSTMCell/W_0 [D + D, 4 c], B, W_P_0 [c, D]
                                            direction d, layer L: gates in the order i, g, f, o, input rows first; 1 is added to
                                            the forget gate's bias when it runs (TensorFlow's LSTMCell), and here once

The published weights have no softmax: such a model gives states, not words. It needs no vocabulary, as it reads letters;
a file ``vocab*.txt`` beside it (a word a line, with <S>, </S> and <UNK>) is read if there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vocablo.base.errors import CheckpointError, ConfigError, nearest
from vocablo.models.elmo import Config, Elmo, Embed, Letters, Stack, build
from vocablo.nn.character_cnn import ACTIVATIONS
from vocablo.text.characters import PADDING
from vocablo.text.specials import read_json
from vocablo.text.tokenizer import Tokenizer

OPTIONS, WEIGHTS, VOCABULARY = "*options.json", "*weights.hdf5", "vocab*.txt"
SPECIALS = {"end": "</S>", "cls": "<S>", "unk": "<UNK>"}
KNOWN = {
    "lstm": {"cell_clip", "proj_clip", "use_skip_connections", "n_layers", "projection_dim", "dim"},
    "char_cnn": {"embedding", "filters", "n_highway", "n_characters", "max_characters_per_token", "activation"},
}


def is_elmo(folder: str | Path) -> bool:
    """Whether a folder has ELMo's options and weights, and no model of ours."""
    path = Path(folder)
    return path.is_dir() and not (path / "config.json").exists() and bool(list(path.glob(OPTIONS)) and list(path.glob(WEIGHTS)))  # fmt: skip


def read(folder: str | Path) -> tuple[Elmo, Tokenizer]:
    """The model in evaluation mode, without output layer, and a tokenizer that splits at white space.

    Raises CheckpointError for files that are damaged or say what isn't known here, ConfigError without h5py.
    """
    path = Path(folder)
    options, weights = _one(path, OPTIONS), _one(path, WEIGHTS)
    tokenizer = Tokenizer.of_words(_words(path), specials=SPECIALS)
    config = config_of(read_json(options), tokenizer.size, options)
    model = build(config)
    model.load_state_dict(_tensors(weights, config) | {"spellings": model.spellings})
    model.spell(tokenizer)
    return model.eval(), tokenizer


def config_of(options: Mapping[str, Any], vocab: int, where: Path) -> Config:
    """Our configuration of their options. Raises CheckpointError for one that is missing or can't be said."""
    try:
        lstm, cnn = dict(options["lstm"]), dict(options["char_cnn"])
        for section, given in (("lstm", lstm), ("char_cnn", cnn)):
            if unknown := sorted(set(given) - KNOWN[section]):
                raise CheckpointError(
                    f"{where}: {section}.{unknown[0]} isn't known here{nearest(unknown[0], KNOWN[section])}"
                )
        if cnn["activation"] not in ACTIVATIONS:
            raise CheckpointError(
                f"{where}: char_cnn.activation is {cnn['activation']!r}; known here are {' and '.join(ACTIVATIONS)}."
            )
        if lstm.get("cell_clip") != lstm.get("proj_clip"):
            raise CheckpointError(f"{where}: lstm.cell_clip and lstm.proj_clip differ, and here they are one number.")
        if cnn.get("n_characters", PADDING + 1) not in (PADDING, PADDING + 1):
            raise CheckpointError(f"{where}: char_cnn.n_characters is {cnn['n_characters']}; ELMo's are {PADDING}.")
        letters = Letters(
            width=cnn["max_characters_per_token"],
            embed=cnn["embedding"]["dim"],
            filters=cnn["filters"],
            highway=cnn["n_highway"],
            activation=cnn["activation"],
        )
        stack = Stack(
            width=lstm["projection_dim"],
            layers=lstm["n_layers"],
            cells=lstm["dim"],
            clip=lstm.get("cell_clip") or None,
            skip=bool(lstm.get("use_skip_connections", False)),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise CheckpointError(f"{where} doesn't say a model: {what}.") from None
    return Config(embed=Embed(vocab=vocab), letters=letters, stack=stack, head=None)


def _tensors(path: Path, config: Config) -> dict[str, Tensor]:
    """Our tensors from the file; every one is there and has its shape, or CheckpointError says which."""
    try:
        import h5py
    except ImportError:
        raise ConfigError("ELMo's weights are in HDF5: pip install 'vocablo[elmo]' (h5py).") from None
    stack, letters = config.stack, config.letters
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise CheckpointError(f"{path} is no HDF5 file, or damaged ({error}): copy or download it again.") from None
    with file:

        def take(name: str, *shape: int) -> np.ndarray:
            if not isinstance(file.get(name), h5py.Dataset):
                raise CheckpointError(f"{path} has no {name}, which its options ask for.")
            if file[name].shape != shape:
                raise CheckpointError(
                    f"{path}: {name} has the shape {file[name].shape}, and its options say {shape}: do the two belong together?"
                )
            return file[name][...].astype(np.float32)

        table = take("char_embed", PADDING, letters.embed)
        found = {"reader.characters.weight": np.concatenate([np.zeros((1, letters.embed), np.float32), table])}
        total = 0
        for number, (width, count) in enumerate(letters.filters):
            kernel = take(f"CNN/W_cnn_{number}", 1, width, letters.embed, count)
            found[f"reader.filters.{number}.weight"] = kernel[0].transpose(2, 1, 0)
            found[f"reader.filters.{number}.bias"] = take(f"CNN/b_cnn_{number}", count)
            total += count
        for number in range(letters.highway):
            for ours, theirs in (("gate", "carry"), ("transform", "transform")):
                found[f"reader.highway.{number}.{ours}.weight"] = take(f"CNN_high_{number}/W_{theirs}", total, total).T
                found[f"reader.highway.{number}.{ours}.bias"] = take(f"CNN_high_{number}/b_{theirs}", total)
        found["reader.projection.weight"] = take("CNN_proj/W_proj", total, stack.width).T
        found["reader.projection.bias"] = take("CNN_proj/b_proj", stack.width)
        cells = stack.cells or stack.width
        for direction, layers in enumerate(("forward_layers", "backward_layers")):
            for layer in range(stack.layers):
                cell = f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"
                joined = _gates(take(f"{cell}/W_0", 2 * stack.width, 4 * cells).T, cells)
                bias = _gates(take(f"{cell}/B", 4 * cells), cells)
                bias[cells : 2 * cells] += 1
                found[f"{layers}.{layer}.input.weight"] = joined[:, : stack.width]
                found[f"{layers}.{layer}.recurrent.weight"] = joined[:, stack.width :]
                found[f"{layers}.{layer}.input.bias"] = bias
                found[f"{layers}.{layer}.projection.weight"] = take(f"{cell}/W_P_0", cells, stack.width).T
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}


def _gates(values: np.ndarray, cells: int) -> np.ndarray:
    """From the order i, g, f, o to i, f, g, o."""
    i, g, f, o = np.split(values, 4)
    return np.concatenate([i, f, g, o])


def _one(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise CheckpointError(f"{folder} has {len(found)} files {pattern}: leave the one of the model that is meant.")
    return found[0]


def _words(folder: Path) -> list[str]:
    """The words of a vocabulary beside the weights; none, where there is no such file."""
    files = sorted(folder.glob(VOCABULARY))
    if not files:
        return []
    if len(files) > 1:
        raise CheckpointError(
            f"{folder} has {len(files)} files {VOCABULARY}: leave the one of the model that is meant."
        )
    try:
        words = files[0].read_text(encoding="utf-8").split()
    except (UnicodeDecodeError, OSError) as error:
        raise CheckpointError(f"{files[0]} can't be read as UTF-8 text: {error}.") from None
    return [word for word in dict.fromkeys(words) if word not in SPECIALS.values()]
