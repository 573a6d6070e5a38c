"""Try a built wheel: install it beside the environment's libraries, and use what only the wheel can get wrong.

Run by `make wheel` as `python tests/try_wheel.py dist`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

MAX_WHEEL_BYTES = 16 * 1024 * 1024
CODE = """
import omnirt_lab, omnirt_server
assert omnirt_lab.__file__.startswith({target!r}), omnirt_lab.__file__
result = omnirt_lab.generate("a red circle on a blue background", steps=2, seed=1, progress=False)
assert result.images[0].size == (64, 64), result.images
print("the wheel drew", result.report)
"""


def main(dist: Path) -> None:
    """Check names and size, then run the installed package away from the checkout."""
    (wheel,) = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "omnirt_lab/py.typed" in names
    assert any(name.endswith("etc/jupyter/jupyter_server_config.d/omnirt_server.json") for name in names)
    assert {"omnirt_server/ops/alerts.yml", "omnirt_server/page/index.html"} <= set(names)
    assert any(name.endswith("unet/diffusion_pytorch_model.safetensors") for name in names), "the model is missing"
    assert wheel.stat().st_size < MAX_WHEEL_BYTES, wheel.stat().st_size
    with tempfile.TemporaryDirectory() as folder:
        target = str(Path(folder) / "site")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target]
        subprocess.run([*pip, str(wheel)], check=True)
        environment = {**os.environ, "PYTHONPATH": target, "OMNIRT_STATE_DIR": str(Path(folder) / "state")}
        code = [sys.executable, "-P", "-c", CODE.format(target=target)]
        subprocess.run(code, check=True, cwd=folder, env=environment)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
