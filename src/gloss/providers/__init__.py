"""What writes labels for activations: the labeller protocol, and labellers without a service."""

from gloss.providers.extractive import ExtractiveLabeller
from gloss.providers.labeller import Labeller, LabelRequest, ScriptedLabeller, named_labeller
