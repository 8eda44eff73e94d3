"""A pre-trained model made ready for a task: what the task doesn't need is left out, what it needs is put in, fresh.

reads both    the output layer over words goes; the pooler is there if the task reads it (Devlin et al. 2019); a recurrent
              network needs no special tokens but one between two texts
reads document    nothing changes: it has no output layer, and sums a document up in its own way
reads source_target    nothing changes: it writes, which is the task
reads left    two tokens are added, the delimiter between two texts and the one behind them whose state is the answer
              (Radford et al. 2018); the boundary that the model knows stands before a text, as in pre-training
"""

from __future__ import annotations

import copy
import sys
from typing import Any

from torch import nn

from vocablo.base.errors import ConfigError
from vocablo.text.templates import Frame, Template
from vocablo.text.tokenizer import Tokenizer

READS, PAIRS = ("both", "left", "two_way"), "source_target"
ROLES = {"sep": "<delimiter>", "cls": "<extract>"}  # for a tokenizer of one boundary


def check_family(model: Any, task: str, *, documents: bool = False, pairs: bool = False) -> None:
    """Raise ConfigError, naming what fits, for a family that a task can't be learnt on.

    ``documents``: whether an example is a text, so that a family that reads whole ones will do; ``pairs``: whether the task
    is to write a text from another.
    """
    trained = isinstance(model, nn.Module) and next(model.parameters(), None) is not None
    if pairs:
        if not trained or model.reads != PAIRS:
            raise ConfigError(
                f"{task} needs a model that reads a source and writes a target, as transformer:tiny; this one reads {model.reads!r}."
            )
        return
    if not trained:
        why = "is counted and has no states to learn from"
    elif model.reads not in (*READS, *(("document",) if documents else ())):
        why = f"reads {model.reads!r}"
    elif model.reads in READS and not hasattr(model.config, "stack"):
        why = "has states of a few words and none of a text"
    else:
        return
    raise ConfigError(
        f"{task} needs a model with states that gradients can train: a recurrent one (rnn, gru, lstm, or bilstm and its like), "
        f"a GPT or a BERT; this one {why}."
    )


def fitted(model: Any, tokenizer: Tokenizer, *, pooler: bool) -> tuple[Any, Tokenizer]:
    """A new model, and its tokenizer, for a task. New rows and modules come from torch's current random state.

    ``pooler``: whether the task reads an encoder's pooled state. Call ``check_family`` first.
    """
    if model.reads == "left":
        tokenizer = tokenizer.with_roles(ROLES)
        made = grown(model, max(model.vocab, tokenizer.size))
    elif model.reads == PAIRS:
        if not model.start:
            raise ConfigError(
                "Nothing says which token a target starts from: config.json needs decoder_start_token_id (ours: decoder.start)."
            )
        made = copy.deepcopy(model)
    elif model.reads == "document":
        made = copy.deepcopy(model)
    elif _bare(tokenizer, model):
        tokenizer = tokenizer.with_roles({"sep": ROLES["sep"]})
        made = grown(model.trimmed(pooler=pooler), max(model.vocab, tokenizer.size))
    else:
        template(tokenizer, model)  # or its error, before work starts
        made = model.trimmed(pooler=pooler)
    if hasattr(model, "model_type"):
        made.model_type = model.model_type  # the layout that it came from
    return made, tokenizer


def grown(model: Any, vocab: int) -> Any:
    """A copy of a model whose vocabulary has ``vocab`` tokens: the rows of new ones are fresh, all else is the same."""
    config = model.config.model_copy(update={"embed": model.config.embed.model_copy(update={"vocab": vocab})})
    made = sys.modules[type(model).__module__].build(config)
    tensors = made.state_dict()
    for name, old in model.state_dict().items():
        tensors[name] = tensors[name].clone()
        tensors[name][: old.shape[0]] = old
    made.load_state_dict(tensors)
    return made


def template(tokenizer: Tokenizer, model: Any) -> Template:
    """The special tokens around one text or two, of a tokenizer as ``fitted`` gives it."""
    if _bare(tokenizer, model):
        between = () if tokenizer.sep_id is None else (tokenizer.sep_id,)
        two = Frame(((), between, ()), ((), (0,) * len(between), ()), (0, 0))
        return Template(Frame(((), ()), ((), ()), (0,)), two)
    if model.reads == "both":
        return Template.of(tokenizer)
    if model.reads == "two_way":
        return Template.two_way(tokenizer)
    if model.reads == PAIRS:
        return Template.of_source(tokenizer)
    start, delimiter, extract = tokenizer.end_id, tokenizer.sep_id, tokenizer.cls_id
    if start is None or delimiter is None or extract is None:
        raise ConfigError(
            "The tokenizer has no boundary, delimiter and extract token: fine-tune the model from its start."
        )
    alone = Frame(((start,), (extract,)), ((0,), (0,)), (0,))
    return Template(alone, Frame(((start,), (delimiter,), (extract,)), ((0,), (0,), (0,)), (0, 0)))


def _bare(tokenizer: Tokenizer, model: Any) -> bool:
    """Whether a model that reads both ways reads a text without special tokens around it."""
    return getattr(model, "bare", False) and (tokenizer.cls_id is None or tokenizer.sep_id is None)
