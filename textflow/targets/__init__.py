"""Targets: what a student learns from its teacher."""

from textflow.targets.base import Data as Data
from textflow.targets.base import Guess as Guess
from textflow.targets.base import Lesson as Lesson
from textflow.targets.base import Target as Target
from textflow.targets.base import Walk as Walk
from textflow.targets.consistency import Consistency as Consistency
from textflow.targets.flow_map import Copy as Copy
from textflow.targets.flow_map import Eulerian as Eulerian
from textflow.targets.flow_map import Lagrangian as Lagrangian
from textflow.targets.flow_map import SemiGroup as SemiGroup
from textflow.targets.mean_flow import MeanFlow as MeanFlow
from textflow.targets.progressive import Progressive as Progressive
from textflow.targets.salimans_ho import SalimansHo as SalimansHo
