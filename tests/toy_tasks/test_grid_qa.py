"""What questions about a picture mean: what is drawn and seen, what the best answer is, what two variants change."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from toy_tasks import GridQA

SIZE = 4096
SURE = 1e-4  # a right law gives a smaller p-value once in 10^4 keys; the key is fixed
TASKS = {
    "plain": GridQA(),
    "small": GridQA(3, 4, 3, (1, 2), prior=0.7, noise=0.6, blank=0.3, general=0.4, canonicals=(2, 0, 0, 1)),
    "salient": GridQA(9, 8, 4, (3, 6), two_tokens=True, salient=2, salience=-5.0),
    "specific": GridQA(blank=0.0, general=0.0),
}


WEIGHTS = (0.0, 0.6, 1.0, 1.5, 2.0)


@pytest.fixture(scope="module")
def drawn():
    """Of each task: scenes, their batch and what can be made of it, in one compiled program."""

    def everything(key):
        return {name: one(name, task, task.scene(key, SIZE)) for name, task in TASKS.items()}

    def one(name, task, scene):
        batch, yes = task.assemble(scene), jnp.ones((SIZE,), bool)
        laws = jax.vmap(lambda weight: task.weighted(batch, weight))(jnp.array(WEIGHTS))
        made = {"scene": scene, "batch": batch, "law": task.oracle(batch), "laws": laws}
        if name in ("plain", "salient"):
            made["blank"] = task.blank_image(batch), task.assemble(scene.replace(blank=yes))
            made["general"] = task.general_question(batch), task.assemble(scene.replace(general=yes))
        if name in ("plain", "small"):
            blind = task.oracle(task.blank_image(batch))  # the best rule without a picture knows the question alone
            laws = jnp.concatenate([laws, jnp.stack([blind, jnp.ones_like(blind)])])
            made["risks"] = jax.vmap(lambda law: task.risks(jnp.log(law), batch))(laws)
        return made

    return jax.tree.map(np.asarray, jax.jit(everything)(jax.random.key(0)))


def within(rate: float, chance: float, count: int) -> None:
    """A share of `count` draws is within 4.5 standard deviations of its chance (missed once in 10^5)."""
    assert abs(rate - chance) <= 4.5 * np.sqrt(max(chance * (1 - chance), 1e-9) / count)


@pytest.mark.parametrize("name", TASKS)
def test_every_sequence_is_as_described(drawn, name):
    task, scene, batch = TASKS[name], drawn[name]["scene"], drawn[name]["batch"]
    at, (low, _) = task.coordinates, task.objects
    usual = task.canonicals or tuple(s % task.num_colours for s in range(task.num_shapes))
    for b in range(200):
        want = np.zeros((task.length, task.width), np.float32)
        kinds = {kind: [] for kind in batch.positions}
        kinds["bos"], kinds["patch"] = [0], list(range(1, task.num_patches + 1))
        kinds["question"] = list(range(task.num_patches + 1, task.length))
        want[0, at["bos"]] = 1
        if task.two_tokens:
            want[-2, at["filler"]] = 1
        count, blank, general = int(scene.count[b]), bool(scene.blank[b]), bool(scene.general[b])
        for patch, k in enumerate(scene.place[b], start=1):
            if k < count and not blank:
                kinds["object"].append(patch)
                kinds["target"] += [patch] if k == 0 and not general else []
                want[patch, at["shape"].start + scene.shapes[b, k]] = 1
                want[patch, at["colour"]] = scene.evidence[b, k]
                continue
            kinds["background"].append(patch)
            want[patch, at["background"]] = 1
            if k < count + task.salient and not blank:
                kinds["salient"].append(patch)
                want[patch, at["salience"]] = task.salience
        colour, shape = int(scene.colours[b, 0]), int(scene.shapes[b, 0])
        want[-1, at["general"].start if general else at["asked"].start + shape] = 1
        seen = not blank and not general
        last = {"blank": blank, "general": general}
        last |= {"conflict": seen and colour != usual[shape], "consistent": seen and colour == usual[shape]}
        for kind, holds in last.items():
            kinds[kind] = [task.length - 1] if holds else []
        np.testing.assert_array_equal(batch.inputs[b], want)
        assert {kind: np.flatnonzero(where[b]).tolist() for kind, where in batch.positions.items()} == kinds
        assert len(set(scene.shapes[b].tolist())) == task.objects[1] and usual[shape] == task._canonicals[shape]
        answer = task.num_colours + count - low if general else colour
        assert batch.targets[b].tolist() == [0] * (task.length - 1) + [answer]
        assert batch.loss_mask[b].tolist() == [0.0] * (task.length - 1) + [1.0]


@pytest.mark.parametrize("name", ["plain", "small"])
def test_all_is_drawn_as_described(drawn, name):
    task, scene, batch = TASKS[name], drawn[name]["scene"], drawn[name]["batch"]
    low, high = task.objects
    assert stats.chisquare(np.bincount(scene.count - low, minlength=high - low + 1)).pvalue > SURE
    assert stats.chisquare(np.bincount(scene.shapes[:, 0], minlength=task.num_shapes)).pvalue > SURE
    assert stats.chisquare(np.bincount((scene.place == 0).argmax(axis=1))).pvalue > SURE
    for k in range(high):  # the colours of every object, given its shape
        counts = np.zeros((task.num_shapes, task.num_colours))
        np.add.at(counts, (scene.shapes[:, k], scene.colours[:, k]), 1)
        expected = counts.sum(axis=1, keepdims=True) * np.exp(task.log_prior)
        free = task.num_shapes * (task.num_colours - 1)
        assert stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), free) > SURE
    both = np.bincount(2 * scene.blank + scene.general, minlength=4)
    chances = np.outer([1 - task.blank, task.blank], [1 - task.general, task.general]).ravel()
    assert stats.chisquare(both, SIZE * chances).pvalue > SURE  # independent of each other
    noise = (scene.evidence - np.eye(task.num_colours)[scene.colours]).ravel() / task.noise
    assert stats.kstest(noise, "norm").pvalue > SURE
    seen = batch.positions["conflict"] | batch.positions["consistent"]
    within(batch.positions["conflict"].sum() / seen.sum(), 1 - task.prior, seen.sum())


def test_oracle_is_bayes_by_brute_force_over_pictures(drawn):
    """In float64, over all colours of all objects and all numbers of objects that the vectors do not rule out."""
    task, batch, law = TASKS["small"], drawn["small"]["batch"], drawn["small"]["law"]
    at, (low, high), size = task.coordinates, task.objects, task.num_colours
    prior = np.exp(task.log_prior)
    for b in range(300):
        inputs, want = batch.inputs[b].astype(float), np.zeros(task.vocab_size)
        asked, general = inputs[-1, at["asked"]], inputs[-1, at["general"]].item()
        objects = [row for row in inputs[1:-1] if row[at["shape"]].any()]
        for count in range(low, high + 1):
            if objects and count != len(objects):
                continue  # a picture with objects shows how many there are
            if general:
                want[size + count - low] += 1
                continue
            shapes = [int(row[at["shape"]].argmax()) for row in objects] or [int(asked.argmax())]
            for colours in itertools.product(range(size), repeat=len(shapes)):
                chance = np.prod([prior[s, c] for s, c in zip(shapes, colours, strict=True)])
                for row, c in zip(objects, colours, strict=False):
                    chance *= np.prod(stats.norm.pdf(row[at["colour"]], np.eye(size)[c], task.noise))
                want[colours[shapes.index(int(asked.argmax()))]] += chance
        np.testing.assert_allclose(law[b, -1], want / want.sum(), atol=2e-6)  # float32
    np.testing.assert_allclose(law[:, :-1], 1 / task.vocab_size, atol=1e-7)


@pytest.mark.parametrize("name", TASKS)
def test_oracle_is_calibrated_and_no_change_of_it_is_better(drawn, name):
    task, batch, law = TASKS[name], drawn[name]["batch"], drawn[name]["law"]
    law, answer = law[:, -1].astype(float), batch.targets[:, -1]
    hit = np.eye(task.vocab_size)[answer]
    for low in np.linspace(0.0, 0.9, 10):  # where it says a probability around p, it happens in a share p
        here = (law > low) & (law < low + 0.1) & (law < 1)
        gap = (hit - law)[here]
        assert abs(gap.sum()) <= 4.5 * np.sqrt((law * (1 - law))[here].sum() + 1)

    def loss(q):
        return -np.log(np.maximum(q[np.arange(SIZE), answer], 1e-30)).mean()

    best = loss(law)
    for weight, other in zip(WEIGHTS, drawn[name]["laws"], strict=True):
        assert best < loss(other[:, -1]) or (weight == 1 and np.array_equal(other[:, -1], drawn[name]["law"][:, -1]))
    for power in (0.6, 1.5):
        assert best < loss(law**power / (law**power).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", ["plain", "small"])
def test_risks_of_the_rules_are_on_the_exact_frontier(drawn, name):
    task, batch = TASKS[name], drawn[name]["batch"]
    exact = task.bayes_frontier(WEIGHTS)
    conflict, consistent = (int(batch.positions[kind].sum()) for kind in ("conflict", "consistent"))
    for i in range(len(WEIGHTS)):
        risks = {kind: float(values[i]) for kind, values in drawn[name]["risks"].items()}
        within(risks["conflict_accuracy"], exact.conflict[i], conflict)
        within(risks["consistent_accuracy"], exact.consistent[i], consistent)
        within(risks["hallucination"], exact.hallucination[i], conflict)
        within(risks["accuracy"], exact.accuracy[i], conflict + consistent)
        mixed = conflict * risks["conflict_accuracy"] + consistent * risks["consistent_accuracy"]
        assert risks["accuracy"] == pytest.approx(mixed / (conflict + consistent), abs=1e-6)
        assert risks["general_accuracy"] == 1.0


@pytest.mark.parametrize("name", ["plain", "small"])
def test_plateaus(drawn, name):
    task = TASKS[name]
    risks, flat = ({kind: values[i] for kind, values in drawn[name]["risks"].items()} for i in (-2, -1))
    assert float(risks["loss"]) == pytest.approx(task.plateaus["question"].loss, abs=4.5 / np.sqrt(SIZE))
    within(risks["overall_accuracy"], task.plateaus["question"].accuracy or 0.0, SIZE)
    assert risks["hallucination"] == 1.0 and risks["consistent_accuracy"] == 1.0
    assert float(flat["loss"]) == pytest.approx(task.plateaus["vocabulary"].loss, abs=1e-5)


@pytest.mark.parametrize("name", ["plain", "salient"])
def test_blank_image_changes_the_patches_alone(drawn, name):
    batch, (blank, again) = drawn[name]["batch"], drawn[name]["blank"]
    patch = batch.positions["patch"]
    np.testing.assert_array_equal(blank.inputs[~patch], batch.inputs[~patch])
    for one, other in zip(jax.tree.leaves(blank), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.array_equal(blank.targets, batch.targets) and blank.positions["blank"][:, -1].all()
    assert not blank.positions["salient"].any()


@pytest.mark.parametrize("name", ["plain", "salient"])
def test_general_question_changes_the_question_alone(drawn, name):
    scene, batch, (asked, again) = drawn[name]["scene"], drawn[name]["batch"], drawn[name]["general"]
    np.testing.assert_array_equal(asked.inputs[:, :-1], batch.inputs[:, :-1])
    np.testing.assert_array_equal(asked.inputs, again.inputs)
    for kind, where in again.positions.items():
        np.testing.assert_array_equal(asked.positions[kind], where)
    seen = ~scene.blank
    np.testing.assert_array_equal(asked.targets[seen], again.targets[seen])
    np.testing.assert_array_equal(asked.loss_mask[:, -1], seen.astype(np.float32))
    assert not asked.loss_mask[:, :-1].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_patches": 0}, r"GridQA\.num_patches: got 0; allowed is an integer >= 1"),
        ({"num_colours": 1}, r"GridQA\.num_colours: got 1; allowed is an integer >= 2"),
        ({"objects": (3, 9)}, r"GridQA\.objects: got 9; allowed is at most 8, num_shapes"),
        ({"salient": 2}, r"GridQA\.objects: got 7; allowed is at most 6, num_patches - salient"),
        ({"objects": (0, 2)}, r"GridQA\.objects: got \(0, 2\); allowed is two integers 1 <= smallest <= largest"),
        ({"prior": 1.0}, r"GridQA\.prior: got 1\.0; allowed is a number strictly between 0 and 1"),
        ({"noise": 0.0}, r"GridQA\.noise: got 0\.0; allowed is a finite number > 0"),
        ({"blank": 1.5}, r"GridQA\.blank: got 1\.5; allowed is a share from 0 to 1"),
        ({"general": "half"}, r"GridQA\.general: got 'half'"),
        ({"two_tokens": 1}, r"GridQA\.two_tokens: got 1; allowed is True \| False"),
        ({"salience": 0}, r"GridQA\.salience: got 0; allowed is .*salient=0"),
        (
            {"canonicals": (0, 1)},
            r"GridQA\.canonicals: got \(0, 1\); allowed is a colour from 0 to 3 for each of the 8",
        ),
    ],
)
def test_errors_name_the_field(changes, message):
    with pytest.raises(ValueError, match=message):
        GridQA(**changes)


def test_lists_become_tuples():
    lists: Any = {"objects": [1, 2], "canonicals": [0] * 8}
    task = GridQA(**lists)
    assert task == GridQA(objects=(1, 2), canonicals=(0,) * 8) and hash(task) == hash(GridQA(**vars(task)))
