"""Tracking: the curves and figures of runs, shown by TensorBoard, Weights & Biases or MLflow."""

from oodml.train.tracking.tracker import Curves, Tracked, Tracker, check_tracker, tracked

__all__ = ["Curves", "Tracked", "Tracker", "check_tracker", "tracked"]
