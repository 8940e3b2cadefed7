"""The command line as a module.

`python -m distill_core.cli` does what `distill-studio` does.
"""

import sys

from distill_core.cli import main

sys.exit(main())
