"""`Station`: inspects parts, from the trigger to the verdict, until it is stopped.

    cameras ─► Coordinator ─► Judge (network) ─► Coordinator ─► Teller ─► PLCs, callers
       triggers ──┘                                               └────► Recorder ─► sinks

Four kinds of threads: one or two a camera, the network's, the teller's, which also watches the
deadlines, and the recorder's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from types import TracebackType

from generalad.errors import GadError
from generalad.progress import Log, no_log
from generalad.runtime.interrupt import on_interrupt
from generalad.runtime.notification import Notification
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import Frame
from generalad.runtime.station.cameras import CameraPlan, StationCamera
from generalad.runtime.station.coordinator import Coordinator
from generalad.runtime.station.journal import Journal
from generalad.runtime.station.judge import Job, Judge, Judged
from generalad.runtime.station.notices import of_start
from generalad.runtime.station.parts import Part, Parts
from generalad.runtime.station.plan import StationPlan
from generalad.runtime.station.plc.interface import Accepted, Plc, Refused
from generalad.runtime.station.recipes import Chooser, Recipe, Recipes
from generalad.runtime.station.recorder import Recorder
from generalad.runtime.station.station_view import plc_view, state_of, station_view
from generalad.runtime.station.teller import PUBLISH_EVERY, Teller
from generalad.runtime.station.triggers.http_trigger import HttpTrigger
from generalad.runtime.station.verdict import StationState, Verdict
from generalad.runtime.view import Observer, View


class Station:
    """Use it as a context, or call `run`."""

    def __init__(
        self,
        plan: StationPlan,
        *,
        sinks: Sequence[Sink] = (),
        plcs: Sequence[Plc] = (),
        on_verdict: Callable[[Verdict], None] | None = None,
        on_notification: Callable[[Notification], None] | None = None,
        on_problem: Log = no_log,
    ) -> None:
        """Nothing is opened before `start`.

        Args:
            plan: what the station is.
            sinks: opened and closed here; they take results, verdicts and other notifications.
            plcs: started and closed here; each gets every verdict, in order.
            on_verdict: called for every verdict in the teller's thread; must return soon.
            on_notification: called for every notification, in the recorder's thread.
            on_problem: told in one line of what goes wrong.
        """
        self._plan, self._plcs, self._say = plan, tuple(plcs), quietly(on_problem)
        streams = [camera.stream for camera in plan.cameras]
        self._recipes = Recipes(plan.recipes, streams, plan.open)
        self._chooser = Chooser(
            self._recipes, use=self._use, changed=self._publish, remember=self._remember
        )
        self._recorder = Recorder(sinks, on_notification=on_notification, on_problem=self._say)
        self._teller = Teller(
            plan.name,
            self._plcs,
            self._recorder,
            on_delivered=self._delivered,
            on_written=self._keep_ahead,
            on_verdict=on_verdict,
        )
        self._judge = Judge(self._judged, self.unwanted, batch=plan.batch)
        self.cameras = {camera.stream.name: self._camera(camera) for camera in plan.cameras}
        """By name."""
        self._threads: dict[str, threading.Thread] = {}
        self._error: BaseException | None = None
        self._no_ids = ""
        self._retired: list[tuple[float, Recipe]] = []
        self._over = threading.Event()
        self._began = time.monotonic()

    def _camera(self, plan: CameraPlan) -> StationCamera:
        eye = self._plan.eye
        look = eye[1] if eye is not None and eye[0] == plan.stream.name else None
        return StationCamera(
            plan, window=self._plan.window, look=look, on_notification=self._recorder.tell
        )

    # From start to end

    def start(self) -> None:
        """Load the recipe, open everything and begin.

        Raises:
            GadError: the recipe cannot be used, or a sink, PLC or folder not be opened.
        """
        self._journal = Journal(self._plan.state)
        with contextlib.ExitStack() as undo:
            undo.callback(self._journal.close)
            if self._plan.receiver is not None:
                undo.callback(self._plan.receiver.close)
            recipe = self._recipes.load(self._first_recipe())
            undo.callback(self._recipes.close, recipe)
            sources = [camera.stream.source for camera in self._plan.cameras]
            self._recorder.open(sources, recipe.session.spec)
            undo.callback(self._recorder.close_sinks)
            self._coordinator = self._make_coordinator()
            for camera in self.cameras.values():  # first, as some take seconds to be there
                camera.start(self._coordinator)
                undo.callback(camera.stop)
            self._start_plcs()
            undo.pop_all()
        self._begin(recipe)

    def _start_plcs(self) -> None:
        """All at once, as a server takes seconds; raises what the first failing one raised."""
        with futures.ThreadPoolExecutor(max(1, len(self._plcs))) as pool:
            started = [
                pool.submit(plc.start, _Requests(self, number))
                for number, plc in enumerate(self._plcs)
            ]
        failed = [work.exception() for work in started]
        if any(failed):
            for plc, why in zip(self._plcs, failed, strict=True):
                if why is None:
                    plc.close()
            raise next(filter(None, failed))

    def _begin(self, recipe: Recipe) -> None:
        """Tell what an earlier process did not, and take triggers from now on."""
        self._recorder.tell(of_start(self._plan.name, self._journal))
        for verdict in self._journal.answered:
            self._teller.tell(verdict, None)
        self._coordinator.begin(recipe)
        self._publish()
        works = {"judge": self._judge.run, "record": self._recorder.run, "tell": self._answer}
        for name, work in works.items():
            self._threads[name] = threading.Thread(
                target=self._guard, args=(work,), name=f"gad-station-{name}", daemon=True
            )
            self._threads[name].start()
        receiver = self._plan.receiver
        if isinstance(receiver, HttpTrigger):
            receiver.start(self.inspect)
        elif receiver is not None:
            receiver.start(self.trigger)

    def _first_recipe(self) -> str:
        """The one that was in use before, or the usual one."""
        before, names = self._journal.recipe, self._recipes.names
        return before if before in names else names[0]

    def _make_coordinator(self) -> Coordinator:
        plan = self._plan
        parts = Parts(
            {camera.stream.name: camera.pictures for camera in plan.cameras},
            needed=plan.needed,
            deadline=plan.deadline,
            at_once=plan.at_once,
            safe=plan.safe,
        )
        return Coordinator(
            parts,
            {name: camera.facts for name, camera in self.cameras.items()},
            self._journal,
            self,
            window=plan.window,
            begun_by_pictures=plan.by == "camera",
        )

    def close(self) -> None:
        """Refuse triggers, answer what waits, and free everything."""
        if self._plan.receiver is not None:
            self._plan.receiver.close()
        self._coordinator.close()
        self._publish()
        until = time.monotonic() + self._plan.deadline + 0.5
        while self._coordinator.waiting and time.monotonic() < until and self._error is None:
            time.sleep(0.005)
        for camera in self.cameras.values():
            camera.stop()
        self._judge.close()
        self._over.set()
        self._threads["judge"].join(5.0)
        self._threads["tell"].join(5.0)
        self._teller.wait_for_plcs(1.0)
        for plc in self._plcs:
            plc.close()
        self._recorder.close()
        self._threads["record"].join(5.0)
        for error in self._recorder.close_sinks():
            self._say(str(error))
        for camera in self.cameras.values():
            camera.join(2.0)
        self._chooser.join(5.0)
        self._close_recipes()
        self._journal.close()

    def _close_recipes(self) -> None:
        if not self._threads["judge"].is_alive():  # or it hangs in one of them
            for recipe in (*(recipe for _, recipe in self._retired), self._coordinator.recipe):
                if isinstance(recipe, Recipe):
                    self._recipes.close(recipe)

    def run(
        self, stop: threading.Event | None = None, observers: Sequence[Observer] = ()
    ) -> int | None:
        """Run until `stop` is set, or Ctrl-C or SIGTERM comes, whose number is returned.

        Raises:
            GadError: see `start`.
        """
        stop = stop or threading.Event()
        signals: list[int] = []
        with on_interrupt(signals.append):
            self.start()
            with contextlib.ExitStack() as stack:
                stack.callback(self.close)
                for observer in observers:
                    observer.begin(self.view)
                    stack.callback(observer.end)
                while not stop.is_set() and not signals and self._error is None:
                    stop.wait(0.1)
        if self._error is not None:
            raise self._error
        return signals[0] if signals else None

    def __enter__(self) -> Station:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _guard(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._error = self._error or error

    # What is asked of it, from any thread

    def trigger(self, part: str | None = None) -> Accepted | Refused:
        """A part is in place; its verdict comes within the deadline."""
        return self._coordinator.trigger(part)

    def inspect(self, part: str | None = None) -> Verdict | str:
        """The same, and wait for the verdict; a text says why the trigger was refused."""
        accepted = self.trigger(part)
        if isinstance(accepted, Refused):
            return accepted.reason
        found = self._teller.wait_for(accepted.id, self._plan.deadline + 1)
        return "no answer" if found is None else found

    def by_plc(self, part: str | None) -> Accepted | Refused:
        """A trigger of a PLC, which counts where the plan says so."""
        return self.trigger(part) if self._plan.by == "plc" else Refused("not ready")

    def select_recipe(self, name: str) -> None:
        """Load a recipe and use it from the next part on; `state` says when, or why not."""
        self._chooser.ask(name)

    def acknowledge(self, id: int, receiver: int) -> None:
        """A PLC, by its number, has a verdict."""
        self._teller.acknowledge(id, receiver)

    def state(self) -> StationState:
        """What PLCs are told."""
        problems = [camera.fault() for camera in self.cameras.values()]
        problems += [self._coordinator.problem, self._judge.problem]
        problems += [getattr(self._plan.receiver, "problem", "")]
        problems += ["shutting down"] if self._coordinator.closing else []
        problems += [f"{type(self._error).__name__}: {self._error}"] if self._error else []
        error = next(filter(None, problems), "")
        return state_of(error, self._coordinator, self._chooser, self._journal)

    def view(self) -> View:
        """For displays and metrics."""
        recipe, problem = self._coordinator.recipe, self._journal.problem
        assert isinstance(recipe, Recipe)
        return View(
            streams=tuple(tracker.view() for tracker in recipe.trackers.values()),
            sinks=(*map(plc_view, self._plcs), *self._recorder.views()),
            not_written=self._recorder.not_written,
            seconds=time.monotonic() - self._began,
            busy=self._judge.busy.seconds,
            backend=recipe.session.backend,
            stages={"writing": self._recorder.busy.seconds},
            station=station_view(
                self._plan.name,
                self.state(),
                list(self._teller.times),
                f"after a kill parts would be forgotten: {problem}" if problem else "",
            ),
        )

    # Tasks of the coordinator, and what comes of them

    def take_picture(self, camera: str, part: Part) -> None:
        """See `Tasks`."""
        self.cameras[camera].take_picture(part)

    def judge(self, camera: str, part: Part, frame: Frame) -> None:
        """See `Tasks`."""
        self._judge.submit(Job(camera, part, frame))

    def unwanted(self, camera: str, frame: Frame, reason: str) -> None:
        """See `Tasks`."""
        self.cameras[camera].unwanted(frame, reason)

    def _judged(self, judged: Judged) -> None:
        self._coordinator.judged(judged.part, judged.picture)
        self._recorder.judged(judged)

    def _answer(self) -> None:
        """The teller's thread."""
        while not (self._over.is_set() and not self._coordinator.waiting):
            for part in self._coordinator.answers(time.monotonic() + PUBLISH_EVERY / 2):
                assert part.verdict is not None
                self._teller.tell(part.verdict, part)
            self._publish()
            while self._retired and self._retired[0][0] < time.monotonic():
                self._judge.then(_closing(self._recipes, self._retired.pop(0)[1]))

    def _publish(self) -> None:
        self._teller.publish(self.state)

    def _delivered(self, id: int) -> None:
        with self._coordinator.changed:
            self._journal.delivered(id)

    def _keep_ahead(self) -> None:
        """Reserve further ids in time; said once where that fails."""
        before, self._no_ids = self._no_ids, ""
        try:
            self._journal.keep_ahead()
        except GadError as error:
            self._no_ids = f"ids run out: {error.message}"
        if self._no_ids and not before:
            self._say(self._no_ids)

    def _use(self, recipe: Recipe) -> None:
        """Judge by a recipe from the next part on."""
        with self._coordinator.changed:
            old, self._coordinator.recipe = self._coordinator.recipe, recipe
        if isinstance(old, Recipe):
            # Parts that were triggered before keep it until their deadline.
            self._retired.append((time.monotonic() + self._plan.deadline + 1.0, old))

    def _remember(self, recipe: str) -> None:
        try:
            self._journal.chose(recipe)
        except GadError as error:
            self._say(f"recipe {recipe}: in use, but forgotten at a restart: {error.message}")


def quietly(say: Log) -> Log:
    """The same, where nobody can be told that telling failed: a log may be on a full disk."""

    def told(line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            say(line)

    return told


def _closing(recipes: Recipes, recipe: Recipe) -> Callable[[], None]:
    return lambda: recipes.close(recipe)


class _Requests:
    """What one PLC asks, see `Requests`; each acknowledges for itself."""

    def __init__(self, station: Station, number: int) -> None:
        self._station, self._number = station, number
        self.trigger, self.select_recipe = station.by_plc, station.select_recipe

    def acknowledge(self, id: int) -> None:
        self._station.acknowledge(id, self._number)
