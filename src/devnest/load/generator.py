"""The work of one generator process, which `devnest.load.run` starts and gives a `Job`."""

import asyncio
import gc
import signal
import socket
import sys
from dataclasses import replace
from time import perf_counter, process_time

import uvloop

from devnest.load.engine import Engine
from devnest.load.errors import LoadError
from devnest.load.messages import Channel, Done, Failed, Go, Job, Ready, Second, Vus
from devnest.load.profile import GeneratorContext, Profile, apply_settings, load_profile
from devnest.load.profiles import PROFILES
from devnest.load.schedule import Stage
from devnest.load.target import Target
from devnest.load.user import Session

__all__ = ["main", "profile_of"]

_SECOND_S = 1.0
# Allocations before a garbage collection. One stops every VU, and an iteration leaves few cycles.
_GC_THRESHOLD = 100_000


def profile_of(job: Job) -> Profile:
    """Return the profile of `job` with its settings applied.

    Raises:
        BadPlan: There is no such profile, or a setting does not fit it.
    """
    profile = load_profile(job.profile, PROFILES)
    apply_settings(profile, job.settings)
    if job.stages is not None:
        profile.stages = tuple(Stage(*stage) for stage in job.stages)
    if job.rate is not None:
        profile.rate = job.rate
    return profile


async def _serve(channel: Channel) -> None:
    job = await channel.receive()
    if not isinstance(job, Job):
        return
    try:
        await _run(channel, job)
        channel.send(Done())
    except LoadError as error:
        channel.send(Failed(type(error).__name__, str(error)))
    await channel.close()


async def _run(channel: Channel, job: Job) -> None:
    target = replace(Target.parse(job.url, insecure=job.insecure), address=job.address)
    seed = job.seed * job.generators + job.index
    session = Session(
        target, seed=seed, timeout_s=job.timeout_s, run_tag=f"{job.run_tag}{job.index}"
    )
    context = GeneratorContext(session, job.index, job.generators)
    profile = profile_of(job)
    preparing = asyncio.create_task(profile.prepare(context))
    receiving = asyncio.create_task(channel.receive())
    timeouts = asyncio.create_task(session.enforce_timeouts())
    try:
        await asyncio.wait((preparing, receiving), return_when=asyncio.FIRST_COMPLETED)
        if receiving.done():  # `Stop`, or the parent has ended: the run does not start
            return
        prepared = await preparing
        session.tally.take()
        channel.send(Ready(prepared))
        if isinstance(await receiving, Go):
            await _measure(channel, session, Engine(context, profile.scenarios(target.host)))
    finally:
        for task in (preparing, receiving, timeouts):
            task.cancel()
        await asyncio.gather(preparing, receiving, timeouts, return_exceptions=True)


async def _measure(channel: Channel, session: Session, engine: Engine) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 50)
    session.reset_stall()
    begin = mark = perf_counter()
    cpu_mark = process_time()
    running = asyncio.create_task(engine.run())
    obeying = asyncio.create_task(_obey(channel, engine))
    try:
        while not running.done():
            ordinal = round((mark - begin) / _SECOND_S)
            due = begin + _SECOND_S * (ordinal + 1)
            await asyncio.wait((running,), timeout=max(0.0, due - perf_counter()))
            now, cpu = perf_counter(), process_time()
            counts = session.tally.take()
            second = Second(
                ordinal,
                engine.take_max_vus(),
                cpu - cpu_mark,
                now - mark,
                session.take_stall_s(),
                counts,
            )
            channel.send(second)
            mark, cpu_mark = now, cpu
        await running
    finally:
        obeying.cancel()


async def _obey(channel: Channel, engine: Engine) -> None:
    while isinstance(message := await channel.receive(), Vus):
        engine.want(message.number)
    engine.stop()  # `Stop`, or None when the parent has ended


async def _main(descriptor: int) -> None:
    sock = socket.socket(fileno=descriptor)
    reader, writer = await asyncio.open_connection(sock=sock)
    await _serve(Channel(reader, writer))


def main() -> None:
    """Serve the parent on the socket whose descriptor is the only argument of the program."""
    # Ctrl-C is the parent's to handle: it stops the run and collects the results.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    uvloop.run(_main(int(sys.argv[1])))
