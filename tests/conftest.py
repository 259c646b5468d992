"""One thread per process: tests run side by side, and torch processes that share cores stall each other."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from painting import paint

torch.set_num_threads(1)
settings.register_profile("shared machine", deadline=None)  # nothing is timed in tests
settings.load_profile("shared machine")

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data beside the repository, where there is any."""
    if not (SHARED / "data").is_dir():
        pytest.skip("no real data beside the repository")
    return SHARED / "data"


@pytest.fixture(scope="session")
def painted(tmp_path_factory) -> Path:
    """A dataset.yaml of six small images to learn from and three to evaluate by."""
    return paint(tmp_path_factory.mktemp("painted"))
