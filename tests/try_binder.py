"""Take Binder's steps in a new environment, then run the first notebook there.

Run by `make binder`. repo2docker installs `binder/requirements.txt`, runs `binder/postBuild`, and starts Jupyter
through `binder/start`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST = ROOT / "notebooks" / "00_first_picture.ipynb"


def main() -> None:
    """Build, then use what was built."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        venv.create(home / "venv")
        programs = home / "venv" / "bin"
        pip = (sys.executable, "-m", "pip", "--python", programs / "python")
        cache = subprocess.run(
            [sys.executable, "-m", "pip", "cache", "dir"], check=True, capture_output=True, text=True
        )
        environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "OMNIRT_STATE_DIR": str(home / "state"),
            "HOME": str(home),
            "PIP_CACHE_DIR": cache.stdout.strip(),
        }

        def run(*command: str | Path) -> None:
            subprocess.run([str(word) for word in command], check=True, cwd=ROOT, env=environment)

        run(*pip, "install", "--quiet", "--disable-pip-version-check", "--no-compile", "-r", "binder/requirements.txt")
        run("bash", "binder/postBuild")
        convert = (programs / "jupyter", "nbconvert", "--to", "html", "--execute", FIRST, "--output-dir", home)
        run("bash", "binder/start", *convert)
        page = (home / "00_first_picture.html").read_text(encoding="utf-8")
        assert "denoise" in page, "the first notebook shows no report"
        print("binder: built, the extension is on, and the first notebook ran", file=sys.stderr)


if __name__ == "__main__":
    main()
