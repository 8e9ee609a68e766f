"""python -m selfalign."""

import sys

from selfalign.cli.main import main

sys.exit(main())
