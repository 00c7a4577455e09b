"""Conditions that photos must meet: a small part of SQL, checked before Lance reads it.

Lance would run any function of its engine, also one that takes hours or all memory. Only words that are known here
pass, so that every condition is cheap.
"""

from __future__ import annotations

import re

from han_retrieval.errors import QueryError, shortened
from han_retrieval.search.rows import COLUMNS

FILTER_COLUMNS = [name for name in COLUMNS if name != "copies"]
"""The columns that a condition may name."""

FUNCTIONS = ("lower", "upper", "length", "starts_with", "ends_with", "contains")
"""The functions that a condition may call; each takes time in proportion to the text that it gets."""

_KEYWORDS = ("and", "or", "not", "in", "between", "like", "ilike", "is", "null", "true", "false")
_BREAKS = ("and", "or", ",")
_OPERATORS = {"=", "==", "<>", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%"}
_OPERATORS |= {"not", "in", "between", "like", "ilike", "is"}
_TOKEN = re.compile(
    r"""\s*(?: (?P<string>'(?:[^']|'')*') | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?) | (?P<word>\w+)
    | (?P<sign><=|>=|<>|!=|==|[<>=+\-*/%(),]) )\s*""",
    re.VERBOSE,
)
_LONGEST = 10_000  # characters
_MOST_TOKENS = 1_000
_DEEPEST = 40  # brackets in brackets
_MOST_IN_A_ROW = 20  # operators without and, or, or a comma between: the engine's recursion crashes at 1,000
_MOST_WILDCARDS = 20  # of a pattern: matching takes so many times longer


def check_condition(where: str) -> str:
    """A condition in a form that means the same to every reader of SQL: one space between any two tokens.

    Raises:
        QueryError: It is too long, its brackets do not fit, or it holds something else than columns, literals,
            comparisons, arithmetic, AND, OR, NOT, IN, BETWEEN, LIKE, ILIKE, IS NULL and the ``FUNCTIONS``.

    Example:
        >>> check_condition("DATE>='2024' AND lower(path) LIKE '%.jpg'")
        "date >= '2024' and lower ( path ) like '%.jpg'"
    """
    if len(where) > _LONGEST:
        raise refusal(where, f"it has {len(where):,} characters, more than {_LONGEST:,}")
    tokens: list[str] = []
    at = in_a_row = brackets = 0
    while at < len(where):
        found = _TOKEN.match(where, at)
        if found is None:
            raise refusal(where, f"{where[at : at + 20].strip()!r} cannot be read")
        at = found.end()
        token = str(found[found.lastgroup or 0])
        tokens.append(token.lower() if found["word"] else token)
        _check_token(where, tokens, is_function=where[at : at + 1] == "(")
        in_a_row = 0 if tokens[-1] in _BREAKS else in_a_row + (tokens[-1] in _OPERATORS)
        brackets += (tokens[-1] == "(") - (tokens[-1] == ")")
        if not 0 <= brackets <= _DEEPEST:
            raise refusal(where, f"a bracket is not opened, or {_DEEPEST} others are open")
        if in_a_row > _MOST_IN_A_ROW:
            raise refusal(where, f"more than {_MOST_IN_A_ROW} operators stand in a row")
    if brackets:
        raise refusal(where, "a bracket is not closed")
    if len(tokens) > _MOST_TOKENS:
        raise refusal(where, f"it has {len(tokens):,} words and signs, more than {_MOST_TOKENS:,}")
    if tokens and tokens[-1] in ("like", "ilike"):
        raise refusal(where, f"a pattern in single quotes must follow {tokens[-1]}")
    return " ".join(tokens)


def literal(text: str) -> str:
    """The text as a string of SQL."""
    return "'" + text.replace("'", "''") + "'"


def refusal(where: str, reason: str) -> QueryError:
    """The error that says why a condition cannot be used, and what conditions are made of."""
    return QueryError(
        f"the condition {shortened(where)!r} cannot be used: {shortened(reason)}; it may hold the columns "
        f"{', '.join(FILTER_COLUMNS)}; text in single quotes, numbers, = <> < <= > >= + - * / %; "
        f"{', '.join(_KEYWORDS)}; {', '.join(FUNCTIONS)}"
    )


def _check_token(where: str, tokens: list[str], *, is_function: bool) -> None:
    """Check the last of the tokens so far; ``is_function`` if a bracket follows."""
    *before, token = tokens
    if before and before[-1] in ("like", "ilike"):  # a pattern from a column would be compiled for each photo
        if not token.startswith("'"):
            raise refusal(where, f"a pattern in single quotes must follow {before[-1]}")
        if sum(map(token.count, "%_")) > _MOST_WILDCARDS:
            raise refusal(where, f"a pattern has more than {_MOST_WILDCARDS} of % and _")
    if not (token[0].isalpha() or token[0] == "_"):
        return
    if is_function and token in FILTER_COLUMNS:
        raise refusal(where, f"{token} is a column, no function")
    if token not in (*FILTER_COLUMNS, *_KEYWORDS) and not (is_function and token in FUNCTIONS):
        raise refusal(where, f"{token[:40]!r} is not known")
