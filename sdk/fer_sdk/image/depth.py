"""Images of 16 bits a channel, brought to 8.

Cameras store the 10, 12 or 14 bits that they measure in 16, which is black where all 16 count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def excess_bits(pixels: npt.NDArray[np.uint16]) -> int:
    """How many bits above 8 the largest number needs, of depths of 8, 10, 12, 14 and 16."""
    bits = int(pixels.max()).bit_length()
    return max(0, bits + bits % 2 - 8)


def eight_bits(pixels: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """The highest 8 of the bits that an image's numbers need, in its shape."""
    return (pixels >> excess_bits(pixels)).astype(np.uint8)
