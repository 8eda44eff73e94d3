"""The little Spanish morphology that the embedded grammar needs: plurals, genders, third-person conjugation.

Regular forms are computed; what is irregular is said in the lexicon: ``examen:exámenes`` gives a plural,
``probar~ue`` a stem change, ``romper=roto`` a participle, ``leer!leyó,leyeron`` the preterite.
"""

from __future__ import annotations

TENSES = ("pres", "pret", "impf", "fut")
NUMBERS = ("sg", "pl")
_PLAIN = str.maketrans("áéíóú", "aeiou")


def plural(noun: str) -> str:
    """``canción`` -> ``canciones``, ``feroz`` -> ``feroces``, ``tesis:tesis`` -> ``tesis``."""
    singular, colon, given = noun.partition(":")
    if colon:
        return given
    if singular[-1] in "aeiouáéó":
        return singular + "s"
    if singular[-1] == "z":
        return singular[:-1] + "ces"
    if singular[-1] in "ns" and singular[-2] in "áéíóú":  # the accent is no longer needed: inglés, ingleses
        return singular[:-2] + singular[-2].translate(_PLAIN) + singular[-1] + "es"
    return singular + "es"


def numbers(noun: str) -> dict[str, str]:
    """Both numbers of a noun or adjective: ``{"sg": ..., "pl": ...}``."""
    return {"sg": noun.partition(":")[0], "pl": plural(noun)}


def genders(noun: str) -> dict[str, str]:
    """Both genders of a person's noun: ``mozo/a``, ``peón/peona``, ``estudiante/=`` (the same), ``cura/-`` (one only)."""
    masculine, _, feminine = noun.partition("/")
    if feminine == "=":
        feminine = masculine
    elif feminine == "a":
        feminine = masculine[:-1] + "a" if masculine[-1] in "oe" else masculine + "a"
    return {gender: form for gender, form in (("m", masculine), ("f", feminine)) if form != "-"}


def adjective(lemma: str) -> dict[tuple[str, ...], str]:
    """The four forms of an adjective by (gender, number); only those in -o, and -or of agents, have two genders."""
    feminine = lemma[:-1] + "a" if lemma.endswith("o") else lemma
    return {
        (gender, number): form
        for gender, base in (("m", lemma), ("f", feminine))
        for number, form in numbers(base).items()
    }


def infinitive(verb: str) -> str:
    """The infinitive of a lexicon entry, without its notes."""
    for mark in "~=!":
        verb = verb.partition(mark)[0]
    return verb


def _note(verb: str, mark: str) -> str:
    rest = verb.partition(mark)[2]
    for other in "~=!":
        rest = rest.partition(other)[0]
    return rest


def conjugate(verb: str) -> dict[tuple[str, ...], str]:
    """Third person by (tense, number): present, preterite, imperfect and the future with *ir a*."""
    full = infinitive(verb)
    stem, kind = full[:-2], full[-2]
    change, given = _note(verb, "~"), _note(verb, "!")
    changed = _stem_change(stem, change) if change else stem
    past = changed if change == "i" else stem
    present = {"a": ("a", "an"), "e": ("e", "en"), "i": ("e", "en")}[kind]
    preterite = ("ó", "aron") if kind == "a" else ("ió", "ieron")
    imperfect = "aba" if kind == "a" else "ía"
    pret = tuple(given.split(",")) if given else tuple(past + ending for ending in preterite)
    forms = {
        "pres": tuple(changed + ending for ending in present),
        "pret": pret,
        "impf": (stem + imperfect, stem + imperfect + "n"),
        "fut": (f"va_a_{full}", f"van_a_{full}"),
    }
    return {(tense, number): forms[tense][i] for tense in TENSES for i, number in enumerate(NUMBERS)}


def _stem_change(stem: str, change: str) -> str:
    old = {"ue": "ou", "ie": "e", "i": "e"}[change]
    at = max(stem.rfind(vowel) for vowel in old)
    return stem[:at] + change + stem[at + 1 :]


def participle(verb: str) -> str:
    """The masculine singular participle: ``cortado``, ``servido``, or as the lexicon gives it."""
    full = infinitive(verb)
    return _note(verb, "=") or full[:-2] + ("ado" if full[-2] == "a" else "ido")


def contract(preposition: str, phrase: str) -> str:
    """``de`` + ``el puerto`` -> ``del puerto``; ``a`` + ``el puerto`` -> ``al puerto``."""
    if preposition in ("de", "a") and phrase.startswith("el "):
        return preposition + "l" + phrase[2:]
    return f"{preposition} {phrase}"
