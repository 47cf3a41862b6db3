"""Time Hessian-vector products: the command of benchmark/hvp.py, which explains itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("benchmark")))

from hvp import main

sys.exit(main())
