"""Penn Treebank with Bengio's neural n-gram, alone and mixed with a 5-gram and with its cache.

    python bench/ptb_neural.py --data ../shared/data/ptb_mikolov
    python bench/ptb_neural.py --minutes 15 --direct 1

The recipe is ptb-neural-ngram (18 epochs, dropout 0.35 and weight decay 0.1), or as many steps as fit into ``--minutes``; the run lies in ``--folder`` and goes
on there when it was interrupted. Every line is read from its boundary on and its end is predicted (82,430 test tokens).
Whatever is chosen, the evaluation at which training is best, a cache's length and weight, a mixture's weight, is chosen
on the validation set. With the cache, the lines are read as one stream (contexts still end with the line, the cache
doesn't). Published (Mikolov et al. 2011): feed-forward 140.2, with a 5-gram 116.7, with its cache 106.6.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import vocablo
from _harness import HERE, SHARED, need, options, report
from ptb_ngram import LENGTHS, WEIGHTS, grid, with_cache
from vocablo.api import LanguageModel, load
from vocablo.data.readers import read_documents
from vocablo.data.store import Store
from vocablo.models import ngram
from vocablo.text.tokenizer import Tokenizer
from vocablo.training.run import holds_run
from vocablo.views.terminal import table

ORDER = 5
PUBLISHED = {
    "5-gram": 141.2,
    "5-gram with cache": 125.7,
    "neural 5-gram": 140.2,
    "neural + 5-gram": 116.7,
    "neural + 5-gram with cache": 106.6,
}


def counted(texts: list[list[str]], tokenizer: Tokenizer) -> tuple[LanguageModel, LanguageModel]:
    """The 5-gram of the training text, alone and with the cache that is best on the validation text."""
    train, valid = (Store.from_documents(text, tokenizer) for text in texts)
    model = ngram.build(ngram.Config(vocab=tokenizer.size, order=ORDER))
    model.fit(train)
    found = grid(model, valid)
    length, weight = min(((one, other) for one in LENGTHS for other in WEIGHTS), key=lambda at: found[at[0]][at[1]])
    print(f"cache of {length} words, weight {weight:g}", flush=True)
    return LanguageModel(model, tokenizer), LanguageModel(with_cache(model, length, weight), tokenizer)


def trained(
    chosen: Any, train: Path, valid: Path, tokenizer: Path, folder: Path
) -> tuple[LanguageModel, dict[str, Any]]:
    """The neural model and facts of its run, gone on with when it was begun before."""
    data = {"documents": "line", "validation_text": [valid]}
    changes = [f"train.seed={chosen.seed}", f"model.direct={str(bool(chosen.direct)).lower()}"]
    resume = holds_run(folder)
    result = vocablo.pretrain(
        "neural-ngram", recipe="ptb-neural-ngram", text=train, out=folder, tokenizer=tokenizer, data=data,
        minutes=chosen.minutes or None, overrides=changes, resume=resume,
    )  # fmt: skip
    one = result.seeds[0]
    model = load(folder)
    assert isinstance(model, LanguageModel)
    return model, {
        "parameters": result.parameters,
        "steps": one.steps,
        "seconds": one.seconds,
        "stopped_by": one.stopped_by,
    }


def main() -> None:
    chosen = options(
        __doc__,
        data=(str(SHARED / "ptb_mikolov"), "folder of ptb.train.txt, ptb.valid.txt, ptb.test.txt"),
        folder=(str(HERE / "out" / "ptb_neural"), "where the run lies"),
        minutes=(0.0, "a time budget instead of the recipe's epochs; 0: none"),
        direct=(0, "1: with direct connections from the vectors to the output"),
        seed=(0, "of the weights and the order"),
    )
    train, valid, test = (need(Path(chosen.data) / f"ptb.{part}.txt") for part in ("train", "valid", "test"))
    texts = [[one.text for one in read_documents([path], documents="line")] for path in (train, valid)]
    folder = Path(chosen.folder) / f"direct-{chosen.direct}-seed-{chosen.seed}"
    tokenizer = Tokenizer.train("word", texts[0], split="whitespace")
    tokenizer.save(Path(chosen.folder) / "tokenizer")
    neural, facts = trained(chosen, train, valid, Path(chosen.folder) / "tokenizer", folder)
    plain, cached = counted(texts, tokenizer)
    begun = time.perf_counter()
    models = {"5-gram": (plain, False), "5-gram with cache": (cached, True), "neural 5-gram": (neural, False)}
    for name, other, carry in (("neural + 5-gram", plain, False), ("neural + 5-gram with cache", cached, True)):
        models[name] = (vocablo.interpolate(neural, other, text=valid, documents="line", carry=carry), carry)
    result: dict[str, Any] = {"run": facts, "seed": chosen.seed, "direct": bool(chosen.direct), "perplexity": {}}
    rows = []
    for name, (model, carry) in models.items():
        found = [model.perplexity(path, documents="line", carry=carry) for path in (valid, test)]
        weight = getattr(model.model, "weight", None)
        result["perplexity"][name] = {"valid": found[0].perplexity, "test": found[1].perplexity, "weight": weight}
        shares = "" if weight is None else f"{weight:.3f}"
        rows.append((name, shares, *(f"{one.perplexity:.2f}" for one in found), f"{PUBLISHED[name]:.1f}"))
        result["test_tokens"] = found[1].tokens
    result["evaluation_seconds"] = time.perf_counter() - begun
    head = (
        f"{facts['parameters']:,} parameters, {facts['steps']:,} steps in {facts['seconds'] / 60:.1f} minutes "
        f"({facts['stopped_by']}), seed {chosen.seed}, {'with' if chosen.direct else 'without'} direct connections; "
        f"{result['test_tokens']:,} test tokens"
    )
    drawn = table(("perplexity", "neural share", "valid", "test", "published test"), rows)
    report("ptb_neural", f"{head}\n{drawn}", result, chosen.out)


if __name__ == "__main__":
    main()
