"""Independent pieces of work, one after another here or as tasks of a Ray cluster.

    items ─► spread(work, items) ─► (place of the item, what came of it), in the order of their end

Ray (Moritz et al. 2018, "Ray: A distributed framework for emerging AI applications") begins a task
again elsewhere when its worker or node dies; work that resumes by itself then goes on from there.
All machines must see the files that the work reads and writes under the same paths.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, TypeVar

from generalad.errors import ConfigError, GadError, require_extra

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Spread(Protocol):
    """Does work on items; an item's own GadError is what came of it, and the others go on."""

    def __call__(
        self, work: Callable[[Item], Outcome], items: Sequence[Item]
    ) -> Generator[tuple[int, Outcome | GadError], None, None]:
        """Yield the place of each item among `items` and its outcome; closed, it does no more."""
        ...


def one_after_another(
    work: Callable[[Item], Outcome], items: Sequence[Item]
) -> Generator[tuple[int, Outcome | GadError], None, None]:
    """A `Spread` in this process, in order."""
    for place, item in enumerate(items):
        found: Outcome | GadError
        try:
            found = work(item)
        except GadError as error:
            found = error
        yield place, found


def on_ray(address: str, *, device: str | None = None) -> Spread:
    """A `Spread` over a Ray cluster. Work and items must be picklable.

    A task takes an equal share of the processors, at most those of the smallest node, and a card
    where there are some or `device` asks for one.

    Args:
        address: of the cluster, "auto" for the one this machine belongs to, "local" for this
            machine alone.
        device: that the work runs on; None for a card if the cluster has one.

    Raises:
        ConfigError: no cluster there, or none that could do the work.
        MissingExtraError: Ray is not installed.
    """
    connect(address)

    def spread(
        work: Callable[[Item], Outcome], items: Sequence[Item]
    ) -> Generator[tuple[int, Outcome | GadError], None, None]:
        import ray

        processors, cards = _share(len(items), device)
        begin = ray.remote(_told).options(num_cpus=processors, num_gpus=cards)
        running = {begin.remote(work, item): place for place, item in enumerate(items)}
        try:
            while running:
                (task,), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(task), _outcome(task)
        finally:
            for task in running:  # of a caller that gave up, or of Ctrl-C
                ray.cancel(task, force=True)

    return spread


def connect(address: str) -> None:
    """Join a Ray cluster, unless this process has joined one already; errors as in `on_ray`."""
    require_extra("--ray", "ray", "ray")
    import ray

    if ray.is_initialized():
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=None if address == "local" else address,
            log_to_driver=False,
            logging_level="error",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"no Ray cluster at {address!r}: {str(error).splitlines()[0]}",
            remedy="start one with ray start --head, or take --ray local",
        ) from error
    finally:
        # Ray's own writes a trace of its insides where `gad` says that it was interrupted.
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def gave_up(error: Exception) -> GadError:
    """The one-line form of an error of Ray."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return GadError(
        f"the cluster gave up: {lines[-1] if lines else type(error).__name__}",
        remedy="repeat the call: what is done is kept",
    )


def _share(count: int, device: str | None) -> tuple[int, int]:
    """Processors and cards of one of `count` tasks."""
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    processors = [int(found["CPU"]) for found in nodes if found.get("CPU", 0) >= 1]
    has_cards = any(found.get("GPU", 0) >= 1 for found in nodes)
    wants_card = has_cards if device is None else device.startswith("cuda")
    if not processors or (wants_card and not has_cards):
        missing = "processors" if not processors else "cards"
        raise ConfigError(
            f"the cluster has no {missing}", remedy="start its nodes first, or choose --device cpu"
        )
    fair = sum(processors) // max(1, count)
    return max(1, min(fair, *processors)), int(wants_card)


def _told(work: Callable[[Any], Any], item: Any) -> tuple[Any, tuple[str, str, int] | None]:
    """Runs on a worker: what came of an item, or the words and exit code of its GadError."""
    try:
        return work(item), None
    except GadError as error:
        return None, (error.message, error.remedy, error.exit_code)


def _outcome(task: Any) -> Any:
    import ray
    import ray.exceptions

    try:
        found, failure = ray.get(task)
    except ray.exceptions.RayError as error:
        return gave_up(error)
    if failure is None:
        return found
    message, remedy, exit_code = failure
    made = GadError(message, remedy=remedy)
    made.exit_code = exit_code
    return made
