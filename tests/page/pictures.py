"""The docs' pictures: `python -m tests.page.pictures report/index.html` makes them of a report, to be looked at."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from tests.page.chromium import chromium

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SIZES = {390: 1300, 820: 1300, 1440: 1250}
"""Width → height."""


def main(report: Path) -> None:
    """Three widths, in light and in dark."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
        for width, height in SIZES.items():
            for dark in (False, True):
                browser.show(report.resolve().as_uri(), width=width, height=height, dark=dark)
                browser.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
                target = FOLDER / f"report-{width}-{'dark' if dark else 'light'}.png"
                target.write_bytes(base64.b64decode(browser.driver.get_screenshot_as_base64()))
                print(f"{target}  {target.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
