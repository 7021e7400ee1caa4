"""Distributions over sequences, each with its exact oracle. A task of your own satisfies `toy_tasks.base.Task`."""

from toy_tasks.answers import Plateau
from toy_tasks.automata import Automaton
from toy_tasks.backcopy_law import ExpectedRisks, Occupation, expected_risks, occupation
from toy_tasks.backcopy_stationary import absorbing_cycles, closed_classes, stationary_law
from toy_tasks.base import Batch, Prompt, Task, TaskWithOracle
from toy_tasks.bigram_backcopy import BigramBackcopy
from toy_tasks.circuit_mixture import CircuitMixture
from toy_tasks.circuit_words import Flip, Words
from toy_tasks.coloured_objects import ColouredObjects
from toy_tasks.compat import replay
from toy_tasks.denoising import Denoising
from toy_tasks.distractor_recall import DistractorRecall
from toy_tasks.graph_walk import GraphWalk
from toy_tasks.grid_law import Frontier
from toy_tasks.grid_qa import GridQA, Scene
from toy_tasks.groups import Group
from toy_tasks.in_context_maps import InContextMaps
from toy_tasks.indirect_object import IndirectObject
from toy_tasks.induction import Induction
from toy_tasks.kv_conflict import KVConflict
from toy_tasks.linear_regression import LinearRegression
from toy_tasks.marked_bag import MarkedBag
from toy_tasks.markov_text import MarkovText
from toy_tasks.mqar import MQAR
from toy_tasks.needle_copy import NeedleCopy
from toy_tasks.oddity import OrientationDiet
from toy_tasks.paired_recall import PairedRecall
from toy_tasks.parity import Parity
from toy_tasks.passkey import Passkey
from toy_tasks.piecewise_regression import PiecewiseRegression
from toy_tasks.regression_predictors import (
    Averaging,
    Bayes,
    DebiasedStep,
    GradientStep,
    LeastSquares,
    NearestNeighbours,
    Predictor,
    Ridge,
    SoftmaxHeads,
    Zero,
    bayes,
    on_prefixes,
)
from toy_tasks.regular_language import RegularLanguage
from toy_tasks.scanpaths import Display, Scanpaths
from toy_tasks.single_recall import SingleRecall
from toy_tasks.stacked_recall import FixedReadout, StackedRecall
from toy_tasks.swap_tracking import SwapTracking
from toy_tasks.word_problem import WordProblem

TASKS = (
    BigramBackcopy,
    LinearRegression,
    MQAR,
    PairedRecall,
    Parity,
    GraphWalk,
    Denoising,
    Passkey,
    Induction,
    SingleRecall,
    StackedRecall,
    DistractorRecall,
    WordProblem,
    SwapTracking,
    RegularLanguage,
    PiecewiseRegression,
    GridQA,
    NeedleCopy,
    IndirectObject,
    ColouredObjects,
    MarkovText,
    CircuitMixture,
    KVConflict,
    MarkedBag,
    Scanpaths,
    OrientationDiet,
    InContextMaps,
)

__all__ = [
    "MQAR",
    "TASKS",
    "Automaton",
    "Averaging",
    "Batch",
    "Bayes",
    "BigramBackcopy",
    "CircuitMixture",
    "ColouredObjects",
    "DebiasedStep",
    "Denoising",
    "Display",
    "DistractorRecall",
    "ExpectedRisks",
    "FixedReadout",
    "Flip",
    "Frontier",
    "GradientStep",
    "GraphWalk",
    "GridQA",
    "Group",
    "InContextMaps",
    "IndirectObject",
    "Induction",
    "KVConflict",
    "LeastSquares",
    "LinearRegression",
    "MarkedBag",
    "MarkovText",
    "NearestNeighbours",
    "NeedleCopy",
    "Occupation",
    "OrientationDiet",
    "PairedRecall",
    "Parity",
    "Passkey",
    "PiecewiseRegression",
    "Plateau",
    "Predictor",
    "Prompt",
    "RegularLanguage",
    "Ridge",
    "Scanpaths",
    "Scene",
    "SingleRecall",
    "SoftmaxHeads",
    "StackedRecall",
    "SwapTracking",
    "Task",
    "TaskWithOracle",
    "WordProblem",
    "Words",
    "Zero",
    "absorbing_cycles",
    "bayes",
    "closed_classes",
    "expected_risks",
    "occupation",
    "on_prefixes",
    "replay",
    "stationary_law",
]
