"""`InFlight`: how many passwords a server is checking for each network.

An address is charged for a failure only after it has failed, so that a hundred people at one
school can sign in at the same moment. Without a bound, a guesser could use that to make any number
of guesses at once. So the attempts in progress count like failures: together with the failures of
the address there may be `MAX_IN_FLIGHT`. An address with no attempt in progress may always make
one. One address thus has that many guesses in one burst on each server, whatever names it tries,
and after that only as many as its counter forgets.

The numbers are in memory, so a server that is killed leaves nothing to clean up.
"""

from devnest.store import Throttled

__all__ = ["MAX_IN_FLIGHT", "InFlight"]

# For one network on one server. It is above what a school or a load test signs in within the time
# of one hash, and far below what the pool queues (docs/decisions/0046).
MAX_IN_FLIGHT = 256


class InFlight:
    """Counts the attempts in progress of one server."""

    def __init__(self) -> None:
        self._by_network: dict[str, int] = {}

    def enter(self, network: str) -> int | None:
        """Count one attempt, which has to `leave` when it ends.

        Args:
            network: The client's network.

        Returns:
            How many failures the address may have besides the other attempts in progress. None if
            there are no others: then this attempt is allowed after any number of failures.

        Raises:
            Throttled: There are `MAX_IN_FLIGHT` others.
        """
        others = self._by_network.get(network, 0)
        if others >= MAX_IN_FLIGHT:
            raise Throttled(1, first=False)  # attempts end soon; 1 s is the shortest Retry-After
        self._by_network[network] = others + 1
        return MAX_IN_FLIGHT - 1 - others if others else None

    def leave(self, network: str) -> None:
        """Stop counting one attempt that has entered.

        Args:
            network: The client's network.
        """
        left = self._by_network[network] - 1
        if left:
            self._by_network[network] = left
        else:
            del self._by_network[network]
