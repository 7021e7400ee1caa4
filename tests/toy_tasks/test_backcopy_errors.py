"""Every misuse gives one ValueError that names the field, the value and what is allowed."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toy_tasks import BigramBackcopy, stationary_law

UNIFORM = np.full((4, 4), 0.25)
MU = np.full(4, 0.25)


def make(**changes):
    fields = {"transition": UNIFORM, "marginal": MU, "characters": tuple("abcd"), "triggers": (0,), "length": 8}
    return BigramBackcopy(**(fields | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, r"length is 0; .*>= 1"),
        ({"length": -3}, r"length is -3"),
        ({"length": 2.5}, r"length is 2\.5"),
        ({"transition": UNIFORM * 2}, r"row 0 sums to 2, .*Divide"),
        ({"transition": UNIFORM[:3]}, r"shape \(3, 4\).*square"),
        ({"transition": np.array([[1.5, -0.5], [0, 1]])}, r"entry -0\.5"),
        ({"transition": np.ones((1, 1))}, r"V0 >= 2"),
        ({"marginal": MU * 3}, r"marginal sums to 3"),
        ({"marginal": MU[:2]}, r"marginal has shape \(2,\)"),
        ({"characters": tuple("abca")}, r"3 of them distinct"),
        ({"smoothing": -0.1}, r"smoothing is -0\.1; .*\[0, 1\]"),
        ({"mix_p": 1.5}, r"mix_p is 1\.5"),
        ({"triggers": (0, 0)}, r"repeats itself: \['a', 'a'\]"),
        ({"triggers": (0, 1, 2, 3)}, r"all 4 characters.*ordinary"),
        ({"triggers": (7,)}, r"id 7; allowed: 0\.\.3"),
        ({"triggers": (0,), "marginal": np.array([1.0, 0, 0, 0])}, r"no mass to any ordinary"),
        (
            {"transition": np.array([[0.5, 0.5, 0, 0]] + [[0, 0.5, 0.5, 0]] * 3)},
            r"'a', which no ordinary .*never occur",
        ),
        ({"variant": "icl"}, r"variant is 'icl'; allowed: 'backcopy', 'bigram_shift'"),
        ({"first_token": "any"}, r"first_token is 'any'"),
        ({"first_token": "marginal"}, r"first_token is 'marginal'.*bigram_shift"),
    ],
)
def test_fields(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"triggers": "xé"}, r"triggers names 'é', which is not in the vocabulary"),
        ({"num_triggers": 65}, r"num_triggers is 65; .*0\.\.64"),
        ({"num_triggers": -1}, r"num_triggers is -1"),
        ({"drop": "é"}, r"drop names 'é'"),
        ({"drop": "U"}, None),
    ],
)
def test_constructors(options, message):
    if message is None:
        assert BigramBackcopy.tiny_shakespeare(**options).num_characters == 64
    else:
        with pytest.raises(ValueError, match=message):
            BigramBackcopy.tiny_shakespeare(**options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"0 characters, 0 of them"),
        ("aaaa", r"1 of them distinct"),
        ("abab!", r"follows the character '!'.*drop='!'"),
    ],
)
def test_corpora(tmp_path: Path, text, message):
    path = tmp_path / "corpus.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        BigramBackcopy.from_text(path, num_triggers=1)


def test_a_dead_end_can_be_dropped(tmp_path: Path):
    path = tmp_path / "corpus.txt"
    path.write_text("abaab!", encoding="utf-8")
    assert BigramBackcopy.from_text(path, num_triggers=1, drop="!").characters == ("a", "b")


def test_marginal_of_a_reducible_matrix_must_be_given():
    blocks = np.kron(np.eye(2), np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"more than one stationary law; pass marginal"):
        BigramBackcopy.from_matrix(blocks, num_triggers=1)
    assert BigramBackcopy.from_matrix(blocks, MU, num_triggers=1).num_characters == 4


def test_logits_of_the_wrong_width():
    task = make()
    batch = task.sample(jax.random.key(0), 2)
    with pytest.raises(ValueError, match=r"\(2, 8, 4\).*\(2, 8, 5\).*vocab_size"):
        task.risks(jnp.zeros((2, 8, 4)), batch)


def test_batch_size_and_unknown_characters():
    with pytest.raises(ValueError, match="batch_size is 0"):
        make().sample(jax.random.key(0), 0)
    with pytest.raises(ValueError, match=r"encode: 'z' is not in the vocabulary"):
        make().encode("abz")


def test_stationary_law_names_the_cycle():
    with pytest.raises(ValueError, match=r"character '3'.*drop='3'"):
        stationary_law(BigramBackcopy.tiny_shakespeare())
    with pytest.raises(ValueError, match="plain task"):
        stationary_law(make(mix_p=0.5))
