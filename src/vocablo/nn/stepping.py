"""Reading new tokens onto a key-value cache in one call of the native part, for a Transformer with compact weights.

What ``extend`` of ``models/transformer.py`` does, module by module, takes a few hundred calls a token; on small matrices these
cost as much as the weights' way from memory. ``Step`` does the same for the shape it knows (pre-norm layers, learned
positions, joined queries, keys and values), and says so for any other by being None.
"""

from __future__ import annotations

import ctypes
from itertools import chain, repeat
from typing import Any

from torch import Tensor

from vocablo.contract import Tokens
from vocablo.nn import native
from vocablo.nn.cache import KeyValueCache

ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")  # in the order of native.cpp
# Settings that Step knows at any value. A model with another one that isn't at its default is read module by module.
KNOWN = {
    "embed": {"vocab", "dropout"},
    "position": {"max", "offset"},
    "stack": {"layers", "width", "dropout"},
    "attention": {"heads", "bias", "scaled", "dropout"},
    "feed_forward": {"width", "activation", "bias"},
    "norm": {"final", "bias", "eps"},
    "head": {"tied"},
    "init": {"std", "residual"},
}


class Step:
    """``extend`` for one model whose linear layers are compact."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._stack: native.Stack | None = None
        self._held: list[Tensor] = []

    @classmethod
    def of(cls, model: Any) -> Step | None:
        """The step of a model, or None if it has settings that aren't known here."""
        changed = model.config.model_dump(exclude_defaults=True)
        known = all(isinstance(group, dict) and set(group) <= KNOWN.get(name, set()) for name, group in changed.items())
        return cls(model) if known and model.config.feed_forward.activation in ACTIVATIONS else None

    def __call__(self, tokens: Tokens, state: KeyValueCache | None) -> tuple[Tensor, KeyValueCache] | None:
        """As ``extend``; None where the modules have to do it: the native part isn't at hand, or the tokens are many."""
        model, fences = self.model, tokens.fences
        here = tokens.ids.device.type == "cpu" and fences.total <= native.FEW and 0 not in fences.lengths
        library = native.library() if here else None
        if library is None:
            return None
        stack = self._stack = self._stack or self._describe()
        cache = KeyValueCache(len(model.layers), fences.count, model.context) if state is None else state
        model._check(cache.longest + max(fences.lengths))
        positions = tokens.positions if state is None else cache.continued(tokens)
        x = model.tokens(tokens.ids) + model.positions(positions)
        keys, values, capacity = self._room(cache, x, tokens)
        owners = chain.from_iterable(repeat(b, length) for b, length in enumerate(fences.lengths))
        rows = (ctypes.c_int32 * fences.total)(*owners)
        last = fences.cu[1:] - 1
        places = positions.int()
        logits = x.new_empty(fences.count, model.vocab)
        library.vocablo_step(
            ctypes.byref(stack),
            fences.total,
            x.data_ptr(),
            rows,
            places.data_ptr(),
            keys,
            values,
            capacity,
            fences.count,
            last.data_ptr(),
            logits.data_ptr(),
            native.threads(),
        )
        cache.advance(fences)
        return logits, cache

    def _room(self, cache: KeyValueCache, x: Tensor, tokens: Tokens) -> tuple[Any, Any, int]:
        """The addresses of the caches of all layers, with room for the new tokens, and how many tokens they hold."""
        heads = self.model.config.attention.heads
        like = x.view(len(x), heads, -1)
        buffers = [cache._room(layer, like, tokens.fences) for layer in range(len(self.model.layers))]
        array = ctypes.c_void_p * len(buffers)
        keys, values = (array(*(pair[i].data_ptr() for pair in buffers)) for i in range(2))
        return keys, values, buffers[0][0].shape[1]

    def _describe(self) -> native.Stack:
        """The model as native.cpp reads it. The tensors stay where they are, whatever becomes of the modules."""
        model = self.model
        self._held = [tensor.detach() for tensor in chain(model.parameters(), model.buffers())]
        layers = (native.Layer * len(model.layers))()
        for into, layer in zip(layers, model.layers, strict=True):
            into.attention_norm, into.feed_forward_norm = _norm(layer.attention_norm), _norm(layer.feed_forward_norm)
            into.qkv, into.out = layer.attention.qkv.matrix(), layer.attention.out.matrix()
            into.up, into.down = layer.feed_forward.up.matrix(), layer.feed_forward.down.matrix()
        settings = model.config
        scale = model.layers[0].attention.scale
        activation = ACTIVATIONS.index(settings.feed_forward.activation)
        shape = (len(layers), settings.stack.width, settings.attention.heads, activation, settings.norm.eps, scale)
        return native.Stack(layers, _norm(model.final_norm), model.head.matrix(), *shape)

    def __getstate__(self) -> dict[str, Any]:
        return {"model": self.model, "_stack": None, "_held": []}


def _norm(norm: Any) -> native.Norm:
    weight = getattr(norm, "weight", None)
    return native.Norm(native.address(weight), native.address(getattr(norm, "bias", None)))
