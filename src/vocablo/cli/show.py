"""How results look on a terminal. Text goes to standard output, or one JSON object with ``--json``; notes go to stderr."""

from __future__ import annotations

import json as json_module
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from vocablo.base import files
from vocablo.base.errors import ConfigError
from vocablo.base.progress import duration, quantity
from vocablo.base.results import as_json
from vocablo.views.svg import probability
from vocablo.views.terminal import bar, format_number, table


def say(text: str = "") -> None:
    """A line of text on standard output, at once."""
    print(text, flush=True)


def result(value: Any, json: bool, text: Callable[[Any], str], html: Path | None = None) -> None:
    """Show a result: as one JSON object, or as ``text(value)``; with ``html`` also drawn into that file."""
    if html is not None:
        from vocablo.views.page import page

        into_file(html, value.html() if hasattr(value, "html") else page("Vocablo", [value._repr_html_()]))
    if json:
        data = as_json(value)
        say(json_module.dumps(data if isinstance(data, dict) else {"results": data}, ensure_ascii=False))
    else:
        say(text(value))


def into_file(path: Path, drawing: str) -> None:
    """Write a drawing, and say where it is."""
    files.write_text(path, drawing)
    print(f"drawn in {path}", file=sys.stderr)


def next_table(value: Any) -> str:
    """The lecture's table: candidates, probabilities, bars."""
    words = hasattr(value, "words")
    rows = value.words if words else value.tokens
    greatest = max((row.prob for row in rows), default=1.0) or 1.0
    lines = [
        (
            _visible(row.word if words else row.token),
            probability(row.prob),
            bar(row.prob / greatest) if getattr(row, "known", True) else "not in the vocabulary",
        )
        for row in rows
    ]
    note = f"\n  at most {probability(value.left_out)} of probability lies on words not explored" if words else ""
    return table(("next word" if words else "next token", "p", ""), lines) + note


def scored(found: Iterable[Any], json: bool, out: Path | None, *, whole: bool) -> None:
    """Scores as they come: into a .jsonl file, as one JSON object, or as text (token by token, if ``whole``)."""
    if out is not None:
        if out.suffix != ".jsonl":
            raise ConfigError(f"Scores are written as .jsonl, one object a line; got {out.name!r}.")
        count = 0
        with files.replacing(out) as temporary, temporary.open("w", encoding="utf-8") as file:
            for one in found:
                file.write(json_module.dumps(as_json(one), ensure_ascii=False) + "\n")
                count += 1
        print(f"{count:,} scores in {out}", file=sys.stderr)
    elif json:
        results = list(found)
        result(results[0] if whole and len(results) == 1 else results, True, scores)
    elif whole:
        say(scores(list(found)))
    else:
        for one in found:
            say(f"{one.log_prob:10.4f}  {len(one.tokens):4} tokens  {one.text}")


def scores(value: Any) -> str:
    """Every text's log-probability, token by token, and its total."""
    return "\n\n".join(_score(one) for one in (value if isinstance(value, list) else [value]))


def _score(one: Any) -> str:
    if hasattr(one, "backward"):
        return _two_way(one)
    rows = [
        (_visible(token), None if log_prob is None or log_prob != log_prob else round(float(log_prob), 4))
        for token, log_prob in zip(one.tokens, one.log_probs, strict=True)
    ]
    pseudo = hasattr(one, "pseudo_perplexity")
    facts = [f"{'PLL' if pseudo else 'log p'} = {one.log_prob:.4f} nats"]
    if one.convention != "vocablo":
        facts.append(f"{one.convention}: {one.value:.4f} per token")
    if pseudo:
        facts.append(f"pseudo-perplexity per token {format_number(float(one.pseudo_perplexity))}")
    else:
        facts.append(f"perplexity per token {format_number(float(one.perplexity))}")
        facts += [] if one.bits_per_byte is None else [f"{one.bits_per_byte:.4f} bits per byte"]
    if one.unknown:
        facts.append(f"{one.unknown} unknown words")
    policy = one.kind if pseudo else f"first token: {one.first}"
    if one.kind == "conditional":
        policy = f"conditional: given {one.source!r}"
    parts = [one.text, table(("token", "log p"), rows)]
    if pseudo and len(one.words) < len(one.tokens):
        parts += ["", table(("word", "log p"), [(word.word, round(word.log_prob, 4)) for word in one.words]), ""]
    return "\n".join([*parts, f"  {', '.join(facts)}", f"  {policy}"])


