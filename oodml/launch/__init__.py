"""Launchers: the runs of a grid done here, by workers, under torchrun or on a Ray cluster."""

from oodml.launch.grid import Grid, GridOutcome
from oodml.launch.launcher import LAUNCHERS, run_grid
from oodml.launch.ray import Cluster

__all__ = ["LAUNCHERS", "Cluster", "Grid", "GridOutcome", "run_grid"]
