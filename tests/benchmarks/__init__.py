"""What Flotilla costs, as ratios of runs made in turn: `python -m tests.benchmarks`."""

import sys
from pathlib import Path

# The droplets' helpers need the package `flotilla`, as pytest finds it.
sys.path.append(str(Path(__file__).resolve().parents[2] / "plugins/module_utils"))
