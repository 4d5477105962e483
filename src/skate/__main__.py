"""``python -m skate``: the command line."""

import sys

from skate.cli.main import main

sys.exit(main())
