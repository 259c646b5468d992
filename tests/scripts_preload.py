"""What nearly every script imports, imported once."""

import upscore.evaluation.evaluate
import upscore.inference.predict_files
import upscore.training.launch  # noqa: F401
from upscore.models.backbones import import_timm

import_timm()
