"""What stands behind `import facekit.evaluation`: all to judge with, nothing to train with."""

import subprocess
import sys


def test_inference_loads_nothing_of_training():
    code = "import sys, facekit.evaluation; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "facekit.evaluation.embed" in loaded
    assert not [name for name in loaded if name.startswith("facekit.training")]


def test_training_does_not_wait_for_what_only_judges_of_the_open_set_need():
    code = "import sys, facekit.training; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"sklearn", "scipy.stats"} & set(loaded)
