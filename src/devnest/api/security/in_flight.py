"""How many passwords a server hashes and checks for one address at the moment.

An address is charged for a failure when it has happened, so that a school whose hundred people sign in at once does
not wait. A guesser must not gain by that: what is under way counts like failures that may come. Together they are
`MAX_IN_FLIGHT` at most, one is always allowed. So one address has so many guesses in a burst for each server, however
many names it tries, and afterwards no more than its counter forgets.

In memory, since it ends with the server: one that is killed leaves nothing that would have to be cleared away.
"""

from devnest.store import Throttled

__all__ = ["MAX_IN_FLIGHT", "InFlight"]

MAX_IN_FLIGHT = 256  # of one address in one server: more than a school or a load test signs in within one hash's time


class InFlight:
    """Belongs to one server."""

    def __init__(self) -> None:
        self._by_network: dict[str, int] = {}

    def enter(self, network: str) -> int | None:
        """One more; how many failures there may be beside the others, None where there are no others.

        Raises `Throttled`. Each that has entered has to leave.
        """
        others = self._by_network.get(network, 0)
        if others >= MAX_IN_FLIGHT:
            raise Throttled(1, first=False)  # when one of them ends: soon, but nobody knows when
        self._by_network[network] = others + 1
        return MAX_IN_FLIGHT - 1 - others if others else None

    def leave(self, network: str) -> None:
        """One less."""
        left = self._by_network[network] - 1
        if left:
            self._by_network[network] = left
        else:
            del self._by_network[network]
