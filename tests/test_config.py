"""Settings go to JSON and back with nothing lost; what cannot come back says so."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import subprocess
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnlab import attention, config, edits
from attnlab.attention import KeyBias, ReluOverPosition, Sigmoid, from_weights, named
from attnlab.config import ConfigError
from attnlab.models import BackcopyReduced, Transformer


@dataclass(frozen=True)
class Settings:
    """A user's own settings."""

    size: int
    rate: float = 0.1
    tags: tuple[str, ...] = ()
    table: Any = None
    inner: Any = None
    hook: Any = None
    derived: int = field(init=False, default=3)


def weigh(params, q, k, *, mask):
    return jnp.where(mask, q @ jnp.swapaxes(k, -1, -2), 0)


def test_transformers_of_every_mechanism_round_trip() -> None:
    own = from_weights(None, weigh)
    variants = (
        named(attention.sigmoid, "log_count", map=Sigmoid(bias=None, normalized=True)),
        named(attention.key_bias, "shared", columns=KeyBias(shared_over_heads=True, std=0.5)),
    )
    for mechanism in (*attention.WEIGHTED, *variants, own, (attention.relu, own)):
        model = Transformer(vocab_size=67, length=64, num_layers=2, mechanism=mechanism, no_mlp=(1,), window=7)
        again = config.loads(config.dumps(model))
        assert again == model and hash(again) == hash(model)
        assert config.digest(again) == config.digest(model)


def test_other_settings_of_ours_round_trip() -> None:
    reduced = BackcopyReduced(7, 9, (1, 2), 6, map=ReluOverPosition())
    for value in (reduced, edits.SinkOrPrevious((1, 2), None), edits.Identity(), Sigmoid(bias=-1.5)):
        assert config.loads(config.dumps(value)) == value


@given(
    st.builds(
        Transformer,
        vocab_size=st.integers(1, 10**6),
        length=st.integers(1, 4096),
        num_layers=st.just(3),
        num_heads=st.sampled_from([1, 2, 4]),
        width=st.sampled_from([4, 64]),
        head_dim=st.none() | st.integers(1, 9).map(lambda n: 2 * n),
        norm=st.sampled_from(["layernorm", "rmsnorm", "none"]),
        positions=st.sampled_from(["learned", "sinusoidal", "rope", "alibi", "none"]),
        mechanism=st.sampled_from(attention.WEIGHTED) | st.tuples(*[st.sampled_from(attention.WEIGHTED)] * 3),
        no_attention=st.lists(st.integers(0, 2), unique=True).map(tuple),
        tie_embeddings=st.booleans(),
        norm_eps=st.floats(0, 1),
        init_std=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_any_transformer_round_trips_and_keeps_its_digest(model) -> None:
    text = config.dumps(model)
    assert config.loads(text) == model
    assert config.dumps(config.loads(text)) == text


names = st.text(st.characters(codec="ascii", exclude_characters="$"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(names, inner),
)


@given(plain)
def test_plain_values_round_trip_with_their_types(value) -> None:
    again = config.loads(config.dumps(value))
    assert again == value
    assert type(again) is type(value)
    json.loads(config.dumps(value), parse_constant=pytest.fail)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.0, 1e-320, 10**400])
def test_unusual_numbers(value) -> None:
    again = config.loads(config.dumps(value))
    assert type(again) is type(value) and repr(again) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.array([0.1, np.nan, -np.inf, -0.0], np.float32),
        np.array([[0.1, 1e-310]]),
        np.array(2.5),
        np.zeros((0, 3), bool),
        np.asarray(jnp.array([0.1, 3.0], jnp.bfloat16)),
    ],
    ids=["int16", "not finite", "float64", "scalar", "empty", "bfloat16"],
)
def test_arrays_keep_bits_shape_and_dtype(array) -> None:
    again = config.loads(config.dumps(Settings(1, table=array))).table
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()
    assert config.digest(array) == config.digest(np.array(array, order="F"))
    if array.dtype != np.float64:
        assert config.digest(jnp.asarray(array)) == config.digest(array), "where an array lives is no setting"


def test_nested_settings_and_functions() -> None:
    value = Settings(1, inner={"a": [Settings(2, tags=("x",)), None], "b": (1, [2])}, hook=weigh)
    again = config.loads(config.dumps(value))
    assert again == value and again.hook is weigh
    assert "derived" not in json.loads(config.dumps(value)), "what __init__ does not take is not stored"
    assert config.loads(config.dumps(jax.nn.relu)) is jax.nn.relu


