"""`python -m killswitch.node` is the node guard."""

import sys

from killswitch.node.run import main

sys.exit(main())
