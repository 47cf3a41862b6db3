"""Time EM beside native code: the command of benchmark/native_em.py, which explains itself."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).with_name("benchmark")))

from native_em import main

sys.exit(main())
