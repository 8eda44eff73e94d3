"""What the benches share: paired timing of peers in turn, the machine's limits, tables and JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
SHARED = HERE.parent.parent / "shared" / "data"


def options(doc: str | None, **extra: tuple[Any, str]) -> argparse.Namespace:
    """The arguments of a bench: ``--out`` and ``--threads``, and ``extra``: name -> (default, help)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the result as JSON")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    for name, (default, text) in extra.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} [{default}]")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return chosen


def in_turn(peers: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each peer once a round, in turn, so that whatever else the machine does meets all alike."""
    found: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(rounds):
        for name, peer in peers.items():
            found[name].append(peer())
    return found


def timed(work: Callable[[], Any]) -> float:
    """Seconds of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def matrix_rate(dtype: torch.dtype, shape: tuple[int, int, int] = (4096, 768, 3072), rounds: int = 7) -> float:
    """FLOP/s of the best of some matrix products [m, k] x [k, n]."""
    m, k, n = shape
    one, other = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
    one @ other
    return 2 * m * k * n / min(timed(lambda: one @ other) for _ in range(rounds))


def read_rate(size: int = 1 << 30) -> float:
    """Bytes a second at which memory is read (the sum of an array larger than what a core's caches hold)."""
    data = torch.ones(size // 4)
    return size / min(timed(data.sum) for _ in range(5))


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """What the figures were measured on, as far as it can be told."""
    model = ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line), ""
        )
    return {
        "cpu": model or platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def report(name: str, table: str, result: Mapping[str, Any], out: Path | None) -> None:
    """Print the table, and write the result beside the machine into bench/out/NAME.json and ``out``."""
    print(table, flush=True)
    text = json.dumps({"bench": name, "machine": machine(), **result}, indent=1, ensure_ascii=False) + "\n"
    for path in (HERE / "out" / f"{name}.json", out):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def need(path: Path) -> Path:
    """The path, or the end of the bench with a word on what is missing."""
    if not path.exists():
        raise SystemExit(f"Skipped: {path.name} isn't there; give its place with --data.")
    return path


def packed_texts(archive: Path, suffix: str) -> Iterator[str]:
    """The text files in a packed corpus whose names end so, in the order of their names."""
    with tarfile.open(need(archive)) as packed:
        for member in sorted((m for m in packed.getmembers() if m.name.endswith(suffix)), key=lambda m: m.name):
            data = packed.extractfile(member)
            if data is not None:
                yield data.read().decode("utf-8")


def peak_mib(code: str, folder: Path = HERE) -> float:
    """Peak MiB of a process of its own, above what its libraries take. ``code`` defines ``step``, which is called thrice."""
    whole = (
        "import torch\n"
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "def told(key):\n"
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith(key))\n"
        "torch.randn(64, 64) @ torch.randn(64, 64)\n"
        f"{code}\n"
        "open('/proc/self/clear_refs', 'w').write('5')\n"  # the peak is counted from here, not from loading
        "[step() for _ in range(3)]\n"
        "print((told('VmHWM') - libraries) / 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", whole], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.strip().splitlines()[-1])
