"""``python -m kmm``: the same as the ``kmm`` command."""

import sys

from kmm.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
