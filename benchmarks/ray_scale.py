"""How many simulated GPUs one driver follows: real actors on a local Ray cluster that replay a real run's messages.

1. One real actor draws a picture of 20 steps, and what it says of that is kept, message by message.
2. Simulated GPUs, each a Ray actor of its own without torch, replay these messages as slowly as a GPU of `steps_per_s`
   would send them. The driver is the real one: queued jobs, `engine`, `ray_call`, `relay`, the journal. The GPUs become
   more and more, and in the end they send as fast as they can, which shows what the driver takes at most.
3. Processes without Ray write the same messages into a journal as fast as it takes them: alone, two into one journal,
   and two into one each. That is what several drivers of one journal could share at most.

All of it, the simulated GPUs included, shares the machine's cores: the figures are too low rather than too high. `late`
is the time from when an actor knows an event until the driver has written it down. From these figures, what 1,000 GPUs
need is then *calculated*.
"""

from __future__ import annotations

import json
import math
import os
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores make tiny steps many times slower
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import msgspec
import psutil
from report import emit_report

from omnirt_lab import Lab
from omnirt_lab.engine import build_request
from omnirt_lab.executors import hired_actor
from omnirt_lab.executors.elsewhere import Relay
from omnirt_lab.executors.far_worker import FarWorker
from omnirt_lab.executors.following import TICK_S
from omnirt_lab.executors.hired_actor import HiredActor
from omnirt_lab.executors.messages import (
    Check,
    Checked,
    Events,
    FromWorker,
    Run,
    decode_from_worker,
    decode_to_worker,
    encode,
)
from omnirt_lab.executors.ray_actor import Actor
from omnirt_lab.executors.ray_call import EXECUTOR
from omnirt_lab.executors.ray_cluster import Share
from omnirt_lab.executors.settings import SETTINGS
from omnirt_lab.journal import JobRecord, Journal, RunQuery
from omnirt_lab.records import GenerateRequest, Step
from omnirt_lab.units import NS_PER_MS, NS_PER_S

GPUS = tuple(int(word) for word in os.environ.get("GPUS", "4,16,32").split(","))
"""How many at a time; each is a process."""

STEPS, PICTURE_S = 20, 1.0
LEVEL_S = float(os.environ.get("LEVEL_S", "6"))
WRITERS_S = float(os.environ.get("WRITERS_S", "4"))
AT_ONCE_S = 0.0
"""Seconds a picture, where the simulated GPUs do not wait."""

MIN_EVENTS_PER_S = 1_000

KEEPS_UP = 0.8
"""Share of what was offered that the driver must take to count as keeping up."""

USABLE = 0.6
"""Share of its measured maximum that a driver is planned for."""

DEADLINE_S = 240.0
REAL_GPUS = 1_000
REAL_RATES = (("a picture of 20 steps in 1 s", 1.0), ("one of 20 steps in 4 s", 4.0), ("one of 20 steps in 20 s", 20.0))


class Said(NamedTuple):
    """A message, and how far into the run it was said, from 0 to 1."""

    at: float
    message: FromWorker


class Need(NamedTuple):
    """What a picture needs, and how many of them a second there can be."""

    events: float
    driver_pictures_per_s: float
    journal_pictures_per_s: float
    journal_bytes: float


class Replay(FarWorker):
    """Says of each run what was said of the recorded one, with the times of now."""

    script: tuple[Said, ...] = ()

    def work(self) -> None:
        """Replay for each run, for ever."""
        while True:
            run = self._runs.get()
            self._say_all(run, picture_s=float(run.job.request.inputs.prompt))

    def _say_all(self, run: Run, *, picture_s: float) -> None:
        begun_ns = latest_ns = time.monotonic_ns()
        for at, message in self.script:
            wait_s = picture_s * at - (time.monotonic_ns() - begun_ns) / NS_PER_S
            if wait_s > 0:
                time.sleep(wait_s)
            now_ns = time.monotonic_ns()
            self._say(stamped(message, now_ns - run.job.monotonic_ns, latest_ns - run.job.monotonic_ns))
            latest_ns = now_ns


