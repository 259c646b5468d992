"""The unit tests stand where what they test stands in the source."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "upscore"
TOPICS = {
    "crf/test_arguments.py",
    "crf/test_examples.py",
    "data/readers/test_published_layouts.py",
    "data/test_data_page.py",
    "data/writers/test_forms.py",
    "data/writers/test_round_trips.py",
    "doctor/test_drawn_masks.py",
    "doctor/test_evidence.py",
    "doctor/test_real_damage.py",
    "inference/test_smallest_proposals.py",
    "losses/test_labels.py",
    "models/test_hostile_bundles.py",
    "models/test_own_bundles.py",
    "models/test_papers_backbones.py",
    "settings/test_settings.py",
}
"""Those of several modules of one package."""


def test_a_unit_test_is_named_by_its_module():
    tests = {path.relative_to(ROOT / "tests" / "unit") for path in (ROOT / "tests" / "unit").rglob("test_*.py")}
    elsewhere = set()
    for test in tests:
        tested = SOURCE / test.parent / test.stem.removeprefix("test_")
        if not tested.is_dir() and not tested.with_suffix(".py").is_file():
            elsewhere.add(test.as_posix())
    assert elsewhere <= TOPICS
    assert all((SOURCE / name).parent.is_dir() for name in TOPICS)
