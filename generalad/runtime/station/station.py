"""`Station`: inspects parts, from the trigger to the verdict, until it is stopped.

    cameras ─► Coordinator ─► Judge (network) ─► Coordinator ─► teller ─► PLCs, callers
       triggers ──┘                                               └────► Recorder ─► sinks

Four kinds of threads: one or two a camera, the network's, the teller's, which also watches the
deadlines, and the recorder's. Only the teller speaks to PLCs, so that verdicts come in order.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from types import TracebackType

from generalad.errors import GadError
from generalad.progress import Log
from generalad.runtime.interrupt import on_interrupt
from generalad.runtime.notification import Notification
from generalad.runtime.sinks.sink import Sink
from generalad.runtime.sources import Frame
from generalad.runtime.station.cameras import CameraPlan, StationCamera
from generalad.runtime.station.coordinator import Coordinator
from generalad.runtime.station.journal import Journal
from generalad.runtime.station.judge import Job, Judge, Judged
from generalad.runtime.station.notices import of_start, of_verdict
from generalad.runtime.station.parts import Part, Parts
from generalad.runtime.station.plan import StationPlan
from generalad.runtime.station.plc.interface import Accepted, Plc, Refused
from generalad.runtime.station.recipes import Chooser, Recipe, Recipes
from generalad.runtime.station.recorder import Recorder
from generalad.runtime.station.station_view import plc_view, station_view
from generalad.runtime.station.triggers.http_trigger import HttpTrigger
from generalad.runtime.station.verdict import StationState, Verdict
from generalad.runtime.view import Observer, View

_PUBLISH_EVERY = 0.5
"""Seconds between two states for the PLCs, whose heartbeat stops without them."""

_RECENT = 1000
"""Verdicts that `inspect` may still be asked for."""

_TIMES = 10_000
"""Verdicts over which times are shown."""


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
        on_problem: Log | None = None,
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
        self._plan, self._plcs = plan, tuple(plcs)
        self._on_verdict = on_verdict
        self._say: Log = on_problem or (lambda text: None)
        self._recipes = Recipes(plan.recipes, [camera.stream for camera in plan.cameras], plan.open)
        self._chooser = Chooser(self._recipes, self._use, self._publish)
        self._recorder = Recorder(sinks, on_notification=on_notification, on_problem=on_problem)
        self._judge = Judge(self._judged, self._skipped, batch=plan.batch)
        self._cameras = {camera.stream.name: self._camera(camera) for camera in plan.cameras}
        self._threads: list[threading.Thread] = []
        self._error: BaseException | None = None
        self._owed: dict[int, set[int]] = {}
        self._owed_lock = threading.RLock()
        self._published: tuple[float, StationState | None] = (0.0, None)
        self._publishing = threading.RLock()
        self._retired: list[tuple[float, Recipe]] = []
        self._times: deque[float] = deque(maxlen=_TIMES)
        self._recent: OrderedDict[int, Verdict] = OrderedDict()
        self._told = threading.Condition()
        self._over = threading.Event()
        self._began = time.monotonic()

    def _camera(self, plan: CameraPlan) -> StationCamera:
        eye = self._plan.eye
        look = eye[1] if eye is not None and eye[0] == plan.stream.name else None
        return StationCamera(plan, look=look, on_notification=self._recorder.tell)

    # From start to end

    def start(self) -> None:
        """Load the recipe, open everything and begin.

        Raises:
            GadError: the recipe cannot be used, or a sink, PLC or folder not be opened.
        """
        plan = self._plan
        self._journal = Journal(plan.state)
        with contextlib.ExitStack() as undo:
            undo.callback(self._journal.close)
            chosen = self._journal.recipe
            recipe = self._recipes.load(
                chosen if chosen in self._recipes.names else self._recipes.names[0]
            )
            undo.callback(self._recipes.close, recipe)
            self._recorder.open([c.stream.source for c in plan.cameras], recipe.session.spec)
            self._coordinator = Coordinator(
                self._parts(),
                {name: camera.facts for name, camera in self._cameras.items()},
                self._journal,
                self,
                window=plan.window,
                begun_by_pictures=plan.by == "camera",
            )
            self._coordinator.recipe = recipe
            for number, plc in enumerate(self._plcs):
                plc.start(_Requests(self, number))
                undo.callback(plc.close)
            undo.pop_all()
        self._begin_threads()

    def _parts(self) -> Parts:
        plan = self._plan
        return Parts(
            {camera.stream.name: camera.pictures for camera in plan.cameras},
            needed=plan.needed,
            deadline=plan.deadline,
            at_once=plan.at_once,
            safe=plan.safe,
        )

    def _begin_threads(self) -> None:
        journal = self._journal
        self._recorder.tell(of_start(self._plan.name, journal))
        self._publish()
        for verdict in journal.answered:
            self._tell(verdict, None)
        self._coordinator.restore()
        works = {"judge": self._judge.run, "record": self._recorder.run, "tell": self._teller}
        for name, work in works.items():
            thread = threading.Thread(
                target=self._guard, args=(work,), name=f"gad-station-{name}", daemon=True
            )
            self._threads.append(thread)
            thread.start()
        for camera in self._cameras.values():
            camera.start(self._coordinator)
        if isinstance(self._plan.receiver, HttpTrigger):
            self._plan.receiver.start(self.inspect)
        elif self._plan.receiver is not None:
            self._plan.receiver.start(self.trigger)

    def close(self) -> None:
        """Refuse triggers, answer what waits, and free everything."""
        if self._plan.receiver is not None:
            self._plan.receiver.close()
        self._coordinator.close()
        self._publish()
        until = time.monotonic() + self._plan.deadline + 0.5
        while self._coordinator.waiting and time.monotonic() < until and self._error is None:
            time.sleep(0.005)
        for camera in self._cameras.values():
            camera.stop()
        self._judge.close()
        self._over.set()
        judge, record, teller = self._threads
        judge.join(5.0)
        teller.join(5.0)
        self._wait_for_plcs(1.0)
        for plc in self._plcs:
            plc.close()
        self._recorder.close()
        record.join(5.0)
        for error in self._recorder.close_sinks():
            self._say(str(error))
        for camera in self._cameras.values():
            camera.join(2.0)
        self._chooser.join(5.0)
        recipe = self._coordinator.recipe
        for old in [*(recipe for _, recipe in self._retired), recipe]:
            if isinstance(old, Recipe) and not judge.is_alive():
                self._recipes.close(old)
        self._journal.close()

    def _wait_for_plcs(self, seconds: float) -> None:
        """Give PLCs a moment for the last verdicts; what they do not take, the next run tells."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(
            plc.status.connected and plc.status.waiting for plc in self._plcs
        ):
            time.sleep(0.01)

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

    # Triggers, from any thread

    def trigger(self, part: str | None = None) -> Accepted | Refused:
        """A part is in place; its verdict comes within the deadline."""
        return self._coordinator.trigger(part)

    def inspect(self, part: str | None = None) -> Verdict | str:
        """The same, and wait for the verdict; a text says why the trigger was refused."""
        accepted = self.trigger(part)
        if isinstance(accepted, Refused):
            return accepted.reason
        with self._told:
            self._told.wait_for(lambda: accepted.id in self._recent, self._plan.deadline + 1)
            found = self._recent.get(accepted.id)
        return "no answer" if found is None else found

    def by_plc(self, part: str | None) -> Accepted | Refused:
        """A trigger of a PLC, which counts where the plan says so."""
        return self.trigger(part) if self._plan.by == "plc" else Refused("not ready")

    def select_recipe(self, name: str) -> None:
        """Load a recipe and use it from the next part on; `state` says when, or why not."""
        self._chooser.ask(name)

    def acknowledge(self, id: int, receiver: int) -> None:
        """A receiver has a verdict: a PLC by its number, or -1 for the sinks."""
        with self._owed_lock:
            owed = self._owed.get(id)
            if owed is None:
                return
            owed.discard(receiver)
            if owed:
                return
            del self._owed[id]
        with self._coordinator.changed:
            self._journal.delivered(id)

    # Tasks of the coordinator

    def take_picture(self, camera: str, part: Part) -> None:
        """See `Tasks`."""
        self._cameras[camera].take_picture(part)

    def judge(self, camera: str, part: Part, frame: Frame) -> None:
        """See `Tasks`."""
        self._judge.submit(Job(camera, part, frame))

    def unwanted(self, camera: str, frame: Frame, reason: str) -> None:
        """See `Tasks`."""
        self._cameras[camera].unwanted(frame, reason)

    def _judged(self, judged: Judged) -> None:
        self._coordinator.judged(judged.part, judged.picture)
        self._recorder.judged(judged)

    def _skipped(self, camera: str, frame: Frame, reason: str) -> None:
        self._cameras[camera].unwanted(frame, reason)

    # The teller

    def _teller(self) -> None:
        while not (self._over.is_set() and not self._coordinator.waiting):
            for part in self._coordinator.answers(time.monotonic() + _PUBLISH_EVERY / 2):
                assert part.verdict is not None
                self._tell(part.verdict, part)
            self._publish()
            self._house_keeping()

    def _tell(self, verdict: Verdict, part: Part | None) -> None:
        """Give a verdict to all who are to have it; without a part it is told again."""
        with self._owed_lock:
            self._owed[verdict.id] = {-1, *range(len(self._plcs))}
        for plc in self._plcs:
            plc.deliver(verdict)
        with self._told:
            self._recent[verdict.id] = verdict
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)
            self._told.notify_all()
        if part is not None and verdict.reason != "restart":
            self._times.append(verdict.milliseconds)
        if self._on_verdict is not None:
            self._on_verdict(verdict)
        self._recorder.tell(
            of_verdict(self._plan.name, verdict, part), lambda: self.acknowledge(verdict.id, -1)
        )

    def _publish(self) -> None:
        with self._publishing:
            state, now = self.state(), time.monotonic()
            if state != self._published[1] or now - self._published[0] >= _PUBLISH_EVERY:
                self._published = (now, state)
                for plc in self._plcs:
                    plc.publish(state)

    def _house_keeping(self) -> None:
        now = time.monotonic()
        while self._retired and self._retired[0][0] < now:
            recipe = self._retired.pop(0)[1]
            self._judge.then(lambda recipe=recipe: self._recipes.close(recipe))  # type: ignore[misc]

    def _use(self, recipe: Recipe) -> None:
        """Judge by a recipe from the next part on."""
        with self._coordinator.changed:
            old, self._coordinator.recipe = self._coordinator.recipe, recipe
        if isinstance(old, Recipe):
            # Parts that were triggered before keep it until their deadline.
            self._retired.append((time.monotonic() + self._plan.deadline + 1.0, old))
        try:
            self._journal.chose(recipe.name)
        except GadError as error:
            self._say(f"recipe {recipe.name}: in use, but forgotten at a restart: {error.message}")

    # What is known, from any thread

    def state(self) -> StationState:
        """What PLCs are told."""
        counts, recipe = self._coordinator.counts(), self._coordinator.recipe
        problems = [camera.fault() for camera in self._cameras.values()]
        problems += [self._coordinator.problem, self._judge.problem]
        problems += [getattr(self._plan.receiver, "problem", "")]
        problems += ["shutting down"] if self._coordinator.closing else []
        error = next(filter(None, problems), "")
        return StationState(
            ready=not error,
            busy=counts.waiting > 0,
            error=error,
            recipe="" if recipe is None else recipe.name,
            model=recipe.model if isinstance(recipe, Recipe) else "",
            asked=self._chooser.asked,
            refused=self._chooser.refused,
            started=self._journal.started,
            started_anew=self._journal.started_anew,
            counts=counts,
        )

    def view(self) -> View:
        """For displays and metrics."""
        recipe = self._coordinator.recipe
        assert isinstance(recipe, Recipe)
        problem = (
            self._journal.problem
            and f"after a kill parts would be forgotten: {self._journal.problem}"
        )
        return View(
            streams=tuple(tracker.view() for tracker in recipe.trackers.values()),
            sinks=(*map(plc_view, self._plcs), *self._recorder.views()),
            not_written=self._recorder.not_written,
            seconds=time.monotonic() - self._began,
            busy=self._judge.busy.seconds,
            backend=recipe.session.backend,
            stages={"writing": self._recorder.busy.seconds},
            station=station_view(self._plan.name, self.state(), list(self._times), problem),
        )


class _Requests:
    """What one PLC asks of a station, see `Requests`."""

    def __init__(self, station: Station, number: int) -> None:
        self._station, self._number = station, number

    def trigger(self, part: str | None) -> Accepted | Refused:
        return self._station.by_plc(part)

    def select_recipe(self, name: str) -> None:
        self._station.select_recipe(name)

    def acknowledge(self, id: int) -> None:
        self._station.acknowledge(id, self._number)
