"""What each preset trains: pointers with three stops, denoisers on three diets, one head among herrings."""

from __future__ import annotations

from dataclasses import dataclass

import toy_tasks as tt
from attnlab.models import Pointer, Transformer
from attnlab.studies.measured import Experiment
from attnlab.studies.visual_search import distractors, scanning, searching
from attnlab.studies.visual_search.denoiser import Denoiser
from attnlab.studies.visual_search.figures import figures as figures
from attnlab.studies.visual_search.rates import Falling
from attnlab.training import adamw

THEORY = {"ideal": searching.ideal, "searcher": scanning.searcher, "hand_set": distractors.hand_set}
STOPS = ("zero", "learned", "none")


@dataclass(frozen=True)
class Scale:
    """A size: the pointer's width and steps, those of denoisers and of the head."""

    width: int = 48
    steps: int = 8000
    batch_size: int = 64
    diet_steps: int = 2000
    head_steps: int = 600
    rate: float = 3e-3
    fewest: int = 6
    most: int = 12

    def pointer(self, stop: str) -> Experiment:
        """Scanpaths; without a stop only fixations count."""
        task = tt.Scanpaths(self.fewest, self.most, count_stops=stop != "none")
        model = Pointer(task.dim, self.width, stop=stop)  # pyright: ignore[reportArgumentType]
        steps = self.steps if stop != "none" else self.steps // 10  # no length of training gives it an end
        return Experiment(task, model, Falling(self.rate, steps), steps, self.batch_size, most_seeds=3)

    def diet(self, share: float) -> Experiment:
        """Single bars with so many vertical ones."""
        task = tt.OrientationDiet(share)
        return Experiment(task, Denoiser(task.channels), adamw(3e-3), self.diet_steps, 64)

    def herrings(self) -> Experiment:
        """One layer of one head, attention alone, two herrings at cosine .9 and four others."""
        task = tt.DistractorRecall(cosine=0.9)
        model = Transformer(
            task.vocab_size,
            1 + 8 + 4 + 8 + 1,  # the longest that is asked: herrings, others, primes
            width=64,
            input_dim=task.width,
            positions="none",
            no_mlp=(0,),
        )
        return Experiment(task, model, adamw(3e-3), self.head_steps, 64)


SMOKE = Scale(16, 30, 8, 40, 20, most=7)
LAPTOP = Scale()
EVENING = Scale(96, 30_000, 128, 10_000, 2000, 1e-3)


def experiments(preset: str) -> dict[str, Experiment]:
    """The runs of a preset by name."""
    scale = {"smoke": SMOKE, "laptop": LAPTOP, "evening": EVENING}[preset]
    stops = {"smoke": ("zero",), "laptop": ("zero", "none")}.get(preset, STOPS)
    found = {f"pointer {stop}": scale.pointer(stop) for stop in stops}
    found |= {f"diet {name}": scale.diet(share) for name, share in searching.DIETS.items()}
    return found | {"herrings": scale.herrings()}
