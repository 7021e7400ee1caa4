"""The bar: what it shows, and that it is told of chunks only."""

from __future__ import annotations

from contextlib import contextmanager

from training_cases import STEPS, train

from attnlab.training import loop
from attnlab.training.progress import bar


def test_it_shows_steps_rate_and_notes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with bar(100, 4, True, "a [name]", start=20) as advance:
        advance(20, "compiling")
        advance(20)
        advance(60)
        advance(100, "1 diverged")
    shown = capsys.readouterr().err
    for part in ("a [name]", "100/100 steps", "seed-steps/s", "1 diverged", "left"):
        assert part in shown, (part, shown)


def test_it_is_silent_where_nobody_looks(capsys):
    with bar(100, 4) as advance:  # captured: not a terminal
        advance(50)
    assert capsys.readouterr().err == ""


def test_it_moves_once_per_chunk(tmp_path, monkeypatch):
    calls = []

    @contextmanager
    def counted(*args):
        yield lambda step, note="": calls.append((step, note))

    monkeypatch.setattr(loop, "bar", counted)
    train(tmp_path / "run")
    assert calls == [(0, "compiling"), (0, ""), (8, ""), (16, ""), (STEPS, "")]
