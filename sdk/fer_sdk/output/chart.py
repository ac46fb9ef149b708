"""A chart of how the scores of each person in a stream change over time, by matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fer_sdk.errors import DataError
from fer_sdk.output.draw import PALETTE
from fer_sdk.output.timeline import Person, Timeline, clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_ROWS = 12
_MARGIN = 0.015
_NO_FACE, _PALE = "#f4f5f7", "#6e717a"
_MINUTE, _HOUR = 60, 3600
# fmt: off
_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, _MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE,
          15 * _MINUTE, 30 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR, 12 * _HOUR)
# fmt: on


def draw_timeline(timeline: Timeline) -> npt.NDArray[np.uint8]:
    """A chart with a row for each person: the height of a color is the score of its emotion.

    Shows up to twelve people, those who were seen longest. Where a person was not seen, the row is
    empty.

    Returns:
        RGB uint8 ``[H, 1600, 3]``.

    Raises:
        DataError: matplotlib is not installed.
    """
    check_timeline()
    # Without pyplot, which keeps figures and may open windows.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import MultipleLocator

    everybody = timeline.people()
    shown = sorted(everybody[:_MOST_ROWS], key=lambda person: person.first)
    rows = max(len(shown), 1)
    height = 1.3 * rows + 1.1
    figure = Figure((16, height), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 2, sharex="col", squeeze=False, width_ratios=(2.5, 12.5))
    figure.subplots_adjust(_MARGIN, 0.55 / height, 1 - _MARGIN, 1 - 0.55 / height, wspace=0.02)
    first, last = timeline.span
    last = max(last, first + _TICKS[0])
    step = next((step for step in _TICKS if (last - first) / step <= 10), 24 * _HOUR)
    for left, right in axes:
        left.axis("off")
        right.set(xlim=(first, last), ylim=(0, 1), yticks=[], facecolor=_NO_FACE)
        right.spines[:].set_visible(False)
        right.tick_params(length=0)
        right.xaxis.set_major_locator(MultipleLocator(step))
        right.xaxis.set_major_formatter(lambda seconds, _: clock(seconds))
    for (left, right), person in zip(axes, shown, strict=False):
        _draw_person(left, right, timeline, person)
    patches = [Patch(color=_color(index)) for index in range(len(timeline.labels))]
    figure.legend(patches, timeline.labels, loc="upper right", ncols=7, frameon=False)
    figure.text(_MARGIN, 1 - 0.3 / height, "scores of each person over time")
    hidden = len(everybody) - len(shown)
    note = (
        f"and {hidden} more, seen for less time" if hidden else "" if shown else "no face was seen"
    )
    figure.text(_MARGIN, 0.2 / height, note, color=_PALE)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba(), np.uint8)  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()


def check_timeline() -> None:
    """Check that a timeline can be drawn here.

    Raises:
        DataError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise DataError(
            "a timeline needs matplotlib, which is not installed: pip install 'fer-sdk[plot]'"
        ) from error


def _draw_person(left: Axes, right: Axes, timeline: Timeline, person: Person) -> None:
    portrait = timeline.portrait(person.track_id)
    if portrait is not None:
        left.imshow(portrait)
        left.set_anchor("W")
    best, score = max(person.scores.items(), key=lambda item: item[1])
    words = f"#{person.track_id}\n{best} {score:.0%}\n{clock(person.first)} to {clock(person.last)}"
    at = 1.08 if portrait is not None else 0.0
    left.text(at, 0.5, words, transform=left.transAxes, va="center", linespacing=1.5)
    edges, means = timeline.curve(person.track_id)
    tops = np.cumsum(means, axis=1)
    for index in range(means.shape[1]):
        top, bottom = tops[:, index], tops[:, index] - means[:, index]
        right.stairs(top, edges, baseline=bottom, fill=True, color=_color(index), linewidth=0)


def _color(index: int) -> str:
    return "#{:02x}{:02x}{:02x}".format(*PALETTE[index % len(PALETTE)])
