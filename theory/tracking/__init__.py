"""State tracking: which mechanism can follow which group, and the weights that do it exactly.

    from theory import tracking
    from toy_tasks.groups import Group
    tracking.expressivity(Group("S3"), "delta").answer                  # "no": one factor a token, all elements
    tracking.expressivity(Group("A5"), "delta", factors=2).answer       # "yes": rotations of the icosahedron
    tracker = tracking.build_tracker(Group("A5"), "delta", factors=2)   # keys and rates of every token
    tracker.run(word)                                                   # the product of every prefix

The files, one idea each:
  words            words over a group and their products
  representations  orthogonal representations from the Cayley table; how many reflections an element is
  factors          any orthogonal matrix as a product of Householder factors
  trackers         a linear recurrence with start and read-out, run by a plain loop
  constructions    weights by hand, for each family that can
  expressivity     the table: yes with weights, no with its proof, open, conjecturally no
"""

from theory.tracking.constructions import (
    dense_tracker,
    householder_tracker,
    mirror_tracker,
    rotation_tracker,
    sign_tracker,
)
from theory.tracking.expressivity import (
    Expressivity,
    Family,
    build_tracker,
    expressivity,
    expressivity_table,
)
from theory.tracking.factors import Factors, householder_factors
from theory.tracking.representations import (
    faithful_representation,
    irreducible_representations,
    is_faithful,
    reflections_needed,
)
from theory.tracking.trackers import Dense, Diagonal, Householder, Tracker, Transition
from theory.tracking.words import Group, element_orders, prefix_products

__all__ = [
    "Dense",
    "Diagonal",
    "Expressivity",
    "Factors",
    "Family",
    "Group",
    "Householder",
    "Tracker",
    "Transition",
    "build_tracker",
    "dense_tracker",
    "element_orders",
    "expressivity",
    "expressivity_table",
    "faithful_representation",
    "householder_factors",
    "householder_tracker",
    "irreducible_representations",
    "is_faithful",
    "mirror_tracker",
    "prefix_products",
    "reflections_needed",
    "rotation_tracker",
    "sign_tracker",
]