def _two_way(one: Any) -> str:
    rows = [
        (_visible(token), round(left, 4), round(right, 4), round(left + right, 4))
        for token, left, right in zip(one.tokens, one.forward, one.backward, strict=True)
    ]
    facts = [f"{one.kind} = {one.log_prob:.4f} nats"]
    facts.append(
        f"perplexity forward {format_number(one.forward_perplexity)}, backward {format_number(one.backward_perplexity)}"
    )
    facts += [f"{one.unknown} unknown words"] if one.unknown else []
    return "\n".join(
        [
            one.text,
            table(("token", "forward", "backward", "both"), rows),
            f"  {', '.join(facts)}",
            "  between two boundaries, which aren't told",
        ]
    )


def filled(value: Any) -> str:
    """A table for each mask, and the whole texts where there are several."""
    parts = []
    for number, mask in enumerate(value.masks, 1):
        rows = mask.candidates
        greatest = max((row.prob for row in rows), default=1.0) or 1.0
        lines = [
            (_spelled(row), f"{probability(row.prob)}", " ".join(row.tokens) if len(row.tokens) > 1 else "", bar(row.prob / greatest))
            for row in rows
        ]  # fmt: skip
        parts.append(table((f"mask {number}" if len(value.masks) > 1 else "mask", "p", "", ""), lines))
        if len({len(row.tokens) for row in rows}) > 1:
            parts[-1] += "\n  each p is among all fillings of as many tokens: different numbers compare only roughly"
    if value.joint:
        together = [(one.text, f"{one.log_prob:.4f}") for one in value.joint]
        parts.append(table(("together, filled from left to right", "log p"), together))
    return "\n\n".join(parts)


def _spelled(candidate: Any) -> str:
    return candidate.tokens[0] if candidate.piece and len(candidate.tokens) == 1 else _visible(candidate.word)


def embeddings(value: Any) -> str:
    """Each text with the beginning of its vector."""
    rows = [
        (text, " ".join(f"{number:.4f}" for number in vector[:5]) + (" ..." if value.width > 5 else ""))
        for text, vector in zip(value.texts, value.vectors.tolist(), strict=True)
    ]
    layers = " ".join(map(str, value.layers))
    how = f"{value.pooling} of layer {layers}" + (", length 1" if value.normalize else "")
    cut = f", {value.truncated} texts cut" if value.truncated else ""
    cut += f", {value.windowed} texts read in parts" if value.windowed else ""
    return f"{table(('text', f'{value.width} numbers'), rows)}\n  {how}{cut}"


def word_embeddings(value: Any) -> str:
    """Each text with the beginning of its vector, and how many words have none."""
    rows = [
        (text, " ".join(f"{number:.4f}" for number in vector[:5]) + (" ..." if value.width > 5 else ""))
        for text, vector in zip(value.texts, value.vectors.tolist(), strict=True)
    ]
    unknown = f"; {value.unknown:,} of {value.words:,} words have none" if value.unknown else ""
    how = "mean of the words' vectors" + (", length 1" if value.normalize else "") + unknown
    return f"{table(('text', f'{value.width} numbers'), rows)}\n  {how}"


def near_words(value: Any) -> str:
    """The nearest words with their cosines."""
    rows = [(one.word, f"{one.cosine:.4f}") for one in value.neighbors]
    return f"{table((value.word, 'cosine'), rows)}\n  of {value.searched:,} words"


