"""Ways in, from what a user typed after ``join``: an address, or those of a ticket."""

from __future__ import annotations

from p2pfusion.daemon.address import parse_address
from p2pfusion.protocol.joining import Way
from p2pfusion.security import Ticket, is_ticket
from p2pfusion.transport import Address


def ways_of(typed: str, where: str, now_unix: float) -> list[Way]:
    """The ways in that were named.

    ``ConfigError`` for what is neither an address nor a ticket; ``DeniedError`` for a
    ticket that is mistyped or over. Nothing is sent.
    """
    if not is_ticket(typed):
        host, port = parse_address(typed, where)
        Address(host, port)  # refuses what no socket could take
        return [Way(host, port)]
    ticket = Ticket.decode(typed)
    ticket.check_expiry(now_unix)
    places = [parse_address(address, "the ticket") for address in ticket.addresses]
    return [
        Way(
            host=host,
            port=port,
            peer=ticket.issuer,
            key=ticket.transport_key,
            swarm=ticket.swarm,
            invite=ticket.invite,
            secret=ticket.secret,
        )
        for host, port in places
    ]
