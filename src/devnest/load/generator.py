"""One generator process, started by `devnest.load.run` and told by it what to do."""

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
from devnest.load.messages import Channel, Done, Failed, Go, Job, Ready, Second
from devnest.load.profile import Crew, Profile, apply_settings, load_profile
from devnest.load.profiles import PROFILES
from devnest.load.schedule import Stage
from devnest.load.target import Target
from devnest.load.user import Session

__all__ = ["main", "profile_of"]

_SECOND_S = 1.0
_GC_THRESHOLD = 100_000  # a collection stops every VU at once, and iterations leave few cycles


def profile_of(job: Job) -> Profile:
    """The job's profile with its settings; `BadPlan` where they do not fit."""
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
    crew = Crew(session, job.index, job.generators)
    profile = profile_of(job)
    preparing = asyncio.create_task(profile.prepare(crew))
    told = asyncio.create_task(channel.receive())
    timekeeper = asyncio.create_task(session.keep_time())
    try:
        await asyncio.wait((preparing, told), return_when=asyncio.FIRST_COMPLETED)
        if told.done():  # the person or the parent has gone before the start
            return
        prepared = await preparing
        session.tally.take()
        channel.send(Ready(prepared))
        if isinstance(await told, Go):
            await _measure(channel, session, Engine(crew, profile.scenarios(target.host)))
    finally:
        for task in (preparing, told, timekeeper):
            task.cancel()
        await asyncio.gather(preparing, told, timekeeper, return_exceptions=True)


async def _measure(channel: Channel, session: Session, engine: Engine) -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD, 50, 50)
    session.begin_watch()
    begin = mark = perf_counter()
    cpu_mark = process_time()
    running = asyncio.create_task(engine.run())
    stop = asyncio.create_task(_stop_when_told(channel, engine))
    try:
        while not running.done():
            ordinal = round((mark - begin) / _SECOND_S)
            due = begin + _SECOND_S * (ordinal + 1)
            await asyncio.wait((running,), timeout=max(0.0, due - perf_counter()))
            now, cpu = perf_counter(), process_time()
            figures = session.tally.take()
            second = Second(
                ordinal,
                engine.take_vus(),
                cpu - cpu_mark,
                now - mark,
                session.take_stall_s(),
                figures,
            )
            channel.send(second)
            mark, cpu_mark = now, cpu
        await running
    finally:
        stop.cancel()


async def _stop_when_told(channel: Channel, engine: Engine) -> None:
    await channel.receive()  # Stop, or the end of the parent: both mean the same
    engine.stop()


async def _main(descriptor: int) -> None:
    sock = socket.socket(fileno=descriptor)
    reader, writer = await asyncio.open_connection(sock=sock)
    await _serve(Channel(reader, writer))


def main() -> None:
    """Serve the parent on the socket whose descriptor is the only argument."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches the parent, which asks for the figures
    uvloop.run(_main(int(sys.argv[1])))
