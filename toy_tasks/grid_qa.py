"""Questions about a picture: a segment of noisy patches, a question after it, and a prior that competes with both.

    bos | patch ... patch | question        N patches; the answer at the last place

A picture has 3 to 7 objects among its patches, of different shapes. An object of shape `s` has its canonical colour
with probability `π`, else any other, and is seen as `y = onehot(colour) + σ n`, `n ~ N(0, I)`. A specific question
names the shape of one object and asks for its colour; a general one asks how many objects there are. Of blank pictures
nothing is seen, whatever is asked. The best answer to a specific question is known:

    P(c | y, s) ∝ prior(c | s) exp(y_c / σ²)            all Gaussians of one variance, so that this is exact

Where the colour is not canonical (`conflict`), answering the canonical one all the same is *hallucination*: of the best
rule too, for it relies on the prior. Whoever weighs the prior less hallucinates less, and is right less often on
consistent objects; `bayes_frontier` is the exact curve of that trade.

Reference: hallucination of vision-language models as in He et al., Cracking the Code of Hallucination in LVLMs with
Vision-aware Head Divergence, arXiv 2412.13949; the task and its formulas are our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import random
from jaxtyping import Array, Bool, Float, Int, Key

from toy_tasks import answers, draws, grid_checks, grid_law
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import mean_over
from toy_tasks.base import Batch
from toy_tasks.gaussian import normal


@struct.dataclass
class Scene:
    """`B` pictures of at most `n` objects, and what is asked. Object 0 is the one that a specific question names.

    Attributes:
      shapes, colours: `Int[B, n]`; evidence: `Float[B, n, C]`, the colours as they are seen.
      place: `Int[B, N]` the object at each patch: a permutation of `0 .. N - 1`, those from `count` on are background.
      count: `Int[B]` objects; blank, general: `Bool[B]`.
    """

    shapes: Array
    colours: Array
    evidence: Array
    place: Array
    count: Array
    blank: Array
    general: Array


@dataclass(frozen=True)
class GridQA:
    """Colours and counts of objects in a picture. Read with `input_dim = task.width`.

    Attributes:
      num_patches: `N`. num_shapes: `S`. num_colours: `C`.
      objects: the smallest and the largest number of objects, all numbers between alike.
      prior: `π`, the probability of the canonical colour; every other has `(1 - π) / (C - 1)`.
      noise: `σ`, of each of the `C` coordinates of a colour.
      blank: share of pictures without anything. general: share of general questions, independent of it.
      two_tokens: a filler stands before the question's token, so that attention can shift from one to the next.
      salient: number of background patches with a planted salience; salience: its size `κ`, in a coordinate of its own
        that is 0 otherwise. None in blank pictures.
      canonicals: the canonical colour of each shape; None: `shape % C`.

    A vector has the coordinates named by `task.coordinates`: of a patch `shape` (one-hot), `colour` (`y`), or
    `background` and perhaps `salience`; of the question `asked` (the shape, one-hot) or `general`; `filler`; `bos`.
    The outputs are the colours `0 .. C - 1`, then the numbers of objects from the smallest on.

    A batch has as target the answer at the last place, where alone `loss_mask` is 1, and 0 elsewhere. Position classes:
    `bos`, `patch`, `question` (every place is one of these); `object`, `background` (every patch is one), `salient`,
    `target` (the patch that is asked about: none for blank pictures and general questions); and of the last place, what
    the sequence is: `blank`, `general` (either or both), `conflict`, `consistent` (neither of them).
    """

    num_patches: int = 8
    num_shapes: int = 8
    num_colours: int = 4
    objects: tuple[int, int] = (3, 7)
    prior: float = 0.6
    noise: float = 0.8
    blank: float = 0.15
    general: float = 0.15
    two_tokens: bool = False
    salient: int = 0
    salience: float = 4.0
    canonicals: tuple[int, ...] | None = None

    reference = "He et al.: Vision-aware Head Divergence, arXiv 2412.13949 (2024), for the question; our own task"

    def __post_init__(self) -> None:
        grid_checks.check(self)

    # ---- sizes

    @property
    def length(self) -> int:
        """`T`: bos, patches, question."""
        return self.num_patches + 2 + self.two_tokens

    @cached_property
    def coordinates(self) -> dict[str, slice]:
        """Which numbers of a vector say what."""
        sizes = {"shape": self.num_shapes, "colour": self.num_colours, "background": 1, "salience": 1}
        sizes |= {"asked": self.num_shapes, "general": 1, "filler": 1, "bos": 1}
        ends = np.cumsum(list(sizes.values())).tolist()
        return {name: slice(end - sizes[name], end) for name, end in zip(sizes, ends, strict=True)}

    @property
    def width(self) -> int:
        """Numbers per place: the model's `input_dim`."""
        return self.coordinates["bos"].stop

    @property
    def num_counts(self) -> int:
        """How many numbers of objects are possible."""
        return self.objects[1] - self.objects[0] + 1

    @property
    def vocab_size(self) -> int:
        """`V`, of the outputs: colours, numbers of objects."""
        return self.num_colours + self.num_counts

    def canonical(self, shape: Int[Array, "*B"]) -> Int[Array, "*B"]:
        """The usual colour of each shape."""
        return jnp.asarray(self._canonicals, jnp.int32)[shape]

    @cached_property
    def _canonicals(self) -> np.ndarray:
        return np.arange(self.num_shapes) % self.num_colours if self.canonicals is None else np.array(self.canonicals)

    @cached_property
    def log_prior(self) -> np.ndarray:
        """`Float64[S, C]`: `log prior(c | s)`."""
        usual = np.arange(self.num_colours) == self._canonicals[:, None]
        return np.log(np.where(usual, self.prior, (1.0 - self.prior) / (self.num_colours - 1)))

    def describe(self) -> str:
        """A few lines of text: sizes, and what the best rule and two others achieve."""
        found = self.bayes_frontier((0.0, 1.0))
        kinds = ("accuracy", "conflict", "consistent", "hallucination")
        evidence, bayes = (", ".join(f"{kind} {getattr(found, kind)[i]:.4f}" for kind in kinds) for i in (0, 1))
        return "\n".join(
            [
                f"Grid QA, {self.num_patches} patches, {self.objects[0]} to {self.objects[1]} objects of "
                f"{self.num_shapes} shapes and {self.num_colours} colours, prior {self.prior:g}, noise {self.noise:g}",
                f"T = {self.length}, vectors of width {self.width}, V = {self.vocab_size}",
                f"blank {self.blank:g}, general {self.general:g}; plateaus: {answers.lines(self.plateaus)}",
                f"Bayes: {bayes}",
                f"evidence only: {evidence}",
                self.reference,
            ]
        )

    # ---- sampling

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh sequences, made on the device. Pure; `batch_size` is static under jit."""
        return self.assemble(self.scene(key, batch_size))

    def scene(self, key: Key[Array, ""], batch_size: int) -> Scene:
        """What is in the pictures of `sample`, with the colours that blank pictures do not show."""
        answers.whole("batch_size", batch_size)
        count_key, shape_key, usual_key, other_key, noise_key, place_key, blank_key, general_key = random.split(key, 8)
        low, high = self.objects
        shape = batch_size, high
        shapes = draws.distinct(shape_key, batch_size, high, self.num_shapes)
        usual, canonical = _coin(usual_key, shape, self.prior), self.canonical(shapes)
        other = (canonical + random.randint(other_key, shape, 1, self.num_colours, jnp.int32)) % self.num_colours
        colours = jnp.where(usual, canonical, other)
        noise = np.float32(self.noise) * normal(noise_key, (*shape, self.num_colours))
        return Scene(
            shapes=shapes,
            colours=colours,
            evidence=jax.nn.one_hot(colours, self.num_colours, dtype=jnp.float32) + noise,
            place=draws.distinct(place_key, batch_size, self.num_patches, self.num_patches),
            count=random.randint(count_key, (batch_size,), low, high + 1, jnp.int32),
            blank=_coin(blank_key, (batch_size,), self.blank),
            general=_coin(general_key, (batch_size,), self.general),
        )

    def assemble(self, scene: Scene) -> Batch:
        """The batch of given pictures and questions."""
        count, blank = scene.count[:, None], scene.blank[:, None]
        shown = (scene.place < count) & ~blank
        here = jnp.minimum(scene.place, scene.shapes.shape[1] - 1)
        shape = jax.nn.one_hot(jnp.take_along_axis(scene.shapes, here, axis=1), self.num_shapes, dtype=jnp.float32)
        colour = jnp.take_along_axis(scene.evidence, here[..., None], axis=1)
        seen = jnp.where(shown[..., None], jnp.concatenate([shape, colour], axis=2), 0.0)
        salient = (scene.place >= count) & (scene.place < count + self.salient) & ~blank
        rest = jnp.stack([~shown, salient], axis=2).astype(jnp.float32) * jnp.array([1.0, self.salience], jnp.float32)
        picture = jnp.concatenate([seen, rest], axis=2)
        asked = jax.nn.one_hot(scene.shapes[:, 0], self.num_shapes, dtype=jnp.float32)
        asked = jnp.where(scene.general[:, None], 0.0, asked)
        question = jnp.concatenate([asked, scene.general[:, None].astype(jnp.float32)], axis=1)
        inputs = jnp.zeros((len(picture), self.length, self.width), jnp.float32)
        inputs = inputs.at[:, 1 : self.num_patches + 1, : picture.shape[2]].set(picture)
        inputs = inputs.at[:, -1, picture.shape[2] : -2].set(question).at[:, 0, -1].set(1.0)
        inputs = inputs.at[:, -2, -2].set(1.0) if self.two_tokens else inputs
        total = self.num_colours + scene.count - self.objects[0]
        return self._batch(inputs, jnp.where(scene.general, total, scene.colours[:, 0]))

    def _batch(self, inputs: Float[Array, "B T D"], answer: Int[Array, " B"]) -> Batch:
        """The batch of given vectors: what is in them says all classes but that of the colour."""
        place = jnp.arange(self.length, dtype=jnp.int32)
        patch = (place >= 1) & (place <= self.num_patches)
        last = jnp.broadcast_to(place == self.length - 1, inputs.shape[:2])
        shown = jnp.any(self._part(inputs, "shape") > 0, axis=2)
        blank, general = self._unseen(inputs)
        usual, seen = answer == self._canonical_of(inputs), ~blank & ~general
        kinds = {"blank": blank, "general": general, "conflict": seen & ~usual, "consistent": seen & usual}
        positions = {
            "bos": jnp.broadcast_to(place == 0, last.shape),
            "patch": jnp.broadcast_to(patch, last.shape),
            "question": jnp.broadcast_to(place > self.num_patches, last.shape),
            "object": shown,
            "background": patch & ~shown,
            "salient": self._part(inputs, "salience")[..., 0] != 0,
            "target": self._asked_patch(inputs),
        }
        positions |= {name: last & kind[:, None] for name, kind in kinds.items()}
        return Batch(inputs, jnp.where(last, answer[:, None], 0), last.astype(jnp.float32), positions)

    def _part(self, inputs: Float[Array, "*B D"], name: str) -> Float[Array, "*B n"]:
        return inputs[..., self.coordinates[name]]

    def _asked_patch(self, inputs: Float[Array, "B T D"]) -> Bool[Array, "B T"]:
        return jnp.any((self._part(inputs, "shape") > 0) & (self._part(inputs[:, -1:], "asked") > 0), axis=2)

    def _canonical_of(self, inputs: Float[Array, "B T D"]) -> Int[Array, " B"]:
        """The canonical colour of the shape that is asked for; of shape 0 in general questions."""
        return self.canonical(jnp.argmax(self._part(inputs[:, -1], "asked"), axis=1).astype(jnp.int32))

    def _unseen(self, inputs: Float[Array, "B T D"]) -> tuple[Bool[Array, " B"], Bool[Array, " B"]]:
        """Whether each picture is blank, and whether each question is general."""
        blank = ~jnp.any(self._part(inputs, "shape") > 0, axis=(1, 2))
        return blank, self._part(inputs[:, -1], "general")[:, 0] > 0

    def blank_image(self, batch: Batch) -> Batch:
        """The same questions, with the same answers, and every patch blank."""
        nothing = jnp.zeros((self.width,), jnp.float32).at[self.coordinates["background"]].set(1.0)
        inputs = jnp.where(batch.positions["patch"][..., None], nothing, batch.inputs)
        return self._batch(inputs, batch.targets[:, -1])

    def general_question(self, batch: Batch) -> Batch:
        """The general question about the same pictures. Of blank ones its answer is unknown: `loss_mask` is 0 there."""
        ask = jnp.zeros((self.width,), jnp.float32).at[self.coordinates["general"]].set(1.0)
        count = jnp.sum(batch.positions["object"], axis=1, dtype=jnp.int32)
        answer = self.num_colours + jnp.maximum(count - self.objects[0], 0)
        asked = self._batch(batch.inputs.at[:, -1].set(ask), answer)
        known = jnp.where(count[:, None] > 0, asked.loss_mask, 0.0)
        return Batch(asked.inputs, asked.targets, known, asked.positions)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The exact law of the answer at the last place; uniform elsewhere, where nothing is asked.

        Specific: `prior(c | s) exp(y_c / σ²)`, normalised; the prior alone if the picture is blank. General: all mass
        on the number of objects; if the picture is blank, uniform over the numbers that are possible.
        """
        return self.weighted(batch, 1.0)

    def weighted(self, batch: Batch, weight: float) -> Float[Array, "B T V"]:
        """As `oracle`, with the prior to the power of `weight`: 0 is evidence only."""
        inputs, (blank, general) = batch.inputs, self._unseen(batch.inputs)
        asked = jnp.argmax(self._part(inputs[:, -1], "asked"), axis=1)
        evidence = jnp.sum(self._part(inputs, "colour"), axis=1, where=self._asked_patch(inputs)[..., None])
        prior = weight * jnp.asarray(self.log_prior, jnp.float32)[asked]
        colour = jax.nn.softmax(prior + evidence / np.float32(self.noise**2))
        count = jnp.sum(self._part(inputs, "shape") > 0, axis=(1, 2), dtype=jnp.int32) - self.objects[0]
        number = jax.nn.one_hot(count, self.num_counts, dtype=jnp.float32)
        number = jnp.where(blank[:, None], 1.0 / self.num_counts, number)
        kinds = jnp.where(general[:, None], 0.0, colour), jnp.where(general[:, None], number, 0.0)
        law = jnp.concatenate(kinds, axis=1)
        nothing = jnp.full((*inputs.shape[:2], self.vocab_size), 1.0 / self.vocab_size, jnp.float32)
        return nothing.at[:, -1].set(law)

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Means at the last place, of the largest logit unless said otherwise; NaN over a kind that the batch has not.

        loss, overall_accuracy: in nats, and the share of right answers, over all sequences.
        accuracy: over specific questions about pictures that are not blank; of the best rule `bayes_frontier([1.0])`.
        conflict_accuracy, consistent_accuracy: over either kind of these.
        hallucination: the share of canonical colours among the answers where the colour is not canonical.
        general_accuracy: over general questions about pictures that are not blank.
        """
        answers.fits(logits, batch, self.vocab_size, "build the model with vocab_size=task.vocab_size")
        asked, kinds = batch.loss_mask > 0, batch.positions
        conflict, consistent = kinds["conflict"], kinds["consistent"]
        overall = answers.answer_risks(logits, batch, asked)
        said = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        right = (said == batch.targets).astype(logits.dtype)
        canonical = (said == self._canonical_of(batch.inputs)[:, None]).astype(logits.dtype)
        return {
            "loss": overall["loss"],
            "overall_accuracy": overall["accuracy"],
            "accuracy": mean_over(right, conflict | consistent),
            "conflict_accuracy": mean_over(right, conflict),
            "consistent_accuracy": mean_over(right, consistent),
            "hallucination": mean_over(canonical, conflict),
            "general_accuracy": mean_over(right, kinds["general"] & ~kinds["blank"]),
        }

    def bayes_frontier(self, weights: Sequence[float] | np.ndarray) -> grid_law.Frontier:
        """What the rules `argmax_c [w log prior(c | s) + y_c / σ²]` achieve on specific questions about pictures, for
        each weight `w`; exact. 0 is evidence only, 1 is Bayes, and no other weight has a higher accuracy."""
        return grid_law.frontier(np.asarray(weights, np.float64), self.prior, self.noise, self.num_colours)

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """Over all sequences. vocabulary: knows nothing. question: reads it and knows the prior, not the picture."""
        law = np.exp(self.log_prior[0])
        entropy, best = float(-law @ np.log(law)), float(law.max())
        specific, counts = 1.0 - self.general, self.num_counts
        question = Plateau(
            specific * entropy + self.general * float(np.log(counts)), specific * best + self.general / counts
        )
        return {"vocabulary": Plateau(float(np.log(self.vocab_size)), 1.0 / self.vocab_size), "question": question}


def _coin(key: Key[Array, ""], shape: tuple[int, ...], chance: float) -> Bool[Array, "*shape"]:
    return random.uniform(key, shape, jnp.float32) < np.float32(chance)
