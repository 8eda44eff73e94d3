"""SQuAD's JSON, 1.1 and 2.0 (Rajpurkar et al. 2016, 2018), and that of its official predictions.

For training, an answer's ``answer_start`` is checked against its context: text that doesn't stand in its context is an
error, and a start at which it doesn't stand is moved to the nearest place where it does. A start that the file doesn't tell,
or says to be a guess, is that of the first place. An empty answer beside others is left out, and an id that stands twice
gets a number. Each of these is told with its count. For comparison with predictions nothing is changed, and such an id is
an error.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vocablo.base import files
from vocablo.base.errors import DataError
from vocablo.base.progress import tell
from vocablo.data.examples import Answer, SpanExample, some, unique_ids
from vocablo.data.readers import Tell, read_lines

_NOTES = {
    "moved": "answers don't stand at their answer_start: taken where their text is nearest to it",
    "untold": "answers have no answer_start: taken at the first place of their text",
    "several": "of them have their text at several places of the context",
    "empty": "empty answers beside others are left out",
    "guessed": "answers' starts are, as the file says, the first of several places",
}


def read(path: str | Path, *, training: bool = True, notes: Tell = tell) -> tuple[list[SpanExample], str]:
    """The questions of a file, and its version: "2.0" when a question may have no answer, else "1.1".

    Raises DataError for what isn't SQuAD's JSON, a question whose answers are all empty, and what the description names.
    """
    data = _json(path)
    articles = data.get("data") if isinstance(data, dict) else None
    if not isinstance(articles, list):
        raise DataError(f"{path} isn't SQuAD's JSON: an object with a list 'data' of articles is wanted.")
    found: Counter[str] = Counter()
    questions = list(_questions(articles, str(path)))
    examples = [
        _example(qa, context, title, found if training else None, str(path)) for qa, context, title in questions
    ]
    some(examples, str(path))
    if training:
        examples = _with_own_ids(examples, str(path), notes)
    unique_ids((example.id for example in examples), str(path))
    for kind, count in (+found).items():  # those above zero
        notes(f"{path}: {count:,} {_NOTES[kind]}")
    return examples, "2.0" if any("is_impossible" in qa for qa, _, _ in questions) else "1.1"


def _with_own_ids(examples: list[SpanExample], path: str, notes: Tell) -> list[SpanExample]:
    seen: Counter[str] = Counter()
    result = []
    for example in examples:
        seen[example.id] += 1
        result.append(example if seen[example.id] == 1 else replace(example, id=f"{example.id}#{seen[example.id]}"))
    if len(seen) < len(examples):
        notes(f"{path}: {len(examples) - len(seen):,} questions have the id of one before them, and get a number: id#2")
    return result


def _questions(articles: list[Any], path: str) -> Iterator[tuple[dict[str, Any], str, str]]:
    for number, article in enumerate(articles):
        try:
            for paragraph in article["paragraphs"]:
                for qa in paragraph["qas"]:
                    if not isinstance(qa["id"], (str, int)) or not isinstance(qa["question"], str):
                        raise TypeError("an id and a question are texts")
                    yield qa, paragraph["context"] + "", str(article.get("title", ""))
        except (KeyError, TypeError) as error:
            what = f"no key {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}, article {number}: not as SQuAD has it: {what}.") from None


def _example(qa: dict[str, Any], context: str, title: str, found: Counter[str] | None, path: str) -> SpanExample:
    name = str(qa["id"])
    impossible = bool(qa.get("is_impossible", False))
    where = f"{path}, question {name!r}"
    answers = None
    if impossible:
        answers = ()
    elif "answers" in qa:
        given = qa["answers"]
        if not isinstance(given, list) or not all(_is_answer(one) for one in given):
            raise DataError(f"{where}: answers are objects with text and answer_start, not {given!r:.60}.")
        if not any(one["text"].strip() for one in given):
            raise DataError(
                f"{where} has no answer that isn't empty: mark it with is_impossible, or leave 'answers' out."
            )
        if found is None:
            answers = tuple(Answer(one["text"], one.get("answer_start")) for one in given)
        else:
            full = [one for one in given if one["text"].strip()]
            found["empty"] += len(given) - len(full)
            answers = tuple(_located(one, context, found, where) for one in full)
    return SpanExample(name, qa["question"], context, answers, impossible, title)


def _is_answer(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and isinstance(given.get("text"), str)
        and isinstance(given.get("answer_start"), (int, type(None)))
    )


def _located(given: dict[str, Any], context: str, found: Counter[str], where: str) -> Answer:
    text: str = given["text"]
    start: int | None = given.get("answer_start")
    places = list(_places(text, context))
    if not places:
        raise DataError(f"{where}: its context doesn't have the answer {text!r:.60}.")
    if start is None:
        found["untold"] += 1
        found["several"] += len(places) > 1
        return Answer(text, places[0])
    if start not in places:
        found["moved"] += 1
        return Answer(text, _closest(places, start))
    found["guessed"] += bool(given.get("answer_start_is_first_of_several"))
    return Answer(text, start)


def _closest(places: list[int], start: int) -> int:
    return min(places, key=lambda place: abs(place - start))


def _places(text: str, context: str) -> Iterator[int]:
    at = context.find(text)
    while at >= 0:
        yield at
        at = context.find(text, at + 1)


def write_predictions(path: str | Path, predicted: Mapping[str, str] | Mapping[str, float]) -> None:
    """The official predictions: one JSON object, id to answer ("" for none); or id to the probability of no answer."""
    files.write_text(Path(path), json.dumps(dict(predicted), ensure_ascii=False, indent=1) + "\n")


def read_predictions(path: str | Path) -> dict[str, str]:
    """Answers by id. Raises DataError for another kind of file, and for an answer that isn't text."""
    return dict(_by_id(path, "an answer, which is text", lambda value: isinstance(value, str)))


def read_no_answer(path: str | Path) -> dict[str, float]:
    """The probability that a question has no answer, by id."""
    number = lambda value: isinstance(value, (int, float)) and math.isfinite(value)  # noqa: E731
    return {name: float(value) for name, value in _by_id(path, "a number", number)}


def _by_id(path: str | Path, wanted: str, good: Any) -> Iterator[tuple[str, Any]]:
    data = _json(path, once=True)
    if not isinstance(data, dict):
        raise DataError(f"{path} isn't a file of predictions: one JSON object, from id to answer, is wanted.")
    for name, value in data.items():
        if not good(value):
            raise DataError(f"{path}: {name!r} should have {wanted}, not {value!r:.60}.")
        yield name, value


def _json(path: str | Path, once: bool = False) -> Any:
    """The JSON of a file; ``once``: a key that stands twice is an error, where JSON takes the last."""
    text = "\n".join(read_lines(path))

    def pairs(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        unique_ids((name for name, _ in items), str(path))
        return dict(items)

    try:
        return json.loads(text, object_pairs_hook=pairs if once else None)
    except ValueError as error:
        raise DataError(f"{path} isn't valid JSON: {error}.") from None
