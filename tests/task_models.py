"""Small models fitted for a task, with its fresh heads."""

import torch

from tiny_models import bert, bilstm, gpt, kind, lstm, wordpieces
from vocablo.tasks._fitting import fitted
from vocablo.tasks._reading import Reader, ReadSettings

FAMILIES = {
    "bert": (bert, wordpieces),
    "gpt": (gpt, lambda: kind("bpe")),
    "lstm": (lstm, lambda: kind("word")),
    "bilstm": (bilstm, lambda: kind("word")),
}


def started(family, *, pooler=True, **settings):
    """A fitted model of a family and its reader."""
    build, tokenizer = FAMILIES[family]
    tokenizer = tokenizer()
    model, tokenizer = fitted(build(tokenizer.size), tokenizer, pooler=pooler)
    return model.eval(), Reader(model, tokenizer, ReadSettings(**settings))


def learner(module, family, examples, settings=None, **read):
    """A model, the task of ``module`` on it, and its heads, whose labels are those of the examples."""
    read = ReadSettings(**read)
    model, reader = started(family, pooler=module.POOLED and read.pooler("both"), **read.model_dump())
    config = module.Config(**(settings or {}))
    task = module.Task(reader, config, module.labels(examples, config, "train"))
    torch.manual_seed(0)
    heads = task.heads().eval()
    with torch.no_grad():
        for parameter in heads.parameters():
            parameter.normal_(std=0.5)  # far from uniform, or mistakes hide in rounding
    task.prepare(examples, heads, fresh=True)
    return model, task, heads
