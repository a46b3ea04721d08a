"""What the installed commands run: `entry.py SPOOL COMMAND [ARGUMENT …]`.

Started with -I -S, so nothing is on the path yet but the standard library.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    from reconciler.local.pbs import run

    sys.exit(run(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
