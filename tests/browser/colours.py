"""How light a colour is, for scripts that tests run in a page."""

from __future__ import annotations

__all__ = ["LIGHT"]

LIGHT = """
const light = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
"""
"""WCAG 2.2: the relative luminance of a colour as a style has it, ``light('rgb(1, 2, 3)')``."""
