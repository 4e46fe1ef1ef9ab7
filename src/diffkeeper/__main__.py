"""``python -m diffkeeper``: the same as the command ``diffkeeper``."""

from __future__ import annotations

from diffkeeper.cli import main

if __name__ == "__main__":
    main()
