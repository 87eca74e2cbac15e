"""Takes the pictures of the server's page that the README shows: `python tests/page_pictures.py` after a new model.

Needs a Chinese font (Debian: fonts-noto-cjk); without one the pictures have boxes for characters.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

from PIL import Image

from browser import DESKTOP, browsing
from serve_process import serving

PLACE = Path(__file__).parents[1] / "docs" / "images"
COLOURS = 128  # of the palette; the page has few, and a picture stays below 50 kB


def main() -> None:
    PLACE.mkdir(parents=True, exist_ok=True)
    with serving() as server, browsing(server.url) as browser:
        for language, name in (("en", "page.png"), ("zh", "page.zh.png")):
            browser.open("compare", language=language)
            browser.compute()
            browser.script(
                "document.activeElement.blur(); document.querySelector('.answer').style.transition = 'none'"
            )
            height = browser.script(
                "return document.querySelector('.heat-card').getBoundingClientRect().bottom + 20"
            )
            clip = {"x": 0, "y": 0, "width": DESKTOP, "height": height, "scale": 1}
            options = {"clip": clip, "captureBeyondViewport": True}
            shot = base64.b64decode(browser.command("Page.captureScreenshot", options)["data"])
            picture = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
            picture.save(PLACE / name, optimize=True)
            print(
                f"{PLACE / name}: {picture.size[0]} x {picture.size[1]}, {(PLACE / name).stat().st_size:,} bytes"
            )


if __name__ == "__main__":
    main()
