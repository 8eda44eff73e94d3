"""The compiled parts, ``native.cpp`` and others: built by the system's C++ compiler when it is first needed, and loaded with ctypes.

A library lies in the user's cache folder (``XDG_CACHE_HOME``, else ``~/.cache``) under a name that is a hash of the
source, the compiler, its flags and the processor, so another machine that shares the folder builds its own. Everything that it does,
torch can do as well, only slower: without a compiler, after a failed build or with ``VOCABLO_NATIVE=0`` there is no library and
the callers go the other way. Its threads are torch's own where both use the same OpenMP, as on Linux.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import warnings
from pathlib import Path

import torch
from torch import Tensor

from vocablo.base.errors import StorageError
from vocablo.base.files import replacing

SOURCE = Path(__file__).with_name("native.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w")
# Sums may be reordered; what is not a number stays that. -ffast-math would change the rounding of the whole process.
FLAGS += ("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math")
OPENMP = (("-fopenmp",), ())
SECONDS = 300
FEW = 32  # inputs; without wide registers, torch is the faster one for more

_PROCESS = os.getpid()


class Matrix(ctypes.Structure):
    """``Matrix`` of native.cpp."""

    _fields_ = [
        ("weights", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("sums", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
        ("int8", ctypes.c_int32),
        ("_", ctypes.c_int32),
    ]


class Norm(ctypes.Structure):
    _fields_ = [("weight", ctypes.c_void_p), ("bias", ctypes.c_void_p)]


class Layer(ctypes.Structure):
    _fields_ = [
        ("attention_norm", Norm),
        ("feed_forward_norm", Norm),
        ("qkv", Matrix),
        ("out", Matrix),
        ("up", Matrix),
        ("down", Matrix),
    ]


class Stack(ctypes.Structure):
    _fields_ = [
        ("layers", ctypes.POINTER(Layer)),
        ("final_norm", Norm),
        ("head", Matrix),
        ("count", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("heads", ctypes.c_int32),
        ("activation", ctypes.c_int32),
        ("eps", ctypes.c_float),
        ("scale", ctypes.c_float),
    ]


def address(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin; the caller keeps it alive, contiguous and on the CPU."""
    return None if tensor is None else tensor.data_ptr()


def library(inputs: int = 1) -> ctypes.CDLL | None:
    """The compiled functions, or None where they can't be had, aren't wanted, or are slower for products of so many inputs."""
    found = None if os.environ.get("VOCABLO_NATIVE", "1") == "0" else _library()
    return found if found is None or inputs <= FEW or found.vocablo_lanes() > 1 else None


def threads() -> int:
    """torch's number of threads; in a forked process, which has none but its own, 1."""
    return torch.get_num_threads() if os.getpid() == _PROCESS else 1


def built(source: Path, without: str) -> ctypes.CDLL | None:
    """The functions of a C++ file; None, with a warning that says what is done ``without`` them, where they can't be had."""
    compiler = _compiler()
    if compiler is None:
        warnings.warn(f"There is no C++ compiler (c++, or $CXX): {without}.", stacklevel=3)
        return None
    try:
        return ctypes.CDLL(str(_built(compiler, source)))
    except (OSError, StorageError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"{source.name} wasn't built ({_reason(error)}): {without}. VOCABLO_NATIVE=0 keeps this quiet.",
            stacklevel=3,
        )
        return None


@functools.cache
def _library() -> ctypes.CDLL | None:
    loaded = built(SOURCE, "compact weights are multiplied by torch, which is slower")
    if loaded is None:
        return None
    pointer, int32, int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    loaded.vocablo_product.argtypes = [ctypes.POINTER(Matrix), pointer, int32, pointer, int32]
    loaded.vocablo_product.restype = None
    loaded.vocablo_step.argtypes = [ctypes.POINTER(Stack), int32, pointer, pointer, pointer, pointer, pointer, int64]
    loaded.vocablo_step.argtypes += [int32, pointer, pointer, int32]
    loaded.vocablo_step.restype = None
    return loaded


def _compiler() -> list[str] | None:
    asked = shlex.split(os.environ.get("CXX", "")) or ["c++"]
    found = shutil.which(asked[0])
    return None if found is None else [found, *asked[1:]]


def _built(compiler: list[str], source: Path = SOURCE) -> Path:
    """The library's file, made unless it is there."""
    key = "\0".join([source.read_text(encoding="utf-8"), *compiler, *FLAGS, _processor()])
    path = _folder() / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:20]}.so"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number, threads in enumerate(OPENMP, 1):
        try:
            with replacing(path) as temporary:
                command = [*compiler, *FLAGS, *threads, str(source), "-o", str(temporary)]
                subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS)
            break
        except subprocess.CalledProcessError:
            if number == len(OPENMP):
                raise
    return path


def _folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vocablo"


def _processor() -> str:
    """What decides which instructions the compiler may use."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.exists() else []
    told = [line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part"))]
    return "\n".join([platform.machine(), platform.processor(), *sorted(set(told))])


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return next((line for line in str(error.stderr).splitlines() if "error" in line), str(error))
    return str(error)
