"""The command line. Heavy imports stand inside the commands, so that ``step --help`` is quick."""

from step.cli import suites, inspect, energy, look, neurons, new_energy, check_energy, speed, exchange  # noqa: F401, I001  (they add their commands, in the order of --help)
from step.cli.base import app


def main() -> None:
    """Entry point of the ``step`` command."""
    app()
