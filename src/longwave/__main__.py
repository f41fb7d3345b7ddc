"""``python -m longwave`` is ``longwave``."""

import sys

from longwave.cli import main

sys.exit(main())
