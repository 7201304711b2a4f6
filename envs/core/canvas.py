"""A few anti-aliased shapes, for the families' pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]


class Canvas:
    """An image drawn at twice its size and scaled down, so that edges are smooth."""

    SCALE = 2

    def __init__(self, width: int, height: int, background: Colour) -> None:
        self._image = Image.new("RGB", (width * self.SCALE, height * self.SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        corners = (x - radius, y - radius, x + radius, y + radius)
        self._draw.ellipse([c * self.SCALE for c in corners], fill=colour)

    def box(
        self,
        left: float,
        top: float,
        right: float,
        bottom: float,
        colour: Colour,
        radius: float = 0,
    ) -> None:
        corners = [c * self.SCALE for c in (left, top, right, bottom)]
        self._draw.rounded_rectangle(corners, radius * self.SCALE, fill=colour)

    def line(
        self, start: tuple[float, float], end: tuple[float, float], width: float, colour: Colour
    ) -> None:
        points = [c * self.SCALE for c in (*start, *end)]
        self._draw.line(points, fill=colour, width=round(width * self.SCALE))

    def text(self, x: float, y: float, words: str, size: float, colour: Colour) -> None:
        """Words with their middle at (x, y)."""
        font = ImageFont.load_default(size * self.SCALE)
        self._draw.text((x * self.SCALE, y * self.SCALE), words, colour, font, anchor="mm")

    def array(self) -> np.ndarray[Any, Any]:
        """(H, W, 3) uint8."""
        width, height = self._image.size
        small = self._image.resize(
            (width // self.SCALE, height // self.SCALE), Image.Resampling.BOX
        )
        return np.asarray(small)
