"""What an import may load: help answers at once, and `import upscore` costs nothing."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "cv2", "timm", "accelerate", "safetensors", "jinja2", "PIL")  # pydantic is typer's own doing


def loaded_by(code: str) -> set[str]:
    probe = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nsys.stderr.write('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stderr.split("\n")}


@pytest.mark.parametrize(
    "verb", ["", "convert", "doctor", "train", "evaluate", "tune", "predict", "localize", "next", "explain", "models", "demo"]
)
def test_help_loads_nothing_heavy(verb):
    words = [word for word in ("upscore", verb, "--help") if word]
    loaded = loaded_by(f"sys.argv = {words!r}; from upscore.cli import main; main()")
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


def test_importing_the_package_loads_nothing():
    assert not loaded_by("import upscore") & {*HEAVY, "typer", "rich", "pydantic"}


def test_metrics_and_types_need_no_torch():
    assert "torch" not in loaded_by("import upscore.metrics, upscore.types, upscore.ops.geometry")
