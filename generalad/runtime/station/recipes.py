"""`Recipe`: an artifact that judges parts, and what follows each camera with it; `Recipes`: all.

A recipe is loaded beside the one in use, passes its self-test, and is then used from the next part
on. Parts that are on their way keep theirs; it is closed when the last of them is answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from generalad.errors import GadError, UsageError, key_hint
from generalad.runtime.backends.session import Session
from generalad.runtime.line.stream import Stream
from generalad.runtime.pipeline.tracker import SourceTracker

Opener = Callable[[Path], Session]
"""Opens an artifact for a station."""


class Recipe:
    """An open artifact with its own trackers, as thresholds and references are its own."""

    def __init__(self, name: str, model: str, session: Session, streams: Sequence[Stream]) -> None:
        """Raises UsageError where the rule of a stream does not fit the artifact."""
        self.name, self.model, self.session = name, model, session
        self.trackers: dict[str, SourceTracker] = {
            stream.name: stream.tracker(session.spec) for stream in streams
        }


class Recipes:
    """The recipes that there are, by name; the first one is the usual one."""

    def __init__(
        self, artifacts: Mapping[str, Path | Session], streams: Sequence[Stream], open: Opener
    ) -> None:
        """Nothing is opened.

        Args:
            artifacts: an open session is used as it is, without a self-test.
            streams: of the cameras.
            open: opens a path.
        """
        self._artifacts, self._streams, self._open = dict(artifacts), streams, open

    @property
    def names(self) -> tuple[str, ...]:
        """In their order."""
        return tuple(self._artifacts)

    def load(self, name: str) -> Recipe:
        """Open a recipe and let it pass its self-test, which also warms it up.

        Raises:
            GadError: there is no such recipe, it cannot be opened, or it failed.
        """
        if name not in self._artifacts:
            raise UsageError(f"no recipe {name!r}", remedy=key_hint(name, self._artifacts))
        artifact = self._artifacts[name]
        if not isinstance(artifact, Path):
            return Recipe(name, "session", artifact, self._streams)
        from generalad.runtime.selftest import selftest_of

        session = self._open(artifact)
        try:
            selftest_of(session, str(artifact)).check()
            return Recipe(name, artifact.name, session, self._streams)
        except BaseException:
            session.close()
            raise

    def close(self, recipe: Recipe) -> None:
        """Free a recipe that no part needs any more; a session that was given stays open."""
        if isinstance(self._artifacts[recipe.name], Path):
            recipe.session.close()


class Chooser:
    """Loads the recipe that was asked for last, in a thread of its own."""

    def __init__(
        self,
        recipes: Recipes,
        *,
        use: Callable[[Recipe], None],
        changed: Callable[[], None],
        remember: Callable[[str], None],
    ) -> None:
        """Nothing is loaded.

        Args:
            recipes: to choose from.
            use: takes a loaded recipe from the next part on; returns at once.
            changed: hears of news, in whichever thread they come.
            remember: keeps the name of the recipe in use for the next process.
        """
        self._recipes, self._use = recipes, use
        self._changed, self._remember = changed, remember
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.asked = ""
        """Being loaded, or empty."""
        self.refused = ""
        """Why the one that was asked for last is not in use, or empty."""

    def ask(self, name: str) -> None:
        """Load a recipe; returns at once. The last one that is asked for wins."""
        with self._lock:
            self.asked, self.refused = name, ""
        self._changed()  # before the answer, which may come at once
        with self._lock:
            if self._thread is None and self.asked:
                self._thread = threading.Thread(target=self._work, name="gad-recipe", daemon=True)
                self._thread.start()

    def join(self, timeout: float) -> None:
        """Wait for what is being loaded."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _work(self) -> None:
        while not self._answer(self.asked):
            pass  # another one was asked for meanwhile

    def _answer(self, name: str) -> bool:
        """Load a recipe and use it; False where it is not the one that was asked for last."""
        recipe, refused = self._load(name)
        with self._lock:
            last = name == self.asked
            if recipe is not None and last:
                self._use(recipe)
            elif recipe is not None:
                self._recipes.close(recipe)
            if last:
                self.asked, self.refused, self._thread = "", refused, None
        if last:
            self._changed()
            if recipe is not None:
                self._remember(name)
        return last

    def _load(self, name: str) -> tuple[Recipe | None, str]:
        try:
            return self._recipes.load(name), ""
        except GadError as error:
            return None, error.message
        except Exception as error:  # of a library
            return None, f"{type(error).__name__}: {error}"
