"""A QR code in the terminal; the only file that imports segno.

Tickets have letters and digits only. Written large, they fit the code's alphanumeric
mode, which needs a third less room than any text would.
"""

from __future__ import annotations

import io

import segno


def terminal_code(ticket: str) -> str:
    """The ticket as a QR code of half blocks, light on a dark terminal."""
    code = segno.make_qr(ticket.upper(), mode="alphanumeric", boost_error=False)
    drawn = io.StringIO()
    code.terminal(drawn, border=2, compact=True)
    return drawn.getvalue().rstrip("\n")
