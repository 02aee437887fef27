"""Objectives: what denoisers and codecs are trained for."""

from textflow.objectives.base import Draws as Draws
from textflow.objectives.base import Objective as Objective
from textflow.objectives.denoising import DenoisingObjective as DenoisingObjective
from textflow.objectives.cross_entropy import CrossEntropy as CrossEntropy
from textflow.objectives.langflow import LangFlowObjective as LangFlowObjective
from textflow.objectives.elf import ELFDraws as ELFDraws
from textflow.objectives.elf import ELFObjective as ELFObjective
from textflow.objectives.cola import ColaJoint as ColaJoint
from textflow.objectives.cola import ColaObjective as ColaObjective
from textflow.objectives.fastdiss import FastDiSS as FastDiSS
from textflow.objectives.flm import FLMObjective as FLMObjective
from textflow.objectives.self_conditioning import SelfConditioning as SelfConditioning
from textflow.objectives.squared_error import SquaredError as SquaredError
from textflow.objectives.codec import CodecObjective as CodecObjective
from textflow.objectives.codec import NoisyReconstruction as NoisyReconstruction
from textflow.objectives.text_vae import VariationalReconstruction as VariationalReconstruction
from textflow.objectives.feature_reconstruction import FeatureReconstruction as FeatureReconstruction
from textflow.objectives.feature_reconstruction import LatentAugmentation as LatentAugmentation
