"""Whole runs, with generator processes, against servers that know what they did."""

import asyncio
import random
import ssl
import sys
from pathlib import Path
from statistics import mean
from time import perf_counter

import pytest

from devnest.load import (
    BadPlan,
    GeneratorDied,
    Plan,
    PrepareFailed,
    Stage,
    TargetUnreachable,
    constant,
    parse_stages,
    run,
)
from devnest.load.result import MAX_STALL_S
from devnest.load.summary import notices
from tests.load.targets import DevNest, Request, answer, constantly, serving

_HDR_LOW = 0.999  # a histogram of three digits
CERTIFICATE = Path(__file__).parent / "certificate.pem"
OWN = """
from devnest.load import Profile

class Visits(Profile):
    async def iteration(self, vu):
        await vu.request("visit", "GET", "/")
        await vu.think()

class Neighbour(Profile):
    async def iteration(self, vu):
        from habits import visit
        await visit(vu)

class Broken(Profile):
    async def iteration(self, vu):
        raise RuntimeError("a mistake of mine")

class Dies(Profile):
    async def iteration(self, vu):
        import os
        os._exit(7)

class NoIteration(Profile):
    pass

class CannotBeMade(Profile):
    def __init__(self, needed):
        pass
    async def iteration(self, vu):
        pass

class Whole(Visits):
    think_s = 1

class Blocks(Profile):
    async def iteration(self, vu):
        import time
        await vu.request("visit", "GET", "/")
        time.sleep(0.4)
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


@pytest.mark.parametrize("generators", [1, 2])
async def test_a_profile_imports_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generators: int
) -> None:
    """In every generator, wherever it was started.

    A file named like a module of the library takes nobody's place.
    """
    profile = tmp_path / "mine" / "own.py"
    profile.parent.mkdir()
    profile.write_text(OWN)
    (profile.parent / "habits.py").write_text(
        "async def visit(vu):\n    await vu.request('visit', 'GET', '/')\n"
    )
    (profile.parent / "secrets.py").write_text("raise SystemExit('not the library')\n")
    monkeypatch.setattr(sys, "path", sys.path.copy())
    async with serving(constantly(answer(200))) as target:
        plan = Plan(
            target.url, f"{profile}:Neighbour", stages=constant(2, 0.3), generators=generators
        )
        result = await run(plan)
    assert result.requests > 0
    assert not result.errors


@pytest.mark.parametrize("generators", [1, 2])
async def test_durations_lie_between_the_servers_clock_and_the_runs(
    own: Path, generators: int
) -> None:
    """The durations are within their bounds.

    No request can be shorter than the server's own wait, and VUs in a closed loop can spend no
    more than the run.

    Both bounds hold however starved the machine is; how close they are on one at rest is `make
    bench-load`.
    """
    vus = 60
    delays = random.Random(7)  # noqa: S311 - it makes load, not secrets
    waited: list[float] = []

    async def delayed(request: Request, writer: asyncio.StreamWriter) -> bool:
        if request.path == "/metrics":
            writer.write(answer(404))
            return False
        begin = perf_counter()
        await asyncio.sleep(delays.choice((0.1, 0.2, 0.3, 0.6)) * delays.uniform(0.9, 1.1))
        waited.append(
            perf_counter() - begin
        )  # before the answer leaves: what comes after is the client's to see
        writer.write(answer(200))
        return True

    async with serving(delayed) as target:
        plan = Plan(
            target.url,
            f"{own}:Visits",
            stages=constant(vus, 2),
            settings={"think_s": "0.001"},
            generators=generators,
        )
        result = await run(plan)
    trend = result.trend()
    assert not result.failed
    assert result.requests == len(waited) == sum(point.requests for point in result.points)
    waited.sort()
    for percent in (1, 25, 50, 75, 90, 95, 99, 100):
        assert (
            trend.percentile(percent)
            >= waited[max(0, len(waited) * percent // 100 - 1)] * 1000 * _HDR_LOW
        )
    assert trend.avg >= mean(waited) * 1000
    assert trend.avg * trend.count <= vus * result.elapsed_s * 1000


async def test_a_stalled_target_cannot_hide_its_stall_in_the_open_model(own: Path) -> None:
    """Arrivals keep coming while the target stands still; each is timed from when it was due."""
    stall_s = 1.0
    stalled = False

    async def stalls_once(request: Request, writer: asyncio.StreamWriter) -> bool:
        nonlocal stalled
        if not stalled and len(target.requests) > 50:
            stalled = True
            loop.call_soon(busy)
        writer.write(answer(200))
        return True

    def busy() -> None:
        end = loop.time() + stall_s
        while loop.time() < end:
            pass

    loop = asyncio.get_running_loop()
    async with serving(stalls_once) as target:
        plan = Plan(
            target.url,
            f"{own}:Visits",
            stages=constant(300, 3),
            rate=100,
            settings={"think_s": "0.001"},
        )
        result = await run(plan)
    assert stalled
    # the 100 arrivals of one second waited from 1 s down to nothing: a third of all, evenly spread
    assert result.trend(status=200).count == 300
    assert result.dropped == 0
    assert result.trend().percentile(95) > stall_s * 1000 * 0.7
    assert result.trend().percentile(80) > stall_s * 1000 * 0.2


async def test_an_arrival_that_finds_nobody_free_is_dropped_and_counted(own: Path) -> None:
    """Two VUs, 0.5 s an answer, 20 arrivals a second: about 4 a second are served, all are
    accounted for.
    """
    async with serving(constantly(answer(200), delay_s=0.5)) as target:
        plan = Plan(
            target.url, f"{own}:Visits", stages=constant(2, 2), rate=20, settings={"think_s": "0"}
        )
        result = await run(plan)
    assert result.iterations.count + result.dropped == 40
    assert 2 <= result.iterations.count <= 10


async def test_generators_share_a_rate(own: Path) -> None:
    """Three processes begin together what one was asked for."""
    async with serving(constantly(answer(200))) as target:
        plan = Plan(
            target.url,
            f"{own}:Visits",
            stages=constant(60, 1),
            rate=90,
            generators=3,
            settings={"think_s": "0"},
        )
        result = await run(plan)
    assert result.iterations.count + result.dropped == 90


async def test_the_experiment_registers_signs_in_and_posts() -> None:
    """Each iteration is three requests of one new account, and the answers are looked at."""
    devnest = DevNest()
    async with serving(devnest) as target:
        result = await run(
            Plan(target.url, stages=parse_stages("500ms:10,500ms:0"), settings={"think_s": "0.02"})
        )
    assert result.names == ["register", "login", "post"]
    assert len(devnest.accounts) == result.trend("register").count
    assert len(devnest.posts) == result.trend("post").count > 0
    assert not result.failed
    assert all(fails == 0 for _, fails in result.checks.values())
    assert "login answers own token" in result.checks
    assert result.vus_max == 10


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ("register", "register answers own account"),
        ("login", "login answers own token"),
        ("post", "post answers own post"),
    ],
)
async def test_an_answer_meant_for_somebody_else_fails_its_check(wrong: str, check: str) -> None:
    """Status and shape are right, the account is not: swapped answers are what a pool must never
    give.
    """
    async with serving(DevNest(wrong=wrong)) as target:
        result = await run(Plan(target.url, stages=constant(2, 0.4), settings={"think_s": "0.05"}))
    assert result.checks[check][1] > 0


async def test_the_stress_profile_prepares_accounts_and_signs_each_user_in_once() -> None:
    """Accounts are made before the clock starts and counted apart.

    Then seven reads to three posts.
    """
    devnest = DevNest()
    async with serving(devnest) as target:
        settings = {"vus": "40", "ramp_s": "1", "hold_s": "1", "fall_s": "0.2", "think_s": "0.05"}
        result = await run(Plan(target.url, "stress", settings=settings, generators=2))
    assert result.prepared["accounts"] == len(devnest.accounts) == 40
    assert "register" not in result.names
    assert result.trend("login").count == 40
    feeds, posts = result.trend("feed").count, result.trend("post").count
    assert 0.55 < feeds / (feeds + posts) < 0.85
    assert not result.failed


async def test_the_flood_measures_the_capacity_and_comes_from_other_addresses() -> None:
    """Four sign-ins at once of 20 ms are about 200 a second.

    A refusal is no failure of the flood.
    """
    async with serving(DevNest(sign_ins_at_once=4, hash_s=0.02)) as target:
        settings = {
            "duration_s": "1",
            "measure_s": "0.5",
            "multiple": "3",
            "attackers": "100",
            "honest": "1",
        }
        result = await run(Plan(target.url, "flood", settings=settings))
        peers = target.peers
    assert 0 < result.prepared["sign_ins_per_s"] <= 200
    offered = result.trend("attack").count + result.dropped
    assert offered == pytest.approx(result.prepared["sign_ins_per_s"] * 3, abs=2)
    assert result.statuses("attack")[503] > 0
    assert result.trend("attack", expected=False).count == 0
    assert {"feed", "post", "login"} <= set(result.names)
    assert peers == {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"}


async def test_a_seed_repeats_the_choices() -> None:
    """The same titles of posts for the same seed; accounts differ, so that runs do not collide."""
    titles, names = [], []
    for _ in range(2):
        devnest = DevNest()
        async with serving(devnest) as target:
            await run(
                Plan(
                    target.url,
                    seed=11,
                    stages=constant(1, 0.6),
                    settings={"think_s": "0.02", "jitter": "0"},
                )
            )
        titles.append([post["title"] for post in devnest.posts][:3])
        names.append(set(devnest.accounts))
    assert titles[0] == titles[1] != []
    assert names[0].isdisjoint(names[1])


async def test_a_run_can_be_stopped_and_has_its_figures(own: Path) -> None:
    """`stop` ends it at once, whatever the VUs wait for."""
    stop = asyncio.Event()
    async with serving(constantly(answer(200), delay_s=30)) as target:
        plan = Plan(target.url, f"{own}:Visits", stages=constant(5, 60))
        result = await run(plan, on_second=lambda result, point: stop.set(), stop=stop)
    assert result.stopped
    assert result.interrupted == 5
    assert result.elapsed_s < 30


async def test_a_run_can_be_stopped_while_it_prepares() -> None:
    stop = asyncio.Event()
    async with serving(constantly(answer(201), delay_s=30)) as target:
        asyncio.get_running_loop().call_later(0.5, stop.set)
        result = await run(Plan(target.url, "stress", stages=constant(5, 60)), stop=stop)
    assert result.stopped
    assert result.requests == 0


async def test_tls_is_verified_unless_told_otherwise(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate of one's own is refused, accepted with `insecure`, and trusted where the
    system trusts it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    async with serving(constantly(answer(200)), tls=context) as target:
        plan = Plan(target.url, f"{own}:Visits", stages=constant(3, 0.5))
        with pytest.raises(TargetUnreachable, match="self-signed certificate"):
            await run(plan)
        result = await run(
            Plan(target.url, f"{own}:Visits", stages=constant(3, 0.5), insecure=True)
        )
        assert result.requests > 3
        assert not result.failed
        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        result = await run(plan)
        assert result.requests > 3
        assert not result.failed


async def test_an_exception_of_a_profile_is_counted_and_slows_its_user_down(own: Path) -> None:
    async with serving(constantly(answer(200))) as target:
        result = await run(Plan(target.url, f"{own}:Broken", stages=constant(2, 1.5)))
    assert result.errors == {("profile", "RuntimeError: a mistake of mine"): 4}
    assert result.iterations.count == 0


async def test_a_generator_that_dies_ends_the_run_in_words(own: Path) -> None:
    async with serving(constantly(answer(200))) as target:
        with pytest.raises(GeneratorDied, match="exit status 7"):
            await run(Plan(target.url, f"{own}:Dies", stages=constant(2, 5), generators=2))


async def test_accounts_that_cannot_be_made_end_the_run_before_it_starts() -> None:
    async with serving(constantly(answer(500))) as target:
        with pytest.raises(PrepareFailed, match="register: status 500"):
            await run(Plan(target.url, "stress", stages=constant(2, 5)))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan("ftp://127.0.0.1"), "not a URL"),
        (Plan("http://127.0.0.1:99999"), "not a URL"),
        (Plan("http://127.0.0.1/?a=b"), "without query"),
        (Plan("http://127.0.0.1:1", "nothing"), "no profile"),
        (Plan("http://127.0.0.1:1", "nothing.py:Profile"), "no file"),
        (Plan("http://127.0.0.1:1", f"{__file__}:Nothing"), "has no class Nothing"),
        (
            Plan("http://127.0.0.1:1", settings={"colour": "red"}),
            "no setting 'colour'; this profile has",
        ),
        (Plan("http://127.0.0.1:1", settings={"think_s": "long"}), "think_s is float"),
        (Plan("http://127.0.0.1:1", "flood", stages=constant(1, 1)), "makes its own schedule"),
        (Plan("http://127.0.0.1:1", "stress", settings={"vus": "0"}), "peak at 0 VUs"),
        (Plan("http://127.0.0.1:1", "stress", settings={"ramp_s": "-500"}), "a stage of -500 s"),
        (Plan("http://127.0.0.1:1", stages=(Stage(3, 5), Stage(-1, 5))), "a stage of -1 s"),
        (Plan("http://127.0.0.1:1", settings={"think_s": "-5"}), "thinking of -5 s"),
        (Plan("http://127.0.0.1:1", settings={"jitter": "9"}), "a jitter of 9"),
        (
            Plan("http://127.0.0.1:1", "stress", settings={"feed_share": "7"}),
            "a feed_share from 0 to 1",
        ),
        (Plan("http://127.0.0.1:1", "stress", settings={"accounts": "-4"}), "accounts 0 or more"),
        (
            Plan("http://127.0.0.1:1", "flood", settings={"honest": "-1"}),
            "honest, readers and posters 0 or more",
        ),
        (Plan("http://127.0.0.1:1", "flood", settings={"measure_s": "0"}), "measure_s above 0"),
        (Plan("http://127.0.0.1:0"), "its port is not"),
        (Plan("http://127.0.0.1:1", "flood", settings={"multiple": "0"}), "above 0"),
        (Plan("http://127.0.0.1:1", generators=0), "0 generators"),
        (Plan("http://127.0.0.1:1", rate=-1, stages=constant(1, 1)), "a rate of -1"),
        (Plan("http://127.0.0.1:1", timeout_s=0), "a time limit of 0"),
    ],
)
async def test_an_impossible_plan_is_refused_in_words(plan: Plan, words: str) -> None:
    with pytest.raises(BadPlan, match=words):
        await run(plan)


async def test_a_profile_that_cannot_be_made_is_refused(own: Path) -> None:
    with pytest.raises(BadPlan, match=r"CannotBeMade of .* cannot be made: TypeError: .*needed"):
        await run(Plan("http://127.0.0.1:1", f"{own}:CannotBeMade"))


def test_a_whole_number_for_a_fractional_setting_stays_fractional(own: Path) -> None:
    plan = Plan("http://127.0.0.1:1", f"{own}:Whole", settings={"think_s": "0.25"})
    assert plan.checked().think_s == 0.25


async def test_a_profile_that_blocks_is_told_of(own: Path) -> None:
    """It uses no CPU, so nothing else would say why every answer took so long."""
    async with serving(constantly(answer(200))) as target:
        blocked = await run(Plan(target.url, f"{own}:Blocks", stages=constant(2, 2)))
        result = await run(
            Plan(target.url, f"{own}:Visits", stages=constant(2, 1), settings={"think_s": "0.05"})
        )
    assert blocked.stall_s > MAX_STALL_S
    assert any("event loop stood still" in line for line in notices(blocked))
    assert result.stall_s < blocked.stall_s


async def test_refusals_of_who_comes_too_often_come_with_the_remedy(own: Path) -> None:
    """The usual first run: the target's limits are on."""
    async with serving(constantly(answer(429, extra="Retry-After: 1\r\n"))) as target:
        result = await run(Plan(target.url, f"{own}:Visits", stages=constant(2, 0.5)))
    assert any("429" in line and "--no-limits" in line for line in notices(result))


async def test_arrivals_that_are_late_leave_the_others_their_turn(own: Path) -> None:
    """More than the generator can begin: those that were begun are answered while it goes on."""
    async with serving(constantly(answer(200))) as target:
        settings = {"think_s": "0"}
        result = await run(
            Plan(target.url, f"{own}:Visits", stages=constant(2, 2), rate=1e6, settings=settings)
        )
    answered = [point.requests for point in result.points if point.wall_s > 0.5]
    assert answered[0] > 0
    assert result.dropped > 0


async def test_a_profile_without_an_iteration_is_refused(own: Path) -> None:
    with pytest.raises(BadPlan, match=r"has no iteration\(\)"):
        await run(Plan("http://127.0.0.1:1", f"{own}:NoIteration"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "Connection refused"),
        ("http://no.such.host.invalid", "cannot resolve"),
    ],
)
async def test_an_unreachable_target_is_told_before_the_run(url: str, words: str) -> None:
    with pytest.raises(TargetUnreachable, match=words):
        await run(Plan(url))
