"""The notation of the embedded grammar, read into weighted productions.

A rule has a name, features and alternatives, one a line. Words stand for themselves, ``<name feature ...>`` for another
rule or a lexicon table, ``( a | b )`` for a choice on the spot, ``-`` for nothing; a number with a colon is a weight:

    who topic gender number =
        2: <det gender number> @<person topic gender number>
        1: <det gender number> @<person topic gender number> que (vive | 2: nació) en <town>

A feature's name is a variable, any other argument a value. Variables of the left side are bound by the caller; one that
first occurs on the right is chosen there, once for the whole alternative, by the weights of its domain. A digit makes
another variable of the same domain (``gender2``). ``^`` capitalises the next word. ``@`` and ``#`` emit nothing: they
mark an agreement's controller and its target.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

CONTROLLER, TARGET, CAPITAL = "@", "#", "^"
MARKS = (CONTROLLER, TARGET)

_PIECE = re.compile(r"[@#^]|<[^<>]+>|[()|]|[^\s()|<>@#^]+")
_WEIGHT = re.compile(r"\d+(\.\d+)?(e-\d+)?:")

Symbol = str | tuple[str, ...]  # a word or mark, or (name, value, ...) of a rule whose features are all known
Body = tuple[Symbol, ...]


@dataclass(frozen=True, slots=True)
class Alternative:
    """One line of a rule: a weight and its parts; references are (name, argument, ...)."""

    weight: float
    body: Body
    free: tuple[str, ...]  # variables that are chosen here


class Productions:
    """Ground productions, made when asked for: ``self[("who", "mar", "f", "pl")] -> [(probability, body), ...]``."""

    def __init__(
        self,
        features: Mapping[str, Mapping[str, float]],
        rules: Mapping[str, str],
        lexicon: Mapping[tuple, Sequence[Body]],
    ) -> None:
        self.features = features
        self.rules: dict[str, tuple[tuple[str, ...], list[Alternative]]] = {}
        self.ground: dict[tuple, list[tuple[float, Body]]] = {
            key: [(1 / len(bodies), tuple(body)) for body in bodies] for key, bodies in lexicon.items()
        }
        self.tables = {key[0] for key in lexicon}
        for head, text in rules.items():
            name, *params = head.split()
            alternatives = [part for line in text.splitlines() if line.strip() for part in _tokens(line)]
            self._define(name, tuple(params), _split_lines(alternatives))
        self._alive: dict[tuple, bool] = {}

    def __getitem__(self, symbol: tuple[str, ...]) -> list[tuple[float, Body]]:
        found = self.ground.get(symbol)
        if found is None:
            found = self.ground[symbol] = self._capitalised(symbol) if symbol[0] == CAPITAL else self._expand(symbol)
        return found

    def _define(self, name: str, params: tuple[str, ...], lines: list[list[str]]) -> None:
        if name in self.rules:
            raise ValueError(f"rule {name!r} is defined twice")
        made: list[Alternative] = []
        self.rules[name] = (params, made)
        for line in lines:
            made.append(self._parse(name, params, line))

    def _parse(self, name: str, params: tuple[str, ...], pieces: list[str]) -> Alternative:
        """One alternative. A group becomes a rule of its own, which gets the variables it shares with the outside."""
        weight = 1.0
        if pieces and _WEIGHT.fullmatch(pieces[0]):
            weight, pieces = float(pieces[0][:-1]), pieces[1:]
        chunks = _chunks(pieces)
        used = [self._variables(chunk) for chunk in chunks]
        body: list[Symbol] = []
        capital = False
        for i, chunk in enumerate(chunks):
            if chunk == [CAPITAL]:
                capital = True
                continue
            item: Symbol
            if chunk[0] == "(":
                others = set(params).union(*used[:i], *used[i + 1 :])
                shared = tuple(sorted(used[i] & others))
                inner = f"{name}.{len(self.rules)}"
                self._define(inner, shared, _split_bars(chunk[1:-1]))
                item = (inner, *shared)
            elif chunk[0].startswith("<"):
                item = tuple(chunk[0][1:-1].split())
            elif chunk[0] == "-":
                continue
            else:
                item = chunk[0]
            body.append(_capital(item) if capital and item not in MARKS else item)
            capital = capital and item in MARKS
        variables = set().union(*(set(item[1:]) for item in body if isinstance(item, tuple)))
        free = tuple(sorted(v for v in variables if self._domain(v) is not None and v not in params))
        return Alternative(weight, tuple(body), free)

    def _variables(self, chunk: list[str]) -> set[str]:
        arguments = (a for piece in chunk if piece.startswith("<") for a in piece[1:-1].split()[1:])
        return {argument for argument in arguments if self._domain(argument) is not None}

    def _domain(self, variable: str) -> Mapping[str, float] | None:
        return self.features.get(variable.rstrip("0123456789"))

    def _expand(self, symbol: tuple[str, ...]) -> list[tuple[float, Body]]:
        name, *values = symbol
        if name in self.tables:
            return []  # the lexicon has no word with these features
        if name not in self.rules:
            raise ValueError(f"no rule or table {name!r}")
        params, alternatives = self.rules[name]
        if len(params) != len(values):
            raise ValueError(f"{name} takes {params}, got {values}")
        bound = dict(zip(params, values, strict=True))
        found: dict[Body, float] = {}
        for alternative in alternatives:
            domains = [self._domain(variable) or {} for variable in alternative.free]
            for choice in product(*(domain.items() for domain in domains)):
                weight = alternative.weight
                for (_, share), domain in zip(choice, domains, strict=True):
                    weight *= share / sum(domain.values())
                binding = bound | {v: value for v, (value, _) in zip(alternative.free, choice, strict=True)}
                body = tuple(_substitute(item, binding) for item in alternative.body)
                if all(self._possible(item) for item in body):
                    found[body] = found.get(body, 0.0) + weight
        total = sum(found.values())
        return [(weight / total, body) for body, weight in found.items()]

    def _possible(self, item: Symbol) -> bool:
        """Whether the item derives anything: features for which the lexicon has no word are left out, and the rest share."""
        return isinstance(item, str) or bool(self[item])

    def _capitalised(self, symbol: tuple[str, ...]) -> list[tuple[float, Body]]:
        result = []
        for weight, body in self[symbol[1:]]:
            at = next((i for i, item in enumerate(body) if item not in MARKS), None)
            if at is None:
                raise ValueError(f"{symbol[1:]} may be empty, so it can't be capitalised")
            result.append((weight, (*body[:at], _capital(body[at]), *body[at + 1 :])))
        return result


def _tokens(line: str) -> list[str]:
    return [*_PIECE.findall(line), "\n"]


def _split_lines(pieces: list[str]) -> list[list[str]]:
    lines: list[list[str]] = [[]]
    for piece in pieces:
        if piece == "\n":
            lines.append([])
        else:
            lines[-1].append(piece)
    return [line for line in lines if line]


def _split_bars(pieces: list[str]) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    depth = 0
    for piece in pieces:
        depth += (piece == "(") - (piece == ")")
        if piece == "|" and depth == 0:
            parts.append([])
        else:
            parts[-1].append(piece)
    return parts


def _chunks(pieces: list[str]) -> list[list[str]]:
    """Pieces, with each outermost group kept together."""
    chunks: list[list[str]] = []
    depth = 0
    for piece in pieces:
        if depth:
            chunks[-1].append(piece)
        else:
            chunks.append([piece])
        depth += (piece == "(") - (piece == ")")
        if depth < 0:
            raise ValueError(f"a parenthesis too many in {' '.join(pieces)}")
    if depth:
        raise ValueError(f"an open parenthesis in {' '.join(pieces)}")
    return chunks


def _substitute(item: Symbol, binding: Mapping[str, str]) -> Symbol:
    if isinstance(item, str):
        return item
    return tuple(binding.get(part, part) if i else part for i, part in enumerate(item))


def _capital(item: Symbol) -> Symbol:
    return item[:1].upper() + item[1:] if isinstance(item, str) else (CAPITAL, *item)
