"""Runs a plan: starts the generator processes, collects what they count, returns one result."""

import asyncio
import contextlib
import random
import secrets
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from devnest.load import errors
from devnest.load.errors import BadPlan, GeneratorDied, LoadError
from devnest.load.generator import profile_of
from devnest.load.greeting import need_devnest, reached
from devnest.load.limits import MAX_GENERATORS, need_descriptors
from devnest.load.messages import Channel, Done, Failed, Go, Job, Message, Ready, Second, Stop, Vus
from devnest.load.neighbours import Neighbours
from devnest.load.outputs import Output
from devnest.load.profile import Profile
from devnest.load.profiles import PROFILES
from devnest.load.result import Point, Result
from devnest.load.schedule import Stage, checked_rate
from devnest.load.target import Target
from devnest.load.watch import Watch

__all__ = ["Plan", "run"]

_MAX_SEED = 2**31
_MAX_EXIT_S = 5.0  # a generator that needs longer to exit is killed

OnPrepared = Callable[[Result], None]
OnSecond = Callable[[Result, Point], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, against which target.

    Args:
        url: `http://HOST[:PORT][/BASE]` or `https://...`.
        profile: The name of a profile, or `path.py:Class`.
        stages: They replace those of the profile.
        rate: Iterations per second of the open model; it replaces that of the profile.
        generators: The number of processes that share the VUs.
        seed: The seed of the VUs' random numbers.
        timeout_s: How long a request may take before it fails.
        insecure: Whether to accept any TLS certificate.
        settings: Attributes of the profile to set, as text.
        metrics_url: Where a DevNest has its metrics; empty for `/metrics` of the target.
    """

    url: str
    profile: str = "experiment"
    stages: tuple[Stage, ...] | None = None
    rate: float | None = None
    generators: int = 1
    seed: int = field(default_factory=lambda: secrets.randbelow(_MAX_SEED))
    timeout_s: float = 60.0
    insecure: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics_url: str = ""

    def checked(self) -> Profile:
        """Check the plan and return its profile.

        Raises:
            BadPlan: The plan cannot be carried out.
        """
        Target.parse(self.url)
        if self.metrics_url:
            Target.parse(self.metrics_url)
        if not 1 <= self.generators <= MAX_GENERATORS:
            raise BadPlan(f"{self.generators} generators; a run has 1 to {MAX_GENERATORS}")
        if not 0 < self.timeout_s <= 3600:
            raise BadPlan(
                f"a time limit of {self.timeout_s:g} s; it is more than 0 and at most 3600"
            )
        if self.rate is not None:
            checked_rate(self.rate)
        profile = profile_of(self.job(0, ""))
        if not profile.takes_stages and (self.stages is not None or self.rate is not None):
            raise BadPlan(
                f"the profile {self.profile} makes its own schedule; "
                "change it with --set duration_s=60"
            )
        return profile

    def job(self, index: int, address: str) -> Job:
        """Return the job of generator `index`, for the target's resolved `address`."""
        stages = (
            None
            if self.stages is None
            else [(stage.duration_s, stage.vus) for stage in self.stages]
        )
        return Job(
            url=self.url,
            address=address,
            insecure=self.insecure,
            profile=self.profile,
            settings=dict(self.settings),
            stages=stages,
            rate=self.rate,
            index=index,
            generators=self.generators,
            seed=self.seed,
            timeout_s=self.timeout_s,
            run_tag=f"{random.SystemRandom().getrandbits(32):08x}x",
        )


class _Generator:
    """The parent's side of one generator process."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel) -> None:
        self._process = process
        self.channel = channel

    @classmethod
    async def start(cls, job: Job) -> "_Generator":
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "devnest.load", str(theirs.fileno())),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the parent's to handle
            )
        channel = Channel(*await asyncio.open_connection(sock=ours))
        channel.send(job)
        return cls(process, channel)

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            LoadError: The generator reported it.
            GeneratorDied: The process has ended.
        """
        message = await self.channel.receive()
        if message is None:
            status = await self._process.wait()
            raise GeneratorDied(
                f"a generator process ended unasked (exit status {status}); its messages are above"
            )
        if isinstance(message, Failed):
            kind = getattr(errors, message.kind)
            assert issubclass(kind, LoadError)
            raise kind(message.text)
        return message

    async def end(self) -> None:
        """Wait until the process has exited; kill it if that takes too long."""
        await self.channel.close()
        try:
            async with asyncio.timeout(_MAX_EXIT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def run(
    plan: Plan,
    *,
    on_prepared: OnPrepared | None = None,
    on_second: OnSecond | None = None,
    stop: asyncio.Event | None = None,
    outputs: Sequence[Output] = (),
    vus: "asyncio.Queue[int] | None" = None,
) -> Result:
    """Carry out `plan`. Cancelling the call ends its processes, and the result is lost.

    Args:
        plan: What to run.
        on_prepared: Called when all generators are prepared, right before the measurement.
        on_second: Called after each second, with the result so far and that second.
        stop: Set it to end the run early; the result then holds what was measured so far.
        outputs: Where every second goes as well, as soon as a generator has reported it.
        vus: Put numbers in to have that many VUs from then on, whatever the stages say. They are
            taken up once the measurement has begun, and count for the closed model alone.

    Returns:
        The result of all generators together.

    Raises:
        LoadError: The plan cannot be carried out, or a generator failed.
    """
    profile = plan.checked()
    parsed = Target.parse(plan.url, insecure=plan.insecure)
    scenarios = profile.scenarios(parsed.host)
    for scenario in scenarios:
        scenario.check()
    need_descriptors(sum(scenario.max_vus for scenario in scenarios), plan.generators)
    target = await reached(parsed, plan.timeout_s)
    stop = stop or asyncio.Event()
    if plan.profile in PROFILES:  # another profile may drive any server
        await _greet(target, plan, stop)
    watch = Watch(await _metrics_target(plan, target))
    result = Result(url=plan.url, profile=plan.profile, generators=plan.generators, seed=plan.seed)
    result.neighbours = Neighbours(target.address)
    await result.neighbours.look()
    async with contextlib.AsyncExitStack() as stack:
        generators = []
        for index in range(plan.generators):
            generator = await _Generator.start(plan.job(index, target.address))
            stack.push_async_callback(generator.end)
            generators.append(generator)
        stopper = asyncio.create_task(_stop(generators, stop, result))
        stack.callback(stopper.cancel)
        try:
            await _conduct(
                generators, result, watch, on_prepared, on_second, outputs, vus or asyncio.Queue()
            )
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
    result.finish()
    return result


async def _greet(target: Target, plan: Plan, stop: asyncio.Event) -> None:
    """Make sure that the target is a DevNest; give up on it when the run is stopped."""
    greeting = asyncio.create_task(need_devnest(target, plan.timeout_s))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((greeting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if greeting.done():
            greeting.result()
    finally:
        for task in (greeting, stopping):
            task.cancel()
        await asyncio.gather(greeting, stopping, return_exceptions=True)


async def _metrics_target(plan: Plan, target: Target) -> Target:
    if plan.metrics_url:
        return await Target.parse(plan.metrics_url, insecure=plan.insecure).reached(plan.timeout_s)
    return replace(target, base_path=f"{target.base_path}/metrics")


async def _stop(generators: list[_Generator], stop: asyncio.Event, result: Result) -> None:
    await stop.wait()
    result.stopped = True
    for generator in generators:
        generator.channel.send(Stop())


async def _conduct(
    generators: list[_Generator],
    result: Result,
    watch: Watch,
    on_prepared: OnPrepared | None,
    on_second: OnSecond | None,
    outputs: Sequence[Output],
    vus: "asyncio.Queue[int]",
) -> None:
    """Start all generators together once each is ready, and collect until each is done."""
    async with asyncio.TaskGroup() as tasks:
        first = [tasks.create_task(generator.receive()) for generator in generators]
    ready = [message.result() for message in first]
    for message in ready:
        if isinstance(message, Ready):
            result.prepare(message.prepared)
    if all(isinstance(message, Ready) for message in ready) and not result.stopped:
        if on_prepared is not None:
            on_prepared(result)
        for generator in generators:
            generator.channel.send(Go())
        result.watch = watch
        assert result.neighbours is not None
        result.neighbours.begin()
        others = [
            asyncio.create_task(watch.run()),
            asyncio.create_task(_change_vus(generators, vus)),
        ]
        try:
            async with asyncio.TaskGroup() as tasks:
                for index, generator in enumerate(generators):
                    tasks.create_task(_listen(index, generator, result, on_second, outputs))
        finally:
            result.neighbours.end(result.cpu_s)
            for task in others:
                task.cancel()
            await asyncio.wait(others)


async def _change_vus(generators: list[_Generator], vus: "asyncio.Queue[int]") -> None:
    while True:
        number = await vus.get()
        for generator in generators:
            generator.channel.send(Vus(number))


async def _listen(
    index: int,
    generator: _Generator,
    result: Result,
    on_second: OnSecond | None,
    outputs: Sequence[Output],
) -> None:
    while not isinstance(message := await generator.receive(), Done):
        assert isinstance(message, Second)
        point = result.absorb(index, message)
        for output in outputs:
            output.second(message, point)
        if point is not None and on_second is not None:
            on_second(result, point)
