"""Profiles for `devnest load URL --profile benchmarks/profiles.py:Mixed`."""

from devnest.load import Profile, VirtualUser

REFUSED = (429, 503)


class Member(Profile):
    """Every user makes an account and signs in once."""

    async def start(self, vu: VirtualUser) -> bool:
        return (vu.account is not None or await vu.register() is not None) and await vu.login()


class Light(Member):
    """One request in each iteration: two reads for each post."""

    async def iteration(self, vu: VirtualUser) -> None:
        await (vu.post() if vu.random.random() < 1 / 3 else vu.feed())


class Mixed(Member):
    """A sign-in, a post and two reads in each iteration."""

    async def iteration(self, vu: VirtualUser) -> None:
        await vu.login()
        await vu.post()
        await vu.feed()
        await vu.feed()


class SignIns(Member):
    """Sign-ins without a pause; a refusal is an expected answer."""

    async def iteration(self, vu: VirtualUser) -> None:
        await vu.login(expect=(200, *REFUSED))
