"""Small models and tokenizers for tests of what a trained model is asked."""

import numpy as np
import tokenizers
import torch
from tokenizers import decoders, models, pre_tokenizers

from vocablo.contract import Tokens
from vocablo.data.store import Store
from vocablo.models import ngram, rnn, transformer
from vocablo.text.specials import Specials
from vocablo.text.tokenizer import Tokenizer

TEXTS = [
    "el gato come pan .",
    "¿ la gata come queso ?",
    "el perro mira la luna y la luna mira el pan .",
    "¡ la niña comió piñones en Cádiz !",
]


def _spread(model, std, seed):
    """Far from uniform, or mistakes hide in rounding."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=std, generator=draw)
    return model.eval()


def gpt(vocab, context=32, *, std=0.4, seed=0, tied=False):
    """A Transformer of one layer with random weights."""
    changes = {"stack": {"layers": 1, "width": 16}, "attention": {"heads": 2}, "head": {"tied": tied}}
    return _spread(transformer.build(transformer.config_for("gpt", "tiny", vocab, context, changes)), std, seed)


def bert(vocab, context=32, *, std=0.6, seed=0, layers=2, **changes):
    """A Transformer that reads both ways, with random weights."""
    changes = {"stack": {"layers": layers, "width": 16}, "attention": {"heads": 2}} | changes
    model = _spread(transformer.build(transformer.config_for("bert", "tiny", vocab, context, changes)), std, seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.weight.add_(1)  # or hardly anything of a token's neighbours would reach it
    return model


def lstm(vocab, *, std=0.4, seed=0):
    """A recurrent network of one layer with random weights."""
    changes = {"stack": {"layers": 1, "width": 12}, "embed": {"width": 12}}
    return _spread(rnn.build(rnn.config_for("lstm", "tiny", vocab, 32, changes)), std, seed)


def bilstm(vocab, *, std=0.4, seed=0):
    """The same read from both ends, its states as wide as the other's."""
    changes = {"stack": {"layers": 1, "width": 6}, "embed": {"width": 12}}
    return _spread(rnn.build(rnn.config_for("bilstm", "tiny", vocab, 32, changes)), std, seed)


def counted(tokenizer, texts=TEXTS):
    """A trigram model of the texts."""
    model = ngram.build(ngram.config_for("ngram", "mini", tokenizer.size, 32, {}))
    model.fit(Store.from_documents(texts, tokenizer))
    return model


def kind(name, texts=TEXTS):
    """A tokenizer of ``texts`` of a kind, as small as that kind can be."""
    return Tokenizer.train(name, texts, vocab=275 if name == "bpe" else None)


def wordpieces():
    """A WordPiece tokenizer so small that longer words have several pieces."""
    return Tokenizer.train("wordpiece", TEXTS, vocab=64)


def pieces():
    """Nine tokens that spell "a", "b", "." and spaces in several ways: ▁ is a space."""
    names = ["<end>", "▁", "a", "b", "ab", "▁a", "▁ab", ".", "▁."]
    inner = tokenizers.Tokenizer(models.Unigram([(name, -1.0 - 0.1 * i) for i, name in enumerate(names)]))
    inner.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
    inner.decoder = decoders.Metaspace("▁", prepend_scheme="never", split=False)
    inner.add_special_tokens(["<end>"])
    return Tokenizer(inner, Specials(end="<end>"))


def letters():
    """Characters a, b, stop and space, each spelled in one way."""
    return Tokenizer.train("char", ["ab .", "ba . a"], specials={"unk": None})


def naive_log_probs(model, ids):
    """log p(ids[i] | ids[:i]) for i from 1 on, one full reading for each, in float64."""
    found = []
    with torch.no_grad():
        for i in range(1, len(ids)):
            hidden = model.forward(Tokens.of([ids[:i]]))
            logits = model.logits(hidden.states[-1:])[0].double()
            found.append(float((logits - logits.exp().sum().log())[ids[i]]))
    return np.array(found)


def naive_next(model, ids):
    """Probabilities [V] of the token after ``ids``, in float64."""
    with torch.no_grad():
        return model.logits(model.forward(Tokens.of([ids])).states[-1:])[0].double().softmax(0).numpy()
