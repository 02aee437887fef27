"""Targets: what a student learns from its teacher."""

from textflow.distill.targets.base import Data as Data
from textflow.distill.targets.base import Guess as Guess
from textflow.distill.targets.base import Lesson as Lesson
from textflow.distill.targets.base import Target as Target
from textflow.distill.targets.base import Walk as Walk
from textflow.distill.targets.consistency import Consistency as Consistency
from textflow.distill.targets.flow_map import Copy as Copy
from textflow.distill.targets.flow_map import Eulerian as Eulerian
from textflow.distill.targets.flow_map import Lagrangian as Lagrangian
from textflow.distill.targets.flow_map import SemiGroup as SemiGroup
from textflow.distill.targets.mean_flow import MeanFlow as MeanFlow
from textflow.distill.targets.progressive import Progressive as Progressive
from textflow.distill.targets.salimans_ho import SalimansHo as SalimansHo
