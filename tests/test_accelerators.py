"""Counts of operations against arithmetic, rooflines, programs at paper size lowered for chips that are not here."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import pytest

from attnlab import accelerators, cli, kernels, training
from attnlab.accelerators.chips import Chip
from attnlab.accelerators.count import count
from attnlab.accelerators.programs import Program
from attnlab.config import ConfigError


def shape(*sizes: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


A, B = shape(3, 4), shape(4, 5)


@pytest.mark.parametrize(
    ("function", "shapes", "flops", "loops", "open_"),
    [
        (lambda a, b: a @ b, (A, B), 2 * 3 * 4 * 5, False, False),
        (jax.vmap(jnp.matmul), (shape(7, 3, 4), shape(7, 4, 5)), 7 * 2 * 3 * 4 * 5, False, False),
        (lambda a: a.T.reshape(-1), (A,), 0, False, False),
        (lambda a: jnp.sin(a) + 1, (A,), 2 * 12, False, False),
        # Ten products and additions.
        (lambda a, b: jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((3, 5)), None, 10)[0], (A, B),
         10 * (120 + 15), True, False),
        # Not known how often: the comparison and the addition once.
        (lambda a: jax.lax.while_loop(lambda c: c[0, 0] < 3, lambda c: c + 1, a), (A,), 13, True, True),
        # Of two branches the dearer.
        (lambda a, b: jax.lax.cond(a[0, 0] > 0, lambda: a @ b, lambda: jnp.zeros((3, 5))), (A, B), 121, False, False),
        (jax.jit(lambda a, b: a @ b), (A, B), 120, False, False),
    ],
    ids=["product", "batch", "moves", "elements", "scan", "while", "cond", "jit"],
)  # fmt: skip
def test_operations_are_counted(function, shapes, flops, loops, open_) -> None:
    found = count(jax.make_jaxpr(function)(*shapes).jaxpr)
    assert (found.loops, found.open) == (loops, open_)
    assert abs(found.flops - flops) <= 2, "and a scalar or two"


def test_backward_is_twice_forward() -> None:
    """Three products of one size."""
    found = count(jax.make_jaxpr(jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), (0, 1)))(A, B).jaxpr)
    assert 3 * 120 <= found.flops <= 3 * 120 + 5 * 15


def test_of_programs_by_platform_the_general_one_is_counted() -> None:
    def function(a):
        return jax.lax.platform_dependent(a, cpu=lambda a: a @ a @ a, default=lambda a: a @ a)

    assert count(jax.make_jaxpr(function)(shape(8, 8)).jaxpr).flops == pytest.approx(2 * 8**3, abs=1)


def test_roofline() -> None:
    chip = Chip("c", "tpu", flops=100.0, bandwidth=10.0)
    assert chip.seconds(200, 1) == 2 and chip.seconds(1, 30) == 3 and chip.seconds(100, 10) == 1
    with pytest.raises(ConfigError, match=r"chip: got 'v9'; allowed is v4 \| v5e"):
        accelerators.chip("v9")


def test_a_step_of_training_costs_what_its_products_do() -> None:
    """One dense layer by hand: forward and two products backward, of every seed."""
    from dataclasses import dataclass

    from toy_tasks.base import Batch

    @dataclass(frozen=True)
    class Pairs:
        length: int = 1

        def sample(self, key, batch_size):
            return Batch(jnp.zeros((batch_size, 1, 64)), jnp.zeros((batch_size, 1, 32)), jnp.ones((batch_size, 1)), {})

    class Dense:
        def init(self, key):
            return {"w": jnp.zeros((64, 32))}

        def apply(self, params, inputs, *, tape=(), edits=()):
            return inputs @ params["w"], {}

    config = training.RunConfig(
        task=Pairs(), model=Dense(), steps=1, seeds=3, batch_size=16, loss=training.losses.squared_error
    )
    program = accelerators.training_step("dense", config)
    found = accelerators.price(program, accelerators.chip("h100"), compiled=False)
    products = 3 * 2 * (2 * 16 * 64 * 32)  # forward, and the gradient of the weights; inputs need none
    assert program.shapes[1].shape == (3,) and products <= found.flops <= 1.5 * products
    assert found.seconds == pytest.approx(found.flops / 989e12)


def test_programs_by_the_command_line(tmp_path, capsys) -> None:
    """A smoke preset lowered for both kinds of chips; one JSON line each."""
    where = tmp_path / "programs.jsonl"
    words = ["programs", "retrieval-heads", "--preset", "smoke", "--lower", "--json", str(where)]
    assert cli.main(words) == 0
    rows = [json.loads(line) for line in where.read_text().splitlines()]
    assert [(row["program"], row["chip"], row["state"]) for row in rows] == [
        ("retrieval-heads/needle", "v5e", "lowered"),
        ("retrieval-heads/needle", "h100", "lowered"),
    ]
    assert rows[0]["flops"] > 1e6 and rows[0]["moved"] is None and rows[0]["seconds"] > rows[1]["seconds"]
    assert "needle" in capsys.readouterr().out


def test_what_is_not_there_is_an_error(capsys) -> None:
    assert cli.main(["programs", "retrieval-heads", "--preset", "paper", "--lower"]) == 2
    assert "preset: got 'paper'; allowed is evening | laptop | smoke" in capsys.readouterr().err
    assert cli.main(["programs", "retrieval-heads", "--preset", "smoke", "--only", "nothing", "--lower"]) == 2
    assert "--only: got 'nothing'" in capsys.readouterr().err


def test_what_cannot_be_compiled_here_says_so() -> None:
    program = Program("square", lambda a: a @ a, (shape(4, 4),))
    with pytest.raises(ConfigError, match="compiled: got True; allowed is False or None here: libtpu"):
        accelerators.price(program, accelerators.chip("h100"), compiled=True)


def own_kernels(heads: int = 2, length: int = 256, head_dim: int = 16) -> dict[str, Program]:
    size = f" H={heads} T={length} K={head_dim}"
    return {p.name.removesuffix(size): p for p in accelerators.kernels(heads, length, head_dim)}


@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
def test_kernels_are_lowered_for_tpu_and_gpu() -> None:
    """By Mosaic and by Triton, where the kernel is one of Pallas, on a machine that has neither."""
    for name, program in own_kernels().items():
        for chip in ("v5e", "h100"):
            found = accelerators.price(program, accelerators.chip(chip), compiled=False)
            assert found.state == "lowered"
            ends_when_it_is_done = name.startswith("local_linear_attention")
            assert ("flops" in found.least) == ends_when_it_is_done


def test_pallas_kernels_say_what_they_cost() -> None:
    """Causal, two blocks of 128 rows: 3 of 4 pairs of blocks; 2, 3 and 4 products of K = E = 16 for each pair."""
    pairs, programs = 2 * 3 * 128 * 128, own_kernels()
    for name in ("softmax", "sigmoid", "gated"):
        forward, gradient = (programs[f"attention {name}{part}"] for part in ("", ", gradient,"))
        total = count(jax.make_jaxpr(forward.function)(*forward.shapes).jaxpr)
        assert total.flops == pytest.approx(pairs * (2 * 2 * 16 + 1), rel=1e-3) and not total.open
        total = count(jax.make_jaxpr(gradient.function)(*gradient.shapes).jaxpr)
        # Besides the kernels, some operations for each of `3 H T K` numbers: below 1 % of this.
        assert total.flops == pytest.approx(pairs * (2 * 9 * 16 + 3), rel=1e-2) and not total.open


def test_compiled_for_a_tpu() -> None:
    """Where libtpu is installed: bytes, memory, and a program that does not fit is refused by name."""
    pytest.importorskip("libtpu")
    chip = accelerators.chip("v5e")
    square = shape(512, 512)
    found = accelerators.price(Program("square", lambda a: a @ a, (square,)), chip)
    assert found.state == "compiled" and found.flops == 2 * 512**3 and found.moved >= 2 * 4 * 512**2
    assert found.seconds == pytest.approx(max(found.flops / 197e12, found.moved / 819e9))
    huge = shape(2**17, 2**17)
    refused = accelerators.price(Program("huge", lambda a: a + 1, (huge,)), chip)
    assert refused.state == "refused" and refused.why


def test_kernels_are_compiled_for_tpus() -> None:
    """Where libtpu is installed: every Pallas kernel, forward and backward."""
    pytest.importorskip("libtpu")
    for program in own_kernels().values():
        if program.name.startswith("attention"):
            for chip in ("v5e", "v6e"):
                found = accelerators.price(program, accelerators.chip(chip))
                assert (found.state, found.why) == ("compiled", "")


def test_short_sequences_are_compiled_for_tpus() -> None:
    """One block that is shorter than the 128 lanes of a TPU, with a mask of pairs."""
    pytest.importorskip("libtpu")
    x, seen = shape(2, 40, 16), jax.ShapeDtypeStruct((40, 40), jnp.bool_)

    def total(q, k, v, mask):
        return jnp.sum(kernels.attention(q, k, v, mask=mask, implementation="pallas"))

    program = Program("short", jax.grad(total, (0, 1, 2)), (x, x, x, seen))
    found = accelerators.price(program, accelerators.chip("v5e"))
    assert (found.state, found.why) == ("compiled", "")
