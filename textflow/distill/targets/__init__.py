"""Targets of students, made from their teachers or from themselves."""

from textflow.distill.targets.base import DataTeacher as DataTeacher
from textflow.distill.targets.base import PredictFn as PredictFn
from textflow.distill.targets.base import TargetOutput as TargetOutput
from textflow.distill.targets.base import Target as Target
from textflow.distill.targets.base import TimeGrid as TimeGrid
from textflow.distill.targets.consistency import Consistency as Consistency
from textflow.distill.targets.flow_map import TeacherFlowMap as TeacherFlowMap
from textflow.distill.targets.flow_map import Eulerian as Eulerian
from textflow.distill.targets.flow_map import Lagrangian as Lagrangian
from textflow.distill.targets.flow_map import SemiGroup as SemiGroup
from textflow.distill.targets.mean_flow import MeanFlow as MeanFlow
from textflow.distill.targets.progressive import Progressive as Progressive
from textflow.distill.targets.salimans_ho import SalimansHo as SalimansHo
