"""`oodml ladder`: build, show, draw, compare and exchange graded splits."""

from __future__ import annotations

import click

from oodml.commands.ladder_build import build, pair
from oodml.commands.ladder_compare import compare
from oodml.commands.ladder_files import export, import_command
from oodml.commands.ladder_plot import plot
from oodml.commands.ladder_show import show


@click.group(name="ladder")
def ladder_command() -> None:
    """Build, show, draw, compare and exchange ladders: class splits from easy to hard."""


for command in (build, show, pair, plot, compare, import_command, export):
    ladder_command.add_command(command)