class Pair(NamedTuple):
    a: int


@pytest.mark.parametrize(
    "value",
    [lambda x: x, partial(weigh, None), {1, 2}, Pair(1), 1j, np.array(["a"]), jax.random.key(0), object()],
    ids=["lambda", "partial", "set", "namedtuple", "complex", "strings", "key", "object"],
)
def test_what_cannot_be_rebuilt_is_kept_as_text_and_refused(value) -> None:
    text = config.dumps(Settings(1, hook=value))
    with pytest.raises(ConfigError, match=r"cannot be rebuilt from a file"):
        config.loads(text)
    assert " at 0x" not in text, "an address would change the digest in every process"


def test_a_class_inside_a_function_cannot_be_rebuilt() -> None:
    @dataclass(frozen=True)
    class Local:
        size: int = 1

    with pytest.raises(ConfigError, match=r"Local\(size=1\) cannot be rebuilt"):
        config.loads(config.dumps(Local()))


@pytest.mark.parametrize("key", [1, ("a",), "$type", "$tuple"])
def test_keys_that_json_would_change_or_confuse_are_refused(key) -> None:
    with pytest.raises(ConfigError, match=r"key of a mapping: got .* a string that does not begin with"):
        config.dumps({"fine": {key: 1}})


def image_of(**changes) -> dict[str, Any]:
    return config.encode(Transformer(vocab_size=5, length=4)) | changes


def image_without(*names) -> dict[str, Any]:
    return {name: value for name, value in image_of().items() if name not in names}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (image_of(widht=3), r"Transformer: unknown key 'widht'. Did you mean 'width'\? Known keys: activation, "),
        (image_of(zzz=3), r"Transformer: unknown key 'zzz'. Known keys: "),
        (image_without("length"), r"Transformer.length: got 0; allowed is an integer >= 1"),
        ({"$type": "attnlab.models:RegressionAttention"}, r"RegressionAttention: missing key 'dim'\."),
        (image_of(width=-1), r"Transformer.width: got -1; allowed is an integer >= 1"),
        ({"$type": "attnlab.models:Transfomer"}, r"class: 'attnlab.models:Transfomer' cannot be imported here"),
        ({"$type": "no_such_module:X"}, r"class: 'no_such_module:X' cannot be imported here.*on the path"),
        ({"$type": ""}, r"class: '' cannot be imported here"),
        ({"$type": "attnlab.config:dumps"}, r"attnlab.config:dumps is not a dataclass"),
        ({"$function": "attnlab.config:dump"}, r"function: 'attnlab.config:dump' cannot be imported here"),
    ],
)
def test_a_bad_file_is_one_clear_error(image, message) -> None:
    with pytest.raises(ConfigError, match=message):
        config.decode(image)


def test_text_that_is_cut_short() -> None:
    with pytest.raises(ConfigError, match=r"not JSON .* cut short"):
        config.loads(config.dumps(Settings(1))[:-4])


def test_the_digest_depends_on_every_setting_and_on_nothing_else() -> None:
    model = Transformer(vocab_size=5, length=4, num_layers=2)
    changes = {
        "width": 32,
        "num_heads": 2,
        "norm": "rmsnorm",
        "positions": "rope",
        "mechanism": attention.relu,
        "no_mlp": (0,),
        "window": 2,
        "tie_embeddings": True,
        "norm_eps": 1e-6,
        "head_dim": 8,
    }
    digests = {config.digest(dataclasses.replace(model, **{k: v})) for k, v in changes.items()}
    assert len(digests | {config.digest(model)}) == len(changes) + 1
    assert config.digest({"a": 1, "b": 2.5}) == config.digest({"b": 2.5, "a": 1})
    # SHA-256 of '{"a":1}': the same on every machine and in every version, or stored runs no longer match.
    assert config.digest({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


def test_the_digest_is_the_same_in_another_process() -> None:
    program = (
        "from attnlab import attention, config\nfrom attnlab.models import Transformer\n"
        "print(config.digest(Transformer(5, 4, mechanism=attention.from_weights(None, lambda p, q, k, *, mask: q))))"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(program, {})
    assert there == here.getvalue() and len(there.strip()) == 64


def test_require_names_field_value_allowed_and_action() -> None:
    config.require(True, "x", 1, "anything")
    with pytest.raises(ConfigError, match=r"^x: got 'a'; allowed is b\. Do c\.$"):
        config.require(False, "x", "a", "b", "Do c.")
