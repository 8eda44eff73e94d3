"""Small examples of every task, and models to learn them on."""

import zlib

from vocablo.data.examples import Answer, ChoiceExample, SpanExample, TaggedExample, TextExample

WORDS = ("sol", "luna", "mar", "río", "monte", "nube", "pan", "queso")


def texts(count=32, pairs=False, labels=("no", "sí", "tal vez")):
    """Different texts whose labels follow no rule: they can only be known by heart."""
    made = []
    for i in range(count):
        words = [WORDS[(i >> shift) % 8] for shift in (0, 2, 3)] + [WORDS[i % 7]] * (i % 3)
        first, second = " ".join(words), f"{WORDS[(5 * i) % 8]} {WORDS[i % 8]}"
        made.append(TextExample(str(i), first, second if pairs else None, labels[(i * i + i // 5) % len(labels)]))
    return made


def numbers(count=32):
    """Pairs with numbers far from 0 and 1, each another one: equal ones would tie, and no order be quite right."""
    return [
        TextExample(one.id, one.text, one.pair, 1000.0 + 37 * (int(one.id) * 7 % 37))
        for one in texts(count, pairs=True)
    ]


TAGS = ("O", "B-LUGAR", "I-LUGAR", "B-COSA")


def tagged(count=32):
    """Sentences whose tags follow no rule, but each marks whole spans; a word's tag is told by it and those before it.

    So a model that reads from the left can know them too.
    """
    made = []
    for i in range(count):
        words = tuple(texts(count)[i].text.split()) + (("nubosísimo",) if i % 4 == 0 else ())
        tags = ["O"]
        for j in range(len(words)):
            tag = TAGS[zlib.crc32(" ".join(words[: j + 1]).encode()) % len(TAGS)]
            tags.append("O" if tag.startswith("I") and not tags[-1].endswith("LUGAR") else tag)
        made.append(TaggedExample(str(i), words, tuple(tags[1:]), document=i // 4))
    return made


def questions(count=32, impossible=False):
    """Questions whose answers follow no rule: of words in no order, one or two that stand together (or, at times, none)."""
    made = []
    for i in range(count):
        context = " ".join(WORDS[(i + 3 * j) % 8] for j in range(8)) + "."
        first, more = zlib.crc32(b"%d" % i) % 7, i % 2
        words = context.rstrip(".").split()
        text = " ".join(words[first : first + 1 + more])
        none = impossible and i % 3 == 0
        answers = () if none else (Answer(text, context.index(text)),)
        question = f"¿{WORDS[i % 8]} {WORDS[i // 8]}?"
        made.append(SpanExample(str(i), question, context, answers, none))
    return made


def choices(count=32):
    """Questions of two to four choices."""
    return [
        ChoiceExample(
            one.id,
            one.text,
            "el" if i % 2 else "",
            tuple(WORDS[(i + 3 * k) % 8] for k in range(2 + i % 3)),
            (i * i) % (2 + i % 3),
        )
        for i, one in enumerate(texts(count))
    ]
