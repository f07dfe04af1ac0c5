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