def analogy(value: Any) -> str:
    """The question, and the answers with their cosines."""
    rows = [(one.word, f"{one.cosine:.4f}") for one in value.answers]
    asked = f"{value.first} : {value.second} = {value.third} :"
    return f"{table((asked, 'cosine'), rows)}\n  of {value.searched:,} words"


def neighbors(value: Any) -> str:
    """The nearest words, each with its sentence."""
    rows = [
        (one.word, f"{one.cosine:.4f}", f"{one.sentence[: one.begin]}«{one.word}»{one.sentence[one.end :]}")
        for one in value.neighbors
    ]
    asked = f"{value.sentence[: value.begin]}«{value.word}»{value.sentence[value.end :]}"
    return f"  {asked}\n\n{table(('word', 'cosine', 'sentence'), rows)}\n  of {value.searched:,} words"


def likelihood(value: Any) -> str:
    """Perplexity and its units."""
    rows = [
        ("perplexity per token", value.perplexity),
        ("perplexity per word", value.word_perplexity),
        ("bits per byte", value.bits_per_byte),
        ("log-probability, nats", value.log_prob),
        ("tokens", value.tokens),
        ("words", value.words),
        ("bytes", value.bytes),
        ("unknown tokens", value.unknown),
    ]
    text = table(("", ""), [row for row in rows if row[1] is not None]).partition("\n")[2]  # without the empty header
    if value.bits_per_byte is None and value.unknown:
        text += "\n  bits per byte are not given: the vocabulary is closed, so unknown words cost too little"
    elif value.bits_per_byte is None:
        text += "\n  bits per byte are not given: the tokenizer loses white space or case, so its tokens aren't the text itself"
    return text + f"\n  first token: {value.policy}"


def attention(value: Any) -> str:
    """Weights in percent: the only layer and head, or the mean of the heads of the last layer; of a document, coloured."""
    columns = shutil.get_terminal_size((100, 24)).columns
    if hasattr(value, "passages"):
        return _document(value, columns)
    from vocablo.views.attention import heat_table

    table = heat_table(value.tokens, value.matrix(), columns=columns, looked=value.looked)
    how = "rows look at columns" if value.looked is None else "what each row was written from"
    return f"{table}\n  {value.title()}; {how}, in percent"


def _document(value: Any, columns: int) -> str:
    from vocablo.inference.document import said
    from vocablo.views.document import document_text

    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    note = (
        ""
        if colour
        else "\n  in percent: sentences on the left; behind the weightiest words their part of the sentence"
    )
    return f"{said(value.prediction)}\n\n{document_text(value.passages, colour=colour, columns=columns)}{note}"


def claim(value: Any) -> str:
    """A claim, how it was tried, and what came out."""
    rows = table(value.header, [tuple(map(str, row)) for row in value.rows])
    return f"{value.claim}\n{value.protocol}\n\n{rows}\n  {value.seconds:.0f} s"


def generations(value: Any) -> str:
    """Continuations, numbered, with how each one ended; of texts written from a source, these."""
    if value and hasattr(value[0], "best"):
        from vocablo.cli.show_tasks import written

        return written(value)
    lines = []
    for index, one in enumerate(value, 1):
        score = "" if one.score is None else f", score {one.score:.4f}"
        lines.append(f"[{index}] {one.prompt}{one.text}  ({one.finished_by}, {len(one.tokens)} tokens{score})")
    return "\n".join(lines)


def description(value: Any) -> str:
    """Names and values in two columns, nested ones indented."""
    return _tree(as_json(value))


tokenizer_report = description


