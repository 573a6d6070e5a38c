"""Parts of explorers on a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

LEFT_PX, RIGHT_PX = 168, 132
"""Beside the time axis, as `explorer.js` has them."""


def tab(explorer: Locator, name: str) -> Locator:
    return explorer.get_by_role("tab", name=name)


def panel(explorer: Locator) -> Locator:
    return explorer.locator("[role=tabpanel]:not([hidden])")


def plot(explorer: Locator) -> Locator:
    return explorer.get_by_role("application")


def drag(page: Page, explorer: Locator, start_share: float, end_share: float) -> None:
    """Brush between two shares of the time axis with the mouse."""
    box = plot(explorer).bounding_box()
    assert box is not None
    across = box["width"] - LEFT_PX - RIGHT_PX
    mouse, y = page.mouse, box["y"] + 40
    mouse.move(box["x"] + LEFT_PX + start_share * across, y)
    mouse.down()
    mouse.move(box["x"] + LEFT_PX + end_share * across, y, steps=4)
    mouse.up()


def transforms(images: Locator) -> list[str]:
    found: list[str] = images.evaluate_all("images => images.map(image => image.style.transform)")
    return found


def rows(table: Locator) -> list[str]:
    """The prompts in view, from the top."""
    found: list[str] = table.locator(".row").evaluate_all(
        """rows => rows.sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
            .map(row => row.querySelector(".text").textContent)"""
    )
    return found


def row(table: Locator, prompt: str) -> Locator:
    return table.locator(".row", has_text=prompt)
