"""The command line as a module.

`python -m distill_core.cli` does what `distill-studio` does.
"""

from distill_core.cli import main

main()