def stamped(message: FromWorker, t_ns: int, before_ns: int) -> FromWorker:
    """The message as if it were said at this time of the job; a step took since the message before."""
    if not isinstance(message, Events):
        return message
    events = []
    for event in message.events:
        event = msgspec.structs.replace(event, t_ns=t_ns)
        if isinstance(event, Step):
            event = msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, start_t_ns=before_ns))
        events.append(event)
    return Events(events=tuple(events))


def simulated(script: tuple[Said, ...]) -> type[Actor]:
    """An actor that replays, for `ray.remote`."""

    class SimulatedGpu(Actor):
        def __init__(self) -> None:
            self._node = "simulated"
            self._outbox: queue.SimpleQueue[FromWorker] = queue.SimpleQueue()
            self._worker = Replay(self._outbox.put, name=f"gpu-{os.getpid()}")
            self._worker.script = script
            threading.Thread(target=self._worker.work, name="omnirt-actor", daemon=True).start()

        def tell(self, message: bytes) -> bytes | None:
            told = decode_to_worker(message)
            return encode(Checked(number=told.number)) if isinstance(told, Check) else None

    return SimulatedGpu


def record(lab: Lab) -> tuple[tuple[Said, ...], float]:
    """What a real actor says of its second picture, and its memory then, in MiB that no other process shares."""
    EXECUTOR.check(build_request("a red circle", {"execution_mode": "ray"}))  # connects, or says why not
    actor = HiredActor(Share(cpus=1.0, gpus=0.0))
    while not actor.is_ready():
        time.sleep(TICK_S)
    options = {"steps": STEPS, "width": 160, "height": 160, "execution_mode": "ray"}
    for seed in (1, 2):
        heard = draw_on(actor, lab.journal, build_request("a red circle", {**options, "seed": seed}))
    memory_mb = max(memory_of("ray::Actor"))  # another one has only checked the request
    actor.kill()
    times_ns = [message.events[0].t_ns if isinstance(message, Events) else None for message in heard]
    known = [t_ns for t_ns in times_ns if t_ns is not None]
    first_ns, last_ns = known[0], max(known)
    said, at = [], 0.0
    for t_ns, message in zip(times_ns, heard, strict=True):
        at = at if t_ns is None else max(at, (t_ns - first_ns) / (last_ns - first_ns))
        said.append(Said(at, message))
    return tuple(said), memory_mb


def draw_on(actor: HiredActor, journal: Journal, request: GenerateRequest) -> list[FromWorker]:
    """Have the actor draw, and return all that it says."""
    with journal.worker() as worker:
        job = journal.enqueue(request, is_async=True)
        writer = journal.claim(job.job_id, worker)
        assert writer is not None
        relay, heard = Relay(writer), []
        actor.send(
            Run(
                job=writer.job,
                worker_id=worker.worker_id,
                settings=SETTINGS.current,
                sent_t_ns=writer.now_ns(),
                state_dir=None,
                directory="/",
                shows_previews=False,
            )
        )
        finished = None
        while finished is None:
            message = actor.receive(TICK_S)
            if message is not None:
                heard.append(message)
                finished = relay.take(message)
        writer.finish(finished)
    return heard


