"""Run the benches one after another, each in a process of its own, and collect their tables in bench/out/.

    python bench/run.py            # all of them
    python bench/run.py training   # one

Each writes bench/out/NAME.json and prints a table. A bench whose peer isn't installed says so and is skipped.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BENCHES = (
    "ptb_ngram",
    "ptb_neural",
    "training",
    "generation",
    "tokenization",
    "kill_resume",
    "mlm",
    "pseudo",
    "embedding",
    "finetuning",
    "shakespeare",
    "novels",
    "word_vectors",
)


def main() -> int:
    asked = sys.argv[1:] or [name for name in BENCHES if (HERE / f"{name}.py").exists()]
    failed = []
    for name in asked:
        if name not in BENCHES:
            print(f"There is no bench {name!r}. Known: {', '.join(BENCHES)}")
            return 2
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, HERE / f"{name}.py"]).returncode:
            failed.append(name)
    if failed:
        print(f"\nFailed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
