"""The actors of this process, and which of them a run is given."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from omnirt_lab.errors import ClusterUnreachableError, LabError, NotAvailableError
from omnirt_lab.executors.following import TICK_S
from omnirt_lab.executors.hired_actor import HiredActor
from omnirt_lab.executors.ray_cluster import LOCAL, Cluster, Share
from omnirt_lab.executors.settings import SETTINGS

_CPUS: Final = 1.0

_START_S: Final = 120.0
"""How long an actor may take to load torch; a cold disk takes a minute."""


class ActorPool:
    """Hires actors as runs need them, up to what the cluster and the settings have room for, and lends each to one run.

    A run is given 1. an idle actor that has run its model, 2. any other idle one, 3. a new one, 4. whichever is idle
    or ready first. An actor that has died, or is still at work when it comes back, is let go.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._cluster: Cluster | None = None
        self._actors: list[HiredActor] = []
        self._waiting = 0
        """Runs that want an actor."""
        self._is_closing = False

    def connect(self, patience: Callable[[], None]) -> Cluster:
        """The cluster of the settings, once this process is connected to it.

        Raises
        ------
        NotAvailableError
            If none was configured, or jobs still run on another one.
        ClusterUnreachableError
            If it does not answer.
        """
        address = SETTINGS.current.ray
        if address is None:
            raise NotAvailableError(
                "no Ray cluster was configured", hint="Say which: omnirt_lab.configure(ray='local'), or its HOST:PORT."
            )
        try:
            return self._connected(address, patience)
        except ClusterUnreachableError:
            if address != LOCAL:
                raise
            return self._connected(address, patience)  # Ray gives its processes 30 s; a busy machine may need more

    def places(self, patience: Callable[[], None]) -> int:
        """How many runs can go on side by side: the actors that there may be."""
        cluster = self.connect(patience)
        room = cluster.room_for(self._share_now())
        most = SETTINGS.current.ray_actors
        return room if most is None else min(room, most)

    @contextmanager
    def lent(self, model: str, patience: Callable[[], None]) -> Iterator[HiredActor]:
        """An actor that can run jobs, for this thread alone.

        Parameters
        ----------
        model
            What the run needs.
        patience
            Called again and again while there is something to wait for; may raise.
        """
        actor = self._take(model, patience)
        try:
            yield actor
        finally:
            if actor.is_busy:
                actor.kill()
            with self._changed:
                actor.is_lent = False
                self._actors = [other for other in self._actors if not other.is_lost]
                if self._is_closing and self._cluster is not None and not any(one.is_lent for one in self._actors):
                    self._leave(self._cluster)
                self._changed.notify_all()

    def find_ready(self, patience: Callable[[], None]) -> HiredActor | None:
        """Some actor that stands, busy or not; the first one is hired for it.

        None where none stands within two minutes: others have what the cluster has.
        """
        places = self.places(patience)
        deadline_s = time.monotonic() + _START_S
        while time.monotonic() < deadline_s:
            with self._changed:
                ready = [actor for actor in self._actors if self._is_ready(actor)]
                if ready:
                    return ready[0]
                if not self._actors and places:
                    self._actors.append(HiredActor(self._share_now()))
                self._changed.wait(TICK_S)
            patience()
        return None

    def close(self) -> None:
        """Let go of all actors and leave the cluster; while runs go on, once the last one has ended."""
        with self._changed:
            cluster = self._cluster
            if cluster is None:
                return
            if any(actor.is_lent for actor in self._actors):
                self._is_closing = True
            else:
                self._leave(cluster)

    def _take(self, model: str, patience: Callable[[], None]) -> HiredActor:
        with self._changed:
            self._waiting += 1
        try:
            while True:
                places = self.places(patience)
                with self._changed:
                    actor = self._choose(model, places)
                    if actor is not None:
                        actor.is_lent = True
                        return actor
                    self._changed.wait(TICK_S)
                patience()
        finally:
            with self._changed:
                self._waiting -= 1

    def _connected(self, address: str, patience: Callable[[], None]) -> Cluster:
        with self._changed:
            if self._cluster is not None and self._cluster.address != address:
                self._leave(self._cluster)
            if self._cluster is None or not self._cluster.is_usable:
                self._cluster, self._actors = Cluster(address), []
            cluster = self._cluster
        cluster.wait(patience)
        return cluster

    def _choose(self, model: str, places: int) -> HiredActor | None:
        """The actor to lend; None while there is none, though one may have been hired meanwhile."""
        share = self._share_now()
        self._let_go(share)
        idle = [actor for actor in self._actors if not actor.is_lent and self._is_ready(actor)]
        if idle:
            return min(idle, key=lambda actor: (model not in actor.models, len(actor.models)))
        starting = sum(not (actor.is_lent or actor in idle) for actor in self._actors)
        if starting < self._waiting and len(self._actors) < places:
            self._actors.append(HiredActor(share))
        return None

    def _share_now(self) -> Share:
        assert self._cluster is not None, "connected before"
        settings = SETTINGS.current
        gpus = settings.ray_actor_gpus
        return Share(
            cpus=_CPUS if settings.ray_actor_cpus is None else settings.ray_actor_cpus,
            gpus=gpus if gpus is not None else float(self._cluster.has_gpus()),
        )

    def _is_ready(self, actor: HiredActor) -> bool:
        """Whether it can run jobs; one that never will is let go, and the error that says why passes on."""
        try:
            return actor.is_ready()
        except LabError:
            self._actors.remove(actor)
            raise

    def _let_go(self, share: Share) -> None:
        """Forget the actors that have died, and end idle ones of another share than the settings ask for now."""
        for actor in self._actors:
            if actor.share != share and not (actor.is_lent or actor.is_lost):
                actor.kill()
        self._actors = [actor for actor in self._actors if actor.is_lent or not actor.is_lost]

    def _leave(self, cluster: Cluster) -> None:
        """Leave the cluster, and with it all actors, none of which is lent.

        Raises
        ------
        NotAvailableError
            If one is.
        """
        if any(actor.is_lent for actor in self._actors):
            raise NotAvailableError(
                f"runs go on on the Ray cluster {cluster.address!r}",
                hint="Wait for them, or cancel them; a process has one cluster at a time.",
            )
        for actor in self._actors:
            actor.kill()
        self._cluster, self._actors, self._is_closing = None, [], False
        cluster.close()
