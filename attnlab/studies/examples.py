"""Tasks and mechanisms by the names that a command line uses; the names come from the objects."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import toy_tasks as tt
from attnlab.attention import MECHANISMS, Mechanism
from attnlab.config import ConfigError, build, require

TASKS: tuple[Callable[..., Any], ...] = (
    tt.BigramBackcopy.tiny_shakespeare,
    tt.MQAR,
    tt.PairedRecall,
    tt.Parity,
    tt.GraphWalk,
    tt.Denoising,
    tt.Passkey,
    tt.Induction,
    tt.SingleRecall,
    tt.StackedRecall,
    tt.DistractorRecall,
    tt.WordProblem,
    tt.SwapTracking,
    tt.RegularLanguage,
    tt.PiecewiseRegression,
)
"""What makes a task with its defaults: a class, or a method that returns one."""


def name_of(make: Callable[..., Any]) -> str:
    """`PairedRecall` -> `paired-recall`."""
    owner = getattr(make, "__self__", make)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", owner.__name__).lower()


def task_called(name: str, settings: Sequence[str] = ()) -> Any:
    """The task of that name; `settings` are `field=value` with values in JSON (`num_pairs=8`, `bos=false`)."""
    return task_with(name, pairs("--set", settings))


def task_with(name: str, given: Mapping[str, Any]) -> Any:
    """The task of that name with these settings."""
    make = _one_of("--task", name, {name_of(t): t for t in TASKS})
    if isinstance(make, type):
        return build(make, given)
    fixed = [n for n, p in inspect.signature(make).parameters.items() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    known = dict.fromkeys([*fixed, *(f.name for f in dataclasses.fields(make.__self__) if f.init)])  # type: ignore[attr-defined]
    for field in given:
        require(field in known, f"--set of {name}", field, ", ".join(known))
    return make(**given)


def mechanisms_called(names: Sequence[str]) -> list[Mechanism]:
    """The mechanisms of those names."""
    known = {m.name: m for m in MECHANISMS}
    return [_one_of("--mechanisms", name, known) for name in names]


def pairs(flag: str, settings: Sequence[str]) -> dict[str, Any]:
    """`field=value` texts as a dict; a value that is not JSON is a string."""
    return {field: _value(value) for field, value in _fields(flag, settings).items()}


def axes(flag: str, settings: Sequence[str]) -> dict[str, list[Any]]:
    """`field=value,value,...` texts as lists. What is JSON as a whole is one value: `no_mlp=[0,1]`, `text=\"a,b\"`."""
    found = {}
    for field, text in _fields(flag, settings).items():
        parts = _parts(text)
        if not all(parts):
            told = (
                f"{flag}: got '{field}={text}'; allowed is field=value or field=value,value,... with nothing left out."
            )
            raise ConfigError(told)
        found[field] = [_value(part) for part in parts]
        differ = len({repr(value) for value in found[field]}) == len(parts)
        require(differ, flag, f"{field}={text}", "values that differ")
    return found


def _fields(flag: str, settings: Sequence[str]) -> dict[str, str]:
    """`field=value` texts, parted."""
    found: dict[str, str] = {}
    for text in settings:
        field, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{flag}: got {text!r}; allowed is field=value, e.g. num_pairs=8.")
        require(field not in found, flag, text, f"every field once; {field!r} has a value already")
        found[field] = value
    return found


def _value(text: str) -> Any:
    """JSON, with tuples for lists; or else the text itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _parts(text: str) -> list[str]:
    """Parted at the commas that are in no brackets and no quotes."""
    found, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == '"'
        depth += 0 if quoted else (letter in "[{(") - (letter in ")}]")
        if letter == "," and not quoted and depth <= 0:
            found.append("")
        else:
            found[-1] += letter
    return found


def _one_of(flag: str, name: str, known: dict[str, Any]) -> Any:
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ConfigError(f"{flag}: got {name!r}; allowed is {', '.join(sorted(known))}.{hint}")
