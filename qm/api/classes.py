"""Naming a class so that another process finds it, and finding it there.

    package.module:Class     a module that can be imported (`[Job] path` says where modules lie)
    /home/me/primes.py:Prime a file: of a class of the script that was started
    primes.py:Prime          a file in the job's own folder
    class.pkl                a class that stands in no file (a notebook, a function): pickled by value

Invariant: a class is named so only if it is found under that name; what cannot be found again is pickled.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import zlib
from collections.abc import Mapping
from types import FrameType, MappingProxyType, ModuleType, TracebackType
from typing import NamedTuple

from qm.vocabulary.errors import QMError

PICKLED = "class.pkl"
_LOADED = "_qm_file_"
"""Begins the names of modules that were loaded from a file here: such a name means nothing to another process."""
_NO_FILES: Mapping[str, bytes] = MappingProxyType({})


class ClassNotFound(QMError, ImportError):
    """A class, or its module, cannot be loaded; `__cause__` is the error of its own code, if that is why."""


class Reference(NamedTuple):
    """How another process finds a class: `text`, and the files that must lie in the job's folder for that.

    `label` is for people and for the group: `module.Class`.
    """

    text: str
    label: str
    files: Mapping[str, bytes] = _NO_FILES


def reference_of(cls: type, job_folder: str = "") -> Reference:
    """The reference of a class. A file inside `job_folder`, which will move on, is taken along.

    TypeError, or what its parts raise, if it has to be pickled and cannot be.
    """
    module = sys.modules.get(cls.__module__)
    if module is None or _inside(module, cls.__qualname__) is not cls:
        return _pickled(cls)
    name, file = cls.__module__, getattr(module, "__file__", None)
    if name == "__main__" and getattr(module, "__spec__", None) is not None:
        name = module.__spec__.name  # type: ignore[union-attr]  # python -m package.module
    elif name == "__main__" or name.startswith(_LOADED):
        if file is None or not os.path.isfile(file):
            return _pickled(cls)
        return _in_file(cls, os.path.abspath(file), job_folder)
    return Reference(f"{name}:{cls.__qualname__}", f"{name}.{cls.__qualname__}")


def load_class(text: str, folder: str = "") -> type:
    """The class of a reference; files are looked for in `folder`. ClassNotFound."""
    if text == PICKLED:
        return _unpickled(os.path.join(folder, PICKLED))
    where, colon, qualname = text.rpartition(":")
    if not colon or not where or not qualname:
        raise ClassNotFound(f"{text!r} names no class; write module:Class, or /path/file.py:Class")
    module = _load_file(os.path.join(folder, where), text) if where.endswith(".py") else _import(where, text)
    cls = _inside(module, qualname)
    if not isinstance(cls, type):
        what = "has no" if cls is None else "has something that is no class:"
        raise ClassNotFound(f"class {text} cannot be loaded: {getattr(module, '__file__', where)} {what} {qualname}")
    return cls


def refuse_while_loading() -> None:
    """RuntimeError inside a job while its class is loaded: each of the jobs would queue another, without an end."""
    if "QM_WORKER" not in os.environ:
        return
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is load_class.__code__:
            raise RuntimeError(
                "the file of a job's class queues a job as soon as it is loaded, so that each job would queue "
                'another; put what only the program itself is to do below `if __name__ == "__main__":`'
            )
        frame = frame.f_back


def own_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from where the user's code begins: without the frames of QM and of the import machinery."""
    here = os.path.dirname(os.path.abspath(__file__))
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        ours = file.startswith("<frozen importlib") or os.path.dirname(os.path.abspath(file)) == here
        if not ours and os.path.basename(os.path.dirname(file)) != "importlib":
            break
        trace = trace.tb_next
    return trace


def _inside(module: ModuleType, qualname: str) -> object:
    """What is found under `Outer.Inner`; None if nothing is."""
    found: object = module
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found


def _in_file(cls: type, file: str, job_folder: str) -> Reference:
    stem = os.path.basename(file).removesuffix(".py")
    label = f"{stem}.{cls.__qualname__}"
    if job_folder and os.path.realpath(os.path.dirname(file)) == os.path.realpath(job_folder):
        with open(file, "rb") as source:
            return Reference(f"{stem}.py:{cls.__qualname__}", label, {f"{stem}.py": source.read()})
    return Reference(f"{file}:{cls.__qualname__}", label)


def _pickled(cls: type) -> Reference:
    import cloudpickle

    return Reference(PICKLED, cls.__name__, {PICKLED: cloudpickle.dumps(cls)})


def _unpickled(path: str) -> type:
    import pickle

    try:
        with open(path, "rb") as file:
            cls = pickle.load(file)
    except (Exception, SystemExit) as err:  # what stands in a pickle may raise anything
        raise ClassNotFound(f"the class in {path} cannot be loaded: {type(err).__name__}: {err}") from err
    if not isinstance(cls, type):
        raise ClassNotFound(f"{path} holds no class, but {cls!r}")
    return cls


def _import(name: str, text: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as err:  # a module may raise anything while it is imported
        said = f"{type(err).__name__}: {err}"
        hint = ""
        if isinstance(err, ModuleNotFoundError) and name.startswith(err.name or "\0"):
            hint = f"; looked in {', '.join(sys.path)}"
        raise ClassNotFound(f"class {text} cannot be loaded: {said}{hint}") from err


def _load_file(path: str, text: str) -> ModuleType:
    """The module in a file, under a name of our own: its `if __name__ == "__main__":` is not run."""
    path = os.path.abspath(path)
    name = f"{_LOADED}{zlib.crc32(os.fsencode(path)):08x}"
    if name in sys.modules:
        return sys.modules[name]
    if not os.path.isfile(path):
        raise ClassNotFound(f"class {text} cannot be loaded: there is no file {path}")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ClassNotFound(f"class {text} cannot be loaded: {path} is no Python module")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as err:  # a program may end where no `if __name__ == "__main__":` keeps it from that
        del sys.modules[name]
        raise ClassNotFound(f"class {text} cannot be loaded: {type(err).__name__}: {err}") from err
    return module
