"""Methods against forgetting, one file for each paper, by name."""

from step.learners.continual.methods.base import Method, MethodConfig, Plan, Setup, Step, Task, methods
from step.learners.continual.methods.ewc import EWC
from step.learners.continual.methods.gpm import GPM
from step.learners.continual.methods.hat import HAT
from step.learners.continual.methods.hlop import HLOP
from step.learners.continual.methods.prototype import Prototypes
from step.learners.continual.methods.replay import ER, DERPlusPlus
from step.learners.continual.methods.replay_after import ReplayAfter
from step.learners.continual.methods.sequential import Joint, Sequential
from step.learners.continual.methods.sgp import SGP
from step.learners.continual.methods.si import SI

register = methods.register
names = methods.names
describe = methods.describe

__all__ = [
    "ER",
    "EWC",
    "GPM",
    "HAT",
    "HLOP",
    "SGP",
    "SI",
    "DERPlusPlus",
    "Joint",
    "Method",
    "MethodConfig",
    "Plan",
    "Prototypes",
    "ReplayAfter",
    "Sequential",
    "Setup",
    "Step",
    "Task",
    "describe",
    "methods",
    "names",
    "register",
]  # fmt: skip
