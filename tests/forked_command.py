"""`luigi` or `pipeline` for a shell, forked like those of other tests: `python -S forked_command.py luigi ...`."""

import sys

from forked import BIN, ForkedProcess

if __name__ == "__main__":
    sys.exit(ForkedProcess([BIN / sys.argv[1], *sys.argv[2:]]).wait())
