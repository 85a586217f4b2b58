"""Write the documentation's table of settings anew: `python scripts/list_settings.py`."""

from __future__ import annotations

from pathlib import Path

from headstart.settings.describe import page

FILE = Path(__file__).parent.parent / "docs" / "settings.md"

if __name__ == "__main__":
    FILE.write_text(page(), encoding="utf-8")
