"""`python -m lmmvqa.commands`, which is `lmmvqa`."""

import sys

from .command_line import main


sys.exit(main())
