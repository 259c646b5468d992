"""What nearly every script imports, imported once."""

from upscore.models.backbones import import_timm

import_timm()
