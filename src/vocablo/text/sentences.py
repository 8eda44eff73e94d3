"""Where sentences begin, by rule, for Spanish and English.

A sentence ends at ``.``, ``!``, ``?`` or ``…`` (with the quotes and brackets that close after it) when white space and
something that can begin a sentence follow: a capital, a digit, or an opener such as ``¿ ¡ « " —`` before one. A blank
line always ends it. A full stop doesn't end a sentence after a title or another word that calls for more (*Sr.*,
*núm.*, *e.g.*), after an initial (*J. L. Borges*), within *a. C.* and *s. XIX*, or after the number of a list item; a
decimal point has no white space behind it.
"""

from __future__ import annotations

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# After these a name goes on with the sentence.
_TITLES = _words("""
    sr sra srta sres sras dr dra dres prof profa profs ing lic arq abog ilmo ilma excmo excma d dña dn fr fray sto sta st
    lcdo lcda pbro exmo exma ntra ntro rvdo rdo gral cnel cap capt tte sgto lt sgt mr mrs ms mx messrs mme mlle av avda ctra pza cía dpto eds cf cfr vid
    véase vs e.g i.e p.ej ej v.gr v.g ee rr dd jj ff aa
""")
# So do these when they begin with a capital; they are ordinary words otherwise.
_NAMES = _words("gen col rev hon pres gov sen rep mons da")
# After these a number does.
_NUMBERED = _words("""
    no nos núm núms num nro n.º pág págs pag pags pp p vol vols cap caps art arts fig figs tab tel ed c ca máx mín aprox
""")
# These lower-case letters before what the pattern says: the 19th century, before Christ.
_BEFORE = {"s": re.compile(r"[IVXLC]+\b"), "a": re.compile(r"(J\.\s?)?C\."), "d": re.compile(r"(J\.\s?)?C\.")}
_OPENERS = "¿¡\"'«“‘‹([{—–-*_"
_CLOSERS = "\"'»”’›)\\]}*_"
_END = re.compile(rf"(?P<mark>[.!?…]+)[{_CLOSERS}]*\s+|\n[^\S\n]*\n\s*")
_LONGEST = 40  # characters looked at before a full stop


def sentence_starts(text: str) -> list[int]:
    """Where each sentence of ``text`` begins, in characters: the first one at 0, the others at their first character.

    Empty for a text that is empty or white space.
    """
    if not text or text.isspace():
        return []
    starts = [0]
    for match in _END.finditer(text):
        here = match.end()
        if here == len(text) or (match["mark"] is None and len(starts) == 1 and not text[: match.start()].strip()):
            continue  # nothing comes behind it, or nothing came before it
        if match["mark"] is None or _blank(match[0]) or _ends(text, match):
            starts.append(here)
    return starts


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Character spans of the sentences, each with the white space behind it: joined they are the whole text."""
    starts = sentence_starts(text)
    return list(zip(starts, [*starts[1:], len(text)], strict=False))


def _blank(ending: str) -> bool:
    """Whether the white space behind a mark has a blank line."""
    return ending.count("\n") > 1


def _ends(text: str, match: re.Match[str]) -> bool:
    here = match.end()
    opened = False
    while here < len(text) and (text[here] in _OPENERS or (opened and text[here] == " ")):
        opened = True
        here += 1
    if here == len(text):
        return True
    first = text[here]
    if not (first.isupper() or first.isdigit() or (first.isalpha() and not first.islower()) or text[here - 1] in "¿¡"):
        return False
    if match["mark"] != ".":
        return True
    stop = match.start()
    before = text[max(0, stop - _LONGEST) : stop].split()
    if not before or text[stop - 1].isspace():
        return True
    word = before[-1].lstrip(_OPENERS)
    if word.isdigit():  # "1. Primero" at the beginning of a line is a list's item
        return stop > len(word) and text[stop - len(word) - 1] != "\n"
    if len(word) == 1 and word.isupper():
        return opened and text[here - 1] in "¿¡"
    if word in _BEFORE and _BEFORE[word].match(text, here):
        return False
    small = word.lower()
    if small in _NUMBERED and first.isdigit():
        return False
    return small not in _TITLES and not (small in _NAMES and word[0].isupper())
