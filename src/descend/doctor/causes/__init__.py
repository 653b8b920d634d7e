"""The causes that are known, each in a file of its own."""

from __future__ import annotations

from collections.abc import Mapping

from descend.doctor.causes.absent_class import AbsentClass
from descend.doctor.causes.bad_initialization import BadInitialization
from descend.doctor.causes.base import Cause
from descend.doctor.causes.batch_too_large import BatchTooLarge
from descend.doctor.causes.class_imbalance import ClassImbalance
from descend.doctor.causes.clipping_always import ClippingAlways
from descend.doctor.causes.dead_units import DeadUnits
from descend.doctor.causes.detached_graph import DetachedGraph
from descend.doctor.causes.evaluation_mode import EvaluationMode
from descend.doctor.causes.exploding_gradients import ExplodingGradients
from descend.doctor.causes.frozen_layers import FrozenLayers
from descend.doctor.causes.gradients_not_zeroed import GradientsNotZeroed
from descend.doctor.causes.learning_rate_too_high import LearningRateTooHigh
from descend.doctor.causes.learning_rate_too_low import LearningRateTooLow
from descend.doctor.causes.loss_input_mismatch import LossInputMismatch
from descend.doctor.causes.loss_maximized import LossMaximized
from descend.doctor.causes.loss_of_another_task import LossOfAnotherTask
from descend.doctor.causes.loss_summed import LossSummed
from descend.doctor.causes.network_too_small import NetworkTooSmall
from descend.doctor.causes.noisy_labels import NoisyLabels
from descend.doctor.causes.outliers_in_targets import OutliersInTargets
from descend.doctor.causes.output_range import OutputRange
from descend.doctor.causes.overfitting import Overfitting
from descend.doctor.causes.parameters_not_held import ParametersNotHeld
from descend.doctor.causes.rows_in_order import RowsInOrder
from descend.doctor.causes.rows_in_several_parts import RowsInSeveralParts
from descend.doctor.causes.schedule_decays_early import ScheduleDecaysEarly
from descend.doctor.causes.shapes_broadcast import ShapesBroadcast
from descend.doctor.causes.target_in_inputs import TargetInInputs
from descend.doctor.causes.too_few_epochs import TooFewEpochs
from descend.doctor.causes.too_much_regularization import TooMuchRegularization
from descend.doctor.causes.unscaled_inputs import UnscaledInputs
from descend.doctor.causes.unscaled_targets import UnscaledTargets
from descend.doctor.causes.vanishing_gradients import VanishingGradients

__all__ = ["CAUSES", "CONSEQUENCES", "Cause"]

CAUSES: tuple[type[Cause], ...] = (
    GradientsNotZeroed,
    ParametersNotHeld,
    DetachedGraph,
    EvaluationMode,
    LossMaximized,
    LossInputMismatch,
    ShapesBroadcast,
    OutputRange,
    LossOfAnotherTask,
    LossSummed,
    FrozenLayers,
    RowsInOrder,
    TargetInInputs,
    RowsInSeveralParts,
    AbsentClass,
    NoisyLabels,
    OutliersInTargets,
    ClassImbalance,
    UnscaledInputs,
    UnscaledTargets,
    BadInitialization,
    DeadUnits,
    VanishingGradients,
    ExplodingGradients,
    BatchTooLarge,
    ClippingAlways,
    ScheduleDecaysEarly,
    LearningRateTooHigh,
    LearningRateTooLow,
    TooMuchRegularization,
    NetworkTooSmall,
    TooFewEpochs,
    Overfitting,
)
"""All causes, in the order in which they are looked for."""

CONSEQUENCES: Mapping[str, tuple[str, ...]] = {each.name(): each.explains for each in CAUSES}
"""The names of the causes that each cause brings about."""
