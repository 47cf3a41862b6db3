"""Time gmm_np beside its peers: the command `python scripts/benchmark`, which explains itself."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).with_suffix("")), run_name="__main__")
