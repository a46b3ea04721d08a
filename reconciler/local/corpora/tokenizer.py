"""Byte-level tokens: one token a byte of UTF-8, so any text goes in and comes back out.

0xFF never occurs in UTF-8; it ends a document. That makes 256 tokens in all, a multiple of the 128 that Megatron pads
vocabularies to, so no padding rows exist.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

NAME: Final = "ByteTokenizer"
MODEL: Final = "bytes"
VOCABULARY: Final = 256
END_OF_DOCUMENT: Final = 0xFF


def encode(text: str) -> NDArray[np.uint16]:
    """Tokens of one document, with the end-of-document token appended."""
    data = text.encode("utf-8", errors="replace") + bytes([END_OF_DOCUMENT])
    return np.frombuffer(data, np.uint8).astype(np.uint16)


def decode(tokens: NDArray[Any]) -> str:
    """Text of the tokens; a cut character shows as U+FFFD, an end of document as a blank line."""
    return bytes(tokens.astype(np.uint8)).replace(bytes([END_OF_DOCUMENT]), b"\n\n").decode("utf-8", errors="replace")
