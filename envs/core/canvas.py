"""Anti-aliased shapes for rendering the families."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Color = tuple[int, int, int]


class Canvas:
    """An image drawn at twice its size and scaled down for smooth edges."""

    SCALE = 2

    def __init__(self, width: int, height: int, background: Color) -> None:
        self._image = Image.new("RGB", (width * self.SCALE, height * self.SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def disc(self, x: float, y: float, radius: float, color: Color) -> None:
        corners = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse([c * self.SCALE for c in corners], fill=color)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        color: Color,
        radius: float = 0,
    ) -> None:
        corners = [c * self.SCALE for c in (left, top, right, bottom)]
        self._draw.rounded_rectangle(corners, radius * self.SCALE, fill=color)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], width: float, color: Color
    ) -> None:
        points = [c * self.SCALE for c in (*start, *end)]
        self._draw.line(points, fill=color, width=round(width * self.SCALE))

    def text(self, x: float, y: float, words: str, size: float, color: Color) -> None:
        """Draw text centered at (x, y)."""
        font = ImageFont.load_default(size * self.SCALE)
        self._draw.text((x * self.SCALE, y * self.SCALE), words, color, font, anchor="mm")

    def array(self) -> np.ndarray[Any, Any]:
        """The image as (H, W, 3) uint8."""
        width, height = self._image.size
        small = self._image.resize(
            (width // self.SCALE, height // self.SCALE), Image.Resampling.BOX
        )
        return np.asarray(small)
