"""Time EM beside scikit-learn's: the command of benchmark/em.py, which explains itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("benchmark")))

from em import main

sys.exit(main())
