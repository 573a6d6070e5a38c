"""Other environments, as a user has them: a virtual environment of its own python, with this one's packages to see."""

from __future__ import annotations

import sys
import sysconfig
import venv
from pathlib import Path

BREAKABLE = '''
import ctypes, os, signal, sys, time
from importlib.machinery import PathFinder


class Patcher:
    """Replaces the step of DDIM, once it is imported, by one that breaks where `eta` says so."""

    def find_spec(self, name, path=None, target=None):
        if name != "diffusers.schedulers.scheduling_ddim":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), patch(module))
        return spec


def patch(module):
    scheduler = module.DDIMScheduler
    step = scheduler.step

    def breakable(self, output, timestep, sample, eta=0.0, **options):
        if eta == SLOW:
            time.sleep(0.1)
        elif eta in FAULTS and self.timesteps.tolist().index(int(timestep)) == 3:
            FAULTS[eta]()
        return step(self, output, timestep, sample, eta=0.0, **options)

    scheduler.step = breakable


def fail():
    raise RuntimeError("the step broke")


def hang():
    """A native call that never returns, and holds the interpreter's lock."""
    ctypes.PyDLL(None).pause()


def die():
    os.kill(os.getpid(), signal.SIGKILL)


FAULTS = {101: fail, 102: hang, 103: die}
SLOW = 104
sys.meta_path.insert(0, Patcher())
'''
"""A `sitecustomize` whose diffusers fails in the fourth step (index 3), in the way that the option `eta` chooses."""

RAISE, HANG, DIE, SLOW = 101, 102, 103, 104
"""The last one fails in no step: each takes 0.1 s longer, in which the processor is free for others."""


def make(path: Path, *, sees_packages: bool = True, version: str | None = None, sitecustomize: str = "") -> Path:
    """A virtual environment; the path of its python.

    Parameters
    ----------
    version
        What it says that its omnirt-lab is.
    """
    venv.EnvBuilder(symlinks=True, with_pip=False).create(path)
    own = Path(sysconfig.get_path("purelib", vars={"base": str(path), "platbase": str(path)}))
    if sees_packages:
        (own / "others.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    if version is not None:
        metadata = own / f"omnirt_lab-{version}.dist-info" / "METADATA"
        metadata.parent.mkdir()
        metadata.write_text(f"Metadata-Version: 2.1\nName: omnirt-lab\nVersion: {version}\n")
    if sitecustomize:
        (own / "sitecustomize.py").write_text(sitecustomize)
    return path / "bin" / Path(sys.executable).name
