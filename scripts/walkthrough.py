"""The forward and the backward, step by step: the same as `gmm-np walkthrough`.

python scripts/walkthrough.py [--samples N] [--components K] [--features D] [--table]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gmm_np.cli import main

sys.exit(main(["walkthrough", *sys.argv[1:]]))
