"""`Parts`: gives each trigger exactly one verdict, in the order of the triggers.

    trigger ──► open part ──► pictures: taken, judged or lost ──► decided ──► answered, in order
                          └── deadline ──────────────────────────┘

A state machine with no thread and no clock: whoever calls says what time it is, in monotonic
seconds, and holds the lock. What is decided waits until all parts before it are. As every part has
the same time to its deadline, no part waits beyond its own.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from generalad.runtime.notification import Evidence
from generalad.runtime.station.verdict import Counts, Outcome, Reason, Safe, Verdict

if TYPE_CHECKING:
    from generalad.decision import Result
    from generalad.runtime.pipeline.tracker import Item


class Named(Protocol):
    """A recipe, as far as it matters here."""

    @property
    def name(self) -> str:
        """What a PLC calls it."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What became of one picture of a part: judged, or lost for a reason.

    Attributes:
        camera: name of the camera.
        outcome: None where it was not judged.
        reason, detail: why not.
        score: normalised, where there is one.
        result, item: of the pipeline, where there are.
    """

    camera: str
    outcome: Literal["pass", "reject"] | None
    reason: Reason | None = None
    detail: str = ""
    score: float | None = None
    result: Result | None = None
    item: Item | None = None

    @property
    def evidence(self) -> Evidence | None:
        """The image and its map, where it was scored."""
        item = self.item
        if item is None or item.frame.image is None or item.map is None or self.score is None:
            return None
        return Evidence(item.frame.image, item.map)


@dataclass(eq=False)
class Part:
    """One trigger on its way to its verdict.

    Attributes:
        id: of the trigger.
        name: what whoever triggered calls the part, or None.
        recipe: that judges it; one that is chosen later judges later parts.
        triggered, deadline: in monotonic seconds.
        missing: pictures that have not come yet, by camera.
        pictures: what became of those that did.
        verdict: once it is answered.
    """

    id: int
    name: str | None
    recipe: Named
    triggered: float
    deadline: float
    missing: Counter[str]
    pictures: list[Picture] = field(default_factory=list)
    verdict: Verdict | None = None
    decision: tuple[Outcome, Reason | None, str] | None = None

    @property
    def score(self) -> float | None:
        """The largest of its pictures."""
        return max((p.score for p in self.pictures if p.score is not None), default=None)


class Parts:
    """The parts that have no answer yet, in the order of their triggers."""

    def __init__(
        self,
        cameras: Mapping[str, int],
        *,
        needed: int | None = None,
        deadline: float = 0.5,
        at_once: int = 8,
        safe: Safe = "reject",
    ) -> None:
        """No part is open.

        Args:
            cameras: how many pictures each one takes of a part.
            needed: how many pictures must pass for the part to pass; None is all.
            deadline: seconds from the trigger to the verdict.
            at_once: parts that may be undecided; a trigger beyond that is an overrun.
            safe: what a part without verdict counts as.
        """
        self._cameras = dict(cameras)
        self._total = sum(cameras.values())
        self._needed = self._total if needed is None else needed
        self._deadline = deadline
        self._at_once = at_once
        self._safe = safe
        self._open: deque[Part] = deque()
        self._parts = self._passed = self._rejected = 0
        self._no_verdict: Counter[Reason] = Counter()
        self.without_trigger = self.refused = 0
        """Pictures without a part, and triggers without an id."""

    # What happens

    def trigger(
        self, id: int, name: str | None, recipe: Named, now: float, *, overrun: str = ""
    ) -> Part:
        """A part comes; its id is larger than all before. An overrun is decided at once.

        Args:
            id: of the trigger.
            name: of the part.
            recipe: that judges it.
            now: when it came.
            overrun: why it came too fast, if the caller knows; too many at a time is found here.
        """
        undecided = sum(part.decision is None for part in self._open)
        part = Part(id, name, recipe, now, now + self._deadline, Counter(self._cameras))
        self._parts += 1
        self._open.append(part)
        if undecided >= self._at_once:
            overrun = f"{undecided} parts had no verdict yet"
        if overrun:
            part.decision = ("no verdict", "overrun", overrun)
        return part

    def restore(self, id: int, name: str | None, recipe: Named, now: float) -> None:
        """A part that an earlier process left without a verdict; before the first trigger."""
        part = self.trigger(id, name, recipe, now)
        part.decision = ("no verdict", "restart", "the process before this one ended without it")

    def taken(self, part: Part, camera: str) -> None:
        """A picture has come and is on its way to be judged."""
        part.missing[camera] -= 1

    def lost(self, part: Part, picture: Picture, now: float) -> None:
        """A picture does not come; what was taken and cannot be judged is for `add`."""
        if part.missing[picture.camera] > 0:
            self.taken(part, picture.camera)
            self.add(part, picture, now)

    def add(self, part: Part, picture: Picture, now: float) -> None:
        """A picture that was taken is judged, or cannot be; nothing changes after the deadline."""
        self.expire(now)
        if part.decision is None:
            part.pictures.append(picture)
            part.decision = self._decide(part)

    def expire(self, now: float) -> None:
        """Decide on the parts whose deadline has come."""
        for part in self._open:
            if part.decision is None:
                if part.deadline > now:
                    break
                part.decision = self._overdue(part)

    def release(self, now: float) -> list[Part]:
        """The parts that can be answered now, with their verdicts; each is given out once."""
        answered = []
        while self._open and self._open[0].decision is not None:
            part = self._open.popleft()
            part.verdict = self._verdict(part, now)
            answered.append(part)
        return answered

    # What is known

    @property
    def undecided(self) -> Iterable[Part]:
        """The parts that may still get pictures, oldest first."""
        return (part for part in self._open if part.decision is None)

    @property
    def waiting(self) -> int:
        """Parts without an answer."""
        return len(self._open)

    @property
    def next_deadline(self) -> float | None:
        """When `expire` is to be called next; None while no part waits."""
        return next((part.deadline for part in self.undecided), None)

    def counts(self) -> Counts:
        """All numbers of one moment."""
        return Counts(
            parts=self._parts,
            passed=self._passed,
            rejected=self._rejected,
            no_verdict=dict(self._no_verdict),
            without_trigger=self.without_trigger,
            refused=self.refused,
        )

    # How it decides

    def _decide(self, part: Part) -> tuple[Outcome, Reason | None, str] | None:
        """As soon as no further picture can change it; None while one can."""
        passed = sum(picture.outcome == "pass" for picture in part.pictures)
        rejected = sum(picture.outcome == "reject" for picture in part.pictures)
        if passed >= self._needed:
            return ("pass", None, "")
        if rejected > self._total - self._needed:
            return ("reject", None, "")
        if passed + self._total - len(part.pictures) >= self._needed:
            return None
        if rejected + self._total - len(part.pictures) > self._total - self._needed:
            return None  # a further picture may still reject it, which says more than a loss
        lost = next(picture for picture in part.pictures if picture.outcome is None)
        return ("no verdict", lost.reason, lost.detail)

    def _overdue(self, part: Part) -> tuple[Outcome, Reason | None, str]:
        lost = next((picture for picture in part.pictures if picture.outcome is None), None)
        if lost is not None:
            return ("no verdict", lost.reason, lost.detail)
        within = f"within {self._deadline * 1000:.0f} ms"
        missing = [camera for camera, count in part.missing.items() if count > 0]
        if missing:
            return ("no verdict", "picture lost", f"{', '.join(missing)}: no picture {within}")
        judged = f"{len(part.pictures)} of {self._total} pictures judged {within}"
        return ("no verdict", "late", judged)

    def _verdict(self, part: Part, now: float) -> Verdict:
        assert part.decision is not None
        outcome, reason, detail = part.decision
        if outcome == "pass":
            self._passed += 1
        elif outcome == "reject":
            self._rejected += 1
        else:
            assert reason is not None
            self._no_verdict[reason] += 1
        return Verdict(
            id=part.id,
            part=part.name,
            outcome=outcome,
            reason=reason,
            detail=detail,
            counts_as=self._safe if outcome == "no verdict" else outcome,
            score=part.score,
            triggered=part.triggered,
            decided=now,
            recipe=part.recipe.name,
        )
