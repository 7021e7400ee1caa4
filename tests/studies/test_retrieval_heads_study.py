"""The study of retrieval heads: its smallest preset, and masks of heads against a model built by hand."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
from study_checks import settings_fit, smoke_holds

from attnlab.models import induction_weights
from attnlab.studies.retrieval_heads import STUDY, masks
from attnlab.studies.retrieval_heads.experiments import experiments
from toy_tasks import NeedleCopy


def test_the_smallest_preset_runs_and_every_claim_of_it_holds(tmp_path):
    smoke_holds(STUDY, tmp_path, "f1-needle-scores", "f2-needle-masks", "f3-needle-kinds", "f4-losses")


def test_the_runs_are_what_the_study_says():
    settings_fit(experiments, "laptop", "evening")
    for preset in ("laptop", "evening"):
        assert all(e.model.no_mlp == tuple(range(e.model.num_layers)) for e in experiments(preset).values())
    assert experiments("laptop")["joint"].task.joint and not experiments("laptop")["needle"].task.joint


class Lab:
    """One seed of a model built by hand in the place of a trained one."""

    preset = "smoke"

    def __init__(self):
        task = NeedleCopy(12, 10, 3)
        model, params = induction_weights(task.vocab_size, task.length, 4)
        self.experiments = {"hand": SimpleNamespace(task=task, model=model)}
        self._run = SimpleNamespace(params=jax.tree.map(lambda x: x[None], params))
        self._memory = {}

    def run(self, name):
        return self._run

    def probe(self, name, probe, *, label):
        model = self.experiments[name].model
        return np.asarray(jax.lax.map(lambda p: probe(model, p), self._run.params))

    def once(self, name, make):
        if name not in self._memory:
            self._memory[name] = make()
        return self._memory[name]


def test_masks_of_the_hand_built_model():
    """Its two heads are all that matters: the others can go, in any number; each of the two cannot."""
    lab = Lab()
    whole, single = masks.plain(lab, "hand"), masks.singles(lab, "hand")
    np.testing.assert_allclose(np.delete(single.ravel(), [0, 4]), whole[0])
    assert (single[0, :, 0] < whole[0] - 0.3).all()
    assert masks.idle_at_random(lab, "hand", 3).shape == (1,)
    assert masks.by_score(lab, "hand", 1)[0] == single[0, 1, 0], "the best score is the matching head's"
    # Masked only where answers are said, the head that looks one back is not missed: its work is done in the text,
    # but for the needle's own tokens that are said again.
    decoding = masks.singles(lab, "hand", "uniform", True)
    assert decoding[0, 0, 0] == whole[0] and decoding[0, 1, 0] < whole[0] - 0.3


def test_means_are_of_the_model_itself():
    lab = Lab()
    mean, zero = (masks.singles(lab, "hand", kind)[0, 1, 0] for kind in ("mean", "zero"))
    assert mean < 0.6 and zero < 0.6
    assert jnp.isfinite(mean)
