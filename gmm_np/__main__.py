"""Run the command line as ``python -m gmm_np``."""

import sys

from gmm_np.cli import main

sys.exit(main())
