"""Computes Blowfish's initial state, the first 1042 words of 32 bits of the fraction of pi.

`python native/pi.py` verifies initial.h, `python native/pi.py --write` writes it.
"""

import argparse
import sys
from pathlib import Path

WORDS = 18 + 4 * 256
HEADER = Path(__file__).with_name("initial.h")


def arctan_inverse(divisor: int, one: int) -> int:
    """Return the arc tangent of 1/divisor, times `one`, by its power series."""
    power = total = one // divisor
    odd, sign = 1, 1
    while power:
        power //= divisor * divisor
        odd += 2
        sign = -sign
        total += sign * (power // odd)
    return total


def fraction_words(count: int) -> list[int]:
    """Return the first `count` 32-bit words of pi's fraction, by Machin's formula.

    64 further bits absorb the rounding.
    """
    bits, guard = 32 * count, 64
    one = 1 << (bits + guard)
    pi = 4 * (4 * arctan_inverse(5, one) - arctan_inverse(239, one))
    fraction = (pi - 3 * one) >> guard
    return [(fraction >> shift) & 0xFFFFFFFF for shift in range(bits - 32, -1, -32)]


def render() -> str:
    """Return the text of initial.h."""
    words = [f"0x{word:08x}" for word in fraction_words(WORDS)]
    rows = [", ".join(words[start : start + 8]) for start in range(0, WORDS, 8)]
    return (
        "/* Blowfish's initial state, 18 subkeys and four S-boxes of 256 words: the fraction of\n"
        "   pi in hexadecimal. pi.py wrote this file; `python native/pi.py` verifies it. */\n"
        f"static const uint32_t bcrypt_initial[{WORDS}] = {{\n    " + ",\n    ".join(rows) + "};\n"
    )


def main() -> int:
    """Write initial.h, or compare it with the computed text."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--write", action="store_true", help="write initial.h instead of verifying it"
    )
    if parser.parse_args().write:
        HEADER.write_text(render(), encoding="ascii")
        return 0
    if HEADER.read_text(encoding="ascii") == render():
        return 0
    sys.stderr.write(
        "initial.h is not the fraction of pi; python native/pi.py --write writes it again\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main())
