"""The three profiles that come with DevNest."""

import sys
from collections.abc import Mapping
from types import MappingProxyType

from devnest.load.errors import BadPlan
from devnest.load.prepare import make_accounts, measure_sign_ins
from devnest.load.profile import GeneratorContext, Profile, Scenario
from devnest.load.schedule import Stage, constant
from devnest.load.user import Account, VirtualUser

__all__ = ["PROFILES", "Experiment", "Flood", "Stress"]

_BUSY_STATUSES = (429, 503)


class Experiment(Profile):
    """The published experiment: each VU registers, signs in and posts, and thinks 0.2 s between."""

    async def iteration(self, vu: VirtualUser) -> None:
        vu.token = ""
        for step in (vu.register, vu.login, vu.post):
            succeeded = await step()
            await vu.think()
            if not succeeded:
                return


class Stress(Profile):
    """The published stress test: VUs sign in once, then read (70 %) and post (30 %)."""

    vus = 5000
    ramp_s = 120.0
    hold_s = 25.0
    fall_s = 5.0
    feed_share = 0.7
    think_s = 2.4
    accounts = 0  # made before the run; 0: one for each VU

    def __init__(self) -> None:
        self._accounts: list[Account] = []

    def scenarios(self, target_host: str) -> list[Scenario]:
        if not (0 <= self.feed_share <= 1 and self.accounts >= 0):
            raise BadPlan("the stress test needs a feed_share from 0 to 1, and accounts 0 or more")
        stages = self.stages
        if stages is Profile.stages:
            stages = (
                Stage(self.ramp_s, self.vus),
                Stage(self.hold_s, self.vus),
                Stage(self.fall_s, 0),
            )
        return [
            Scenario(
                "crowd", self.iteration, stages, self.start, self.rate, self.think_s, self.jitter
            )
        ]

    async def prepare(self, context: GeneratorContext) -> dict[str, float]:
        wanted = self.accounts or max(scenario.max_vus for scenario in self.scenarios(""))
        count = max(1, context.share(wanted))
        self._accounts, seconds = await make_accounts(context.session, count)
        return {"accounts": len(self._accounts), "seconds": seconds}

    async def start(self, vu: VirtualUser) -> bool:
        vu.account = self._accounts[vu.number % len(self._accounts)]
        signed_in = await vu.login()
        await vu.think()
        return signed_in

    async def iteration(self, vu: VirtualUser) -> None:
        if vu.random.random() < self.feed_share:
            await vu.feed()
        else:
            await vu.post()
        await vu.think()


class Flood(Profile):
    """Sign-ins at a multiple of the target's capacity, beside honest sign-ins, reads and posts."""

    takes_stages = False
    duration_s = 60.0
    # The target's capacity in sign-ins per second; 0: measured for `measure_s` before the run.
    capacity = 0.0
    measure_s = 5.0
    multiple = 10.0
    # VUs of the flood. An iteration that is due while all of them are busy is dropped.
    attackers = 1000
    attacked_accounts = 50
    honest = 2
    readers = 20
    posters = 10
    think_s = 0.2
    # The sources of the flood. They are used only where the target is 127.0.0.1 on Linux.
    attack_addresses = "127.0.0.2,127.0.0.3,127.0.0.4"

    def __init__(self) -> None:
        self._accounts: list[Account] = []

    def scenarios(self, target_host: str) -> list[Scenario]:
        if (
            min(
                self.duration_s,
                self.multiple,
                self.attackers,
                self.attacked_accounts,
                self.measure_s,
            )
            <= 0
        ):
            raise BadPlan(
                "the flood needs duration_s, multiple, attackers, attacked_accounts and measure_s "
                "above 0"
            )
        if min(self.capacity, self.honest, self.readers, self.posters) < 0:
            raise BadPlan("the flood needs capacity, honest, readers and posters 0 or more")
        loopback = target_host == "127.0.0.1" and sys.platform == "linux"
        sources = tuple(filter(None, self.attack_addresses.split(","))) if loopback else ()
        stages = constant(self.attackers, self.duration_s)
        attack = Scenario(
            "attack",
            self._attack,
            stages,
            self._choose,
            rate=self.capacity * self.multiple,
            sources=sources,
        )
        kinds = {
            "honest": (self.honest, self._sign_in, self._choose, 2.0),
            "readers": (self.readers, self._read, None, self.think_s),
            "posters": (self.posters, self._post, self._enter, self.think_s),
        }
        return [attack] + [
            Scenario(
                name, iteration, constant(vus, self.duration_s), start, None, think_s, self.jitter
            )
            for name, (vus, iteration, start, think_s) in kinds.items()
            if vus > 0
        ]

    async def prepare(self, context: GeneratorContext) -> dict[str, float]:
        count = max(1, context.share(self.attacked_accounts))
        self._accounts, seconds = await make_accounts(context.session, count)
        if not self.capacity:
            self.capacity = context.generators * await measure_sign_ins(
                context.session, self._accounts, self.measure_s
            )
        return {
            "accounts": len(self._accounts),
            "seconds": seconds,
            "sign_ins_per_s": self.capacity / context.generators,
        }

    async def _choose(self, vu: VirtualUser) -> None:
        vu.account = vu.random.choice(self._accounts)

    async def _enter(self, vu: VirtualUser) -> bool:
        await self._choose(vu)
        signed_in = await vu.login()
        await vu.think()
        return signed_in

    async def _attack(self, vu: VirtualUser) -> None:
        await vu.login("attack", expect=(200, *_BUSY_STATUSES))

    async def _sign_in(self, vu: VirtualUser) -> None:
        await vu.login("login")
        await vu.think()

    async def _read(self, vu: VirtualUser) -> None:
        await vu.feed()
        await vu.think()

    async def _post(self, vu: VirtualUser) -> None:
        await vu.post()
        await vu.think()


PROFILES: Mapping[str, type[Profile]] = MappingProxyType(
    {"experiment": Experiment, "stress": Stress, "flood": Flood}
)