def pretrain_result(value: Any) -> str:
    """What was trained, how good it is, and what to try next; or what a run would cost."""
    facts: list[tuple[str, object]] = [
        ("model", f"{value.family} {value.size}"),
        ("pretext", value.pretext or "counted"),
        ("parameters", value.parameters),
        ("vocabulary", value.vocabulary),
        ("training tokens", value.training_tokens),
        ("held-out tokens", value.validation_tokens),
    ]
    if value.validation_unknown:
        read = ", read as one here; score reads their letters" if value.perplexity_of == "forward" else ""
        facts.append(("", f"{value.validation_unknown:,} of them unknown words{read}"))
    facts += _plan(value.plan) if value.plan is not None else []
    if value.perplexity is not None:
        spread = (
            "" if value.perplexity_deviation is None else f" ± {value.perplexity_deviation:.2f} (standard deviation)"
        )
        unit = "hidden token" if value.perplexity_of == "masked" else "token"
        unit += ", told forward" if value.perplexity_of == "forward" else ""
        facts.append(("held-out perplexity", f"{value.perplexity:.2f} per {unit}{spread}"))
        if value.perplexity_of == "forward":
            others = [math.exp(one.terms["backward"]) for one in value.seeds]
            facts.append(("", f"{sum(others) / len(others):.2f} per token, told backward"))
    if value.word_perplexity is not None:
        facts.append(("", f"{format_number(value.word_perplexity)} per word"))
    if value.bits_per_byte is not None:
        facts.append(("held-out bits", f"{value.bits_per_byte:.4f} per byte"))
    for name in value.seeds[0].accuracy if value.seeds else ():
        shares = [one.accuracy[name] for one in value.seeds]
        facts.append((f"{name.replace('_', ' ')} told", f"{sum(shares) / len(shares):.1%} of held-out pairs"))
    lines = [f"  {name:<20}{cell if isinstance(cell, str) else format_number(cell)}" for name, cell in facts]
    if value.seeds:
        rows = [
            (one.seed, one.perplexity, one.steps, duration(one.seconds), one.stopped_by, one.out) for one in value.seeds
        ]
        lines += ["", table(("seed", "perplexity", "steps", "time", "stopped by", "folder"), rows)]
    if value.next:
        lines += ["", "Try:", *(f"  {line}" for line in value.next)]
    return "\n".join(lines)


def _plan(plan: Any) -> list[tuple[str, object]]:
    memory = plan.memory
    parts = ", ".join(
        f"{name} {quantity(getattr(memory, name))}B" for name in ("parameters", "gradients", "optimizer", "activations")
    )
    return [
        ("steps", f"{plan.steps:,} of {plan.tokens_per_step:,.0f} tokens ({plan.epochs:.2f} epochs)"),
        ("memory", f"{quantity(memory.total)}B ({parts})"),
        ("expected time", f"{duration(plan.seconds)} ({plan.seconds_per_step:.3g} s a step)"),
    ]


def recipe_list(value: Any) -> str:
    """Families with their sizes, then recipes."""
    families = table(("family", "what it is", "sizes"), [(f.name, f.about, " ".join(f.sizes)) for f in value.families])
    recipes = table(("recipe", "family", "what it is"), [(r.name, r.family, r.about) for r in value.recipes])
    return f"Families, for `vocablo pretrain FAMILY`:\n{families}\n\nRecipes, for --recipe NAME:\n{recipes}"


def _tree(value: Any, indent: str = "  ") -> str:
    lines: list[str] = []
    width = max((len(str(key)) for key in value), default=0)
    for key, item in value.items():
        if item is None or item in ({}, []):
            continue
        if isinstance(item, dict):
            lines += [f"{indent}{key}", _tree(item, indent + "  ")]
        elif isinstance(item, list):
            lines.append(f"{indent}{str(key).ljust(width)}  {' '.join(_visible(str(part)) for part in item)}")
        else:
            lines.append(f"{indent}{str(key).ljust(width)}  {format_number(item)}")
    return "\n".join(lines)


def _visible(token: str) -> str:
    """White space made visible where it is all that a token has, or stands at its borders."""
    if token.strip():
        return token.replace("\n", "↵")
    return token.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(empty)"