def descendants(name: str) -> list[psutil.Process]:
    """Those of this process whose command line begins so, or whose program is called so."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.name() == name or " ".join(process.cmdline()).startswith(name):
                found.append(process)
        except psutil.Error:  # it has just ended
            continue
    return found


def memory_of(name: str) -> list[float]:
    """MiB of each such process that no other one shares."""
    return [process.memory_full_info().uss / 2**20 for process in descendants(name)]


def cpu_s(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def draw(lab: Lab, pictures: int, picture_s: float) -> list[JobRecord]:
    """Queue so many pictures, then let the engine know, and wait until all are there."""
    request = build_request(repr(picture_s), {"execution_mode": "ray"})
    jobs = [lab.journal.enqueue(request, is_async=True) for _ in range(pictures - 1)]
    jobs.append(lab.journal.get_job(lab.submit(repr(picture_s), execution_mode="ray").id))
    deadline_s = time.monotonic() + DEADLINE_S
    while lab.journal.list_jobs(states=("queued", "running"), limit=1):
        assert time.monotonic() < deadline_s, "the pictures do not come to an end"
        time.sleep(TICK_S)
    return jobs


def hire(lab: Lab, gpus: int) -> None:
    """Draw until there are so many simulated GPUs."""
    lab.configure(ray_actors=gpus)
    deadline_s = time.monotonic() + DEADLINE_S
    while len(descendants("ray::SimulatedGpu")) < gpus:
        assert time.monotonic() < deadline_s, "actors do not start"
        draw(lab, gpus, PICTURE_S)


def measured(lab: Lab, gpus: int, picture_s: float, pictures: int) -> dict[str, float | int | None]:
    """What the driver does while so many simulated GPUs draw."""
    hire(lab, gpus)
    ray_processes = [*descendants("raylet"), *descendants("gcs_server")]
    start_s, cpu_start_s, ray_start_s = time.perf_counter(), time.process_time(), cpu_s(ray_processes)
    jobs = draw(lab, pictures, picture_s)
    took_s = time.perf_counter() - start_s
    driver_s, ray_s = time.process_time() - cpu_start_s, cpu_s(ray_processes) - ray_start_s
    events, late_ms = 0, []
    for job in jobs:
        told = lab.journal.events(job.job_id)
        assert told[-1].event == "job_finished", told[-1]
        events += len(told)
        late_ms += [event.timestamp_ms - job.enqueued_at_ms - event.t_ns / NS_PER_MS for event in told[1:-1]]
    cuts = statistics.quantiles(late_ms, n=100)
    return {
        "gpus": gpus,
        "steps_per_s": STEPS / picture_s if picture_s else None,
        "offered_pictures_per_s": gpus / picture_s if picture_s else None,
        "pictures_per_s": pictures / took_s,
        "events_per_s": events / took_s,
        "driver_us_an_event": driver_s / events * 1e6,
        "driver_cores": driver_s / took_s,
        "raylet_us_an_event": ray_s / events * 1e6,
        "late_p50_ms": cuts[49],
        "late_p99_ms": cuts[98],
    }


def write(script: tuple[Said, ...], directory: Path, begin_s: float) -> dict[str, float]:
    """Write runs into a journal, as fast as it takes them, from `begin_s` of the monotonic clock on."""
    request, pictures = build_request("a red circle", {}), 0
    with Journal.open(directory) as journal, journal.worker() as worker:
        time.sleep(max(0.0, begin_s - time.monotonic()))
        cpu_start_s = time.process_time()
        while time.monotonic() < begin_s + WRITERS_S:
            job = journal.enqueue(request, is_async=True)
            writer = journal.claim(job.job_id, worker)
            assert writer is not None
            relay, finished, before_ns = Relay(writer), None, 0
            for _, message in script:
                now_ns = writer.now_ns()
                finished, before_ns = relay.take(stamped(message, now_ns, before_ns)), now_ns
            assert finished is not None
            writer.finish(finished)
            pictures += 1
        taken_s = time.monotonic() - begin_s
        return {"pictures_per_s": pictures / taken_s, "cpu_s": (time.process_time() - cpu_start_s) / pictures}


def writers(script_file: Path, directories: list[Path]) -> float:
    """Pictures a second of processes that write into these journals at a time."""
    begin_s = time.monotonic() + 3
    commands = [[sys.executable, __file__, str(script_file), str(path), str(begin_s)] for path in directories]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    return sum(json.loads(process.communicate(timeout=60)[0])["pictures_per_s"] for process in started)


def journal_bytes(lab: Lab) -> float:
    """A picture's part of the journal's file, without its files."""
    lab.journal.checkpoint()
    return (lab.journal.directory / "journal.db").stat().st_size / len(
        lab.journal.query_columns(RunQuery(), ["run_id"])
    )


def need(per_picture: Need) -> list[dict[str, object]]:
    """What 1,000 GPUs would need, calculated."""
    rows = []
    for what, picture_s in REAL_RATES:
        pictures_per_s = REAL_GPUS / picture_s
        rows.append(
            {
                f"CALCULATED for {REAL_GPUS:,} GPUs": what,
                "pictures_per_s": pictures_per_s,
                "events_per_s": pictures_per_s * per_picture.events,
                "drivers": math.ceil(pictures_per_s / (per_picture.driver_pictures_per_s * USABLE)),
                "gpus_a_driver": math.floor(per_picture.driver_pictures_per_s * USABLE * picture_s),
                "journals": math.ceil(pictures_per_s / (per_picture.journal_pictures_per_s * USABLE)),
                "journal_gb_a_day": pictures_per_s * 86_400 * per_picture.journal_bytes / 1e9,
            }
        )
    return rows


def simulate(lab: Lab, script: tuple[Said, ...]) -> list[dict[str, float | int | None]]:
    """A row for each number of GPUs, and one for as many as there were, as fast as they can."""
    hired_actor.Actor = simulated(script)  # type: ignore[misc]  # the driver is real, what it hires is not
    lab.configure(ray_actor_cpus=0.01)
    rows = [measured(lab, gpus, PICTURE_S, gpus * math.ceil(LEVEL_S / PICTURE_S)) for gpus in GPUS]
    return [*rows, measured(lab, GPUS[-1], AT_ONCE_S, math.ceil(rows[-1]["pictures_per_s"] or 1) * math.ceil(LEVEL_S))]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Lab(Path(folder) / "state") as lab:
        lab.configure(ray="local", ray_actor_gpus=0)
        script, actor_mb = record(lab)
        events = sum(len(said.message.events) for said in script if isinstance(said.message, Events)) + 2
        rows = simulate(lab, script)
        simulated_mb = statistics.median(memory_of("ray::SimulatedGpu"))
        bytes_a_picture = journal_bytes(lab)
        lab.close()
        file = Path(folder) / "script"
        file.write_bytes(msgspec.msgpack.encode([(said.at, encode(said.message)) for said in script]))
        one, two, three = (Path(folder) / name for name in ("one", "two", "three"))
        written = {
            "one process writes": writers(file, [one]),
            "two write into one journal": writers(file, [two, two]),
            "two write into one each": writers(file, [one, three]),
        }
    print(
        f"a picture is {events} events; an actor has {actor_mb:.0f} MiB of its own, a simulated one {simulated_mb:.0f}"
    )
    for what, pictures_per_s in written.items():
        print(f"{what}, without Ray: {pictures_per_s:,.0f} pictures a second, {pictures_per_s * events:,.0f} events")
    facts = {"events_a_picture": events, "actor_mb": actor_mb, "simulated_mb": simulated_mb, "pictures_per_s": written}
    print(json.dumps({"benchmark": "ray_scale: facts", **facts}))
    most = Need(
        events=events,
        driver_pictures_per_s=max(row["pictures_per_s"] or 0.0 for row in rows),
        journal_pictures_per_s=written["two write into one journal"],
        journal_bytes=bytes_a_picture,
    )
    emit_report("ray_scale: calculated", need(most), {})
    first, last = rows[0], rows[-1]
    share = (first["pictures_per_s"] or 0.0) / (first["offered_pictures_per_s"] or 1.0)
    verdicts = {
        f"{first['gpus']} GPUs of {first['steps_per_s']:.0f} steps a second draw {KEEPS_UP:.0%} of what they could,"
        f" or more ({share:.0%})": share >= KEEPS_UP,
        f"at most it takes {MIN_EVENTS_PER_S:,} events a second, or more": (last["events_per_s"] or 0.0)
        >= MIN_EVENTS_PER_S,
    }
    emit_report("ray_scale", rows, verdicts)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        pairs = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=list[tuple[float, bytes]])
        replayed = tuple(Said(at, decode_from_worker(message)) for at, message in pairs)
        print(json.dumps(write(replayed, Path(sys.argv[2]), float(sys.argv[3]))))
    else:
        main()
