"""A probe over a stored run gives what the same probe recorded while it trained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import attnlab as al
from attnlab.analysis import apply, attention_maps, interventions, measure, model_of, sinks, task_of
from attnlab.config import ConfigError
from toy_tasks import BigramBackcopy

T, B = 8, 8
TASK = BigramBackcopy.tiny_shakespeare(length=T)
PROBE = sinks(TASK, batch_size=B, by_token=True)
ABLATE = interventions(TASK, batch_size=B, only=("full", "no_mlp"))


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory):
    model = al.Transformer(TASK.vocab_size, T, num_heads=2, width=8)
    record = {
        "params": al.every(2),
        "sinks": al.every(2, PROBE),
        "maps": al.at([4], attention_maps(TASK, batch_size=B)),
    }
    path = tmp_path_factory.mktemp("runs") / "run"
    run = al.run(TASK, model, steps=4, seeds=[1, 4], batch_size=4, record=record, path=path, progress=False)
    return run.trajectory


def test_stored_is_recorded(trajectory):
    found = apply(trajectory, PROBE)
    assert found.sizes["seed"] == 2 and found.step.values.tolist() == [0, 2, 4]
    assert found.bos_attention.dims == ("seed", "step", "layer", "head")
    assert trajectory.sinks.bos_attention.dims == found.bos_attention.dims
    assert set(found.data_vars) == set(trajectory.sinks.data_vars)
    for name, value in found.items():
        np.testing.assert_allclose(value, trajectory.sinks[name], rtol=1e-4, atol=1e-5, err_msg=str(name))


def test_nested_results_and_a_choice_of_steps(trajectory):
    found = apply(trajectory, ABLATE, steps=[4])
    assert found.step.values.tolist() == [4]
    model = model_of(trajectory)
    like = jax.eval_shape(model.init, jax.random.key(0))
    for place, seed in enumerate(trajectory.seeds):
        alone = measure(ABLATE, model, trajectory.params_at(4, seed, like=like))
        np.testing.assert_allclose(found["no_mlp.backcopy"][place, 0], alone["no_mlp"]["backcopy"], rtol=1e-5)


def test_a_plain_function(trajectory):
    found = apply(trajectory, lambda model, params: {"size": jnp.sum(params["embed"]["token"] ** 2, axis=0)})
    assert found["size"].shape == (2, 3, 8)
    with pytest.raises(ConfigError, match="dict"):
        apply(trajectory, lambda model, params: params["unembed"])


def test_maps_recorded_in_training(trajectory):
    maps = trajectory.maps
    assert maps.weights.dims == ("seed", "step", "sequence", "layer", "head", "query", "key")
    np.testing.assert_allclose(maps.weights.sum("key"), 1, rtol=1e-5)


def test_what_the_manifest_says(trajectory):
    assert model_of(trajectory).width == 8
    assert task_of(trajectory).triggers == TASK.triggers


def test_a_model_that_does_not_fit(trajectory):
    with pytest.raises(al.trajectory.RunDirError, match="leaves"):
        apply(trajectory, PROBE, al.Transformer(TASK.vocab_size, T, num_layers=2, width=8))
    with pytest.raises(ConfigError, match="steps"):
        apply(trajectory, PROBE, steps=[])
