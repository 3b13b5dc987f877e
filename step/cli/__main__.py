"""``python -m step.cli``."""

from step.cli import main

main()
