"""A walk on a random directed graph whose nodes differ in out-degree: some have one successor, others many.

    z_0 ~ π,    z_{t+1} uniform over the successors of z_t

How flat the right prediction is depends on the current node alone: `log out-degree`. A map with one temperature for all
queries must hold both the sharp and the flat rows in its weights.

The edges: one random cycle through all nodes, so that every node is reached, and for each node as many further
successors as its out-degree asks for, chosen uniformly, never itself. `π` is the stationary law: all places are alike.

Reference: Zhang, Chang, Li, Roy-Chowdhury, Chen, Oymak, Selective Attention, arXiv 2411.12892, which motivates query
temperatures by such a graph. Their generator is not published; this one is our own.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from toy_tasks import alias, answers
from toy_tasks.answers import Plateau
from toy_tasks.backcopy_risks import cross_entropy, mean_over
from toy_tasks.base import Batch
from toy_tasks.bigram_counts import stationary
from toy_tasks.regression_checks import require


@dataclass(frozen=True)
class GraphWalk:
    """Next node of a stationary walk on a fixed random graph.

    Attributes:
      num_nodes: `V`.
      degrees: the out-degrees; node `i` has `degrees[i % len(degrees)]`, so that all are about equally frequent.
      length: `T` input places; a walk has `T + 1` nodes, the targets are its last `T`.
      seed: of the graph, not of the walks. The same seed gives the same graph everywhere (NumPy's frozen MT19937).

    Position classes: `degree_k` for each out-degree `k`, by the node that stands there.
    """

    num_nodes: int = 32
    degrees: tuple[int, ...] = (1, 2, 4, 8)
    length: int = 64
    seed: int = 0

    reference = "Zhang et al.: Selective Attention, Principled Context Control, arXiv 2411.12892 (2024); our own graph"

    def __post_init__(self) -> None:
        answers.whole("GraphWalk.num_nodes", self.num_nodes, 2)
        answers.whole("GraphWalk.length", self.length)
        answers.whole("GraphWalk.seed", self.seed, 0)
        most = self.num_nodes - 1
        given = self.degrees if isinstance(self.degrees, (tuple, list)) else ()
        right = len(given) > 0 and all(isinstance(k, int) and not isinstance(k, bool) and 1 <= k <= most for k in given)
        require(right, "GraphWalk.degrees", self.degrees, f"a tuple of integers from 1 to num_nodes - 1 = {most}")
        fits = len(given) <= self.num_nodes
        require(fits, "GraphWalk.degrees", self.degrees, f"at most one out-degree per node, {self.num_nodes}")
        object.__setattr__(self, "degrees", tuple(given))

    def at_length(self, length: int) -> GraphWalk:
        """Walks of another length on the same graph."""
        return dataclasses.replace(self, length=length)

    # ---- the graph

    @property
    def vocab_size(self) -> int:
        """`V`."""
        return self.num_nodes

    @cached_property
    def out_degree(self) -> np.ndarray:
        """`Int[V]`."""
        return np.array([self.degrees[i % len(self.degrees)] for i in range(self.num_nodes)])

    @cached_property
    def kernel(self) -> np.ndarray:
        """`Float[V, V]`: `1 / out_degree` at the successors of each node."""
        rng = np.random.RandomState(self.seed)
        cycle = rng.permutation(self.num_nodes)
        following = dict(zip(cycle, np.roll(cycle, -1), strict=True))
        kernel = np.zeros((self.num_nodes, self.num_nodes))
        for node, degree in enumerate(self.out_degree):
            others = np.setdiff1d(np.arange(self.num_nodes), [node, following[node]])
            chosen = np.append(rng.permutation(others)[: degree - 1], following[node])
            kernel[node, chosen] = 1.0 / degree
        kernel.setflags(write=False)
        return kernel

    @cached_property
    def stationary(self) -> np.ndarray:
        """`Float[V]`: `π = π P`. It is positive everywhere."""
        return stationary(self.kernel)

    @cached_property
    def entropy_rate(self) -> float:
        """`Σ_z π(z) log out_degree(z)`, in nats: the least possible loss."""
        return float(self.stationary @ np.log(self.out_degree))

    @cached_property
    def plateaus(self) -> dict[str, Plateau]:
        """uniform: knows nothing. unigram: knows `π`. oracle: knows the graph."""
        law = self.stationary
        return {
            "uniform": Plateau(float(np.log(self.num_nodes)), 1.0 / self.num_nodes),
            "unigram": Plateau(float(-law @ np.log(law)), float(law.max())),
            "oracle": Plateau(self.entropy_rate, float(law @ (1.0 / self.out_degree))),
        }

    def describe(self) -> str:
        """A few lines of text: the graph, and what an oracle achieves."""
        return "\n".join(
            [
                f"Walks on {self.num_nodes} nodes, out-degrees {self.degrees}, seed {self.seed}, T = {self.length}",
                f"nats per place: {answers.lines(self.plateaus)}",
                self.reference,
            ]
        )

    # ---- sampling

    @cached_property
    def _tables(self) -> alias.AliasTable:
        return alias.alias_table(np.vstack([self.kernel, self.stationary]))

    def sample(self, key: Key[Array, ""], batch_size: int) -> Batch:
        """`B = batch_size` fresh walks, made on the device. Pure; `batch_size` is static under jit."""
        answers.whole("batch_size", batch_size)
        words = jax.random.bits(key, (self.length + 1, batch_size), jnp.uint32)
        threshold, target = map(jnp.asarray, self._tables)

        def step(node, word):
            following = alias.draw(threshold, target, node, word)
            return following, following

        start = jnp.full((batch_size,), self.num_nodes, jnp.int32)  # the extra row: the law of the first node
        return self.batch(jax.lax.scan(step, start, words)[1].T)

    def batch(self, nodes: Int[Array | np.ndarray, "B L"]) -> Batch:
        """The batch of given walks of `L = T + 1` nodes, with their position classes."""
        nodes = jnp.asarray(nodes, jnp.int32)
        inputs = nodes[:, :-1]
        degree = jnp.asarray(self.out_degree, jnp.int32)[inputs]
        positions = {f"degree_{k}": degree == k for k in sorted(set(self.degrees))}
        return Batch(inputs, nodes[:, 1:], jnp.ones(inputs.shape, jnp.float32), positions)

    # ---- what is best

    def oracle(self, batch: Batch) -> Float[Array, "B T V"]:
        """The row of the kernel of the node that stands there."""
        return jnp.asarray(self.kernel, jnp.float32)[batch.inputs]

    def risks(self, logits: Float[Array, "B T V"], batch: Batch) -> dict[str, Float[Array, ""]]:
        """Means over all places, of a prediction `q = softmax(logits)` against the exact row `p`, not the sampled node.

        Returns, by name:
          loss: `-Σ_y p(y) log q(y)`, in nats.
          excess: `loss` minus the entropy of `p`, the divergence of `q` from `p`.
          l1: `Σ_y |q(y) - p(y)|`, between 0 and 2.
          excess_degree_k, l1_degree_k: the same over the nodes of out-degree `k`; NaN if the batch has none.
        """
        answers.fits(logits, batch, self.num_nodes, "build the model with vocab_size=task.vocab_size")
        law = self.oracle(batch)
        loss = cross_entropy(law, logits)
        excess = loss - jnp.asarray(np.log(self.out_degree), jnp.float32)[batch.inputs]
        distance = jnp.sum(jnp.abs(jax.nn.softmax(logits) - law), axis=-1)
        everywhere = jnp.ones(batch.inputs.shape, bool)
        parts = {"loss": loss, "excess": excess, "l1": distance}
        risks = {name: mean_over(part, everywhere) for name, part in parts.items()}
        for name, where in batch.positions.items():
            risks |= {f"{part}_{name}": mean_over(parts[part], where) for part in ("excess", "l1")}
        return risks
