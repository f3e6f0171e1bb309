"""The queue on disk: what was promised is delivered, waits, or is counted as dropped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from delivery_helpers import PATIENCE, message
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from generalad.errors import StorageError, UsageError
from generalad.runtime.delivery.limits import Limits
from generalad.runtime.delivery.message import IMPORTANCE, Message, MessageKind, safe_level
from generalad.runtime.delivery.outbox import Outbox
from generalad.runtime.delivery.store import Store

KINDS: tuple[MessageKind, ...] = ("event", "camera", "fault", "drift", "result")


def drain(outbox: Outbox) -> list[str]:
    ids = []
    while (first := outbox.next()) is not None:
        ids.append(first.id)
        outbox.delivered(first.id)
    return ids


def balanced(outbox: Outbox) -> bool:
    tally = outbox.tally
    return tally.promised == tally.delivered + sum(tally.dropped.values()) + tally.waiting


def test_messages_and_counts_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "queue.sqlite"
    outbox = Outbox(path)
    wanted = Message("id-1", "fault", "line/fault", '{"größe": 1}'.encode())
    outbox.put(wanted)
    outbox.put(message(2))
    outbox.put(message(3))
    assert outbox.next() == wanted
    outbox.delivered("id-1")
    outbox.refused("m2", "refused")
    name = outbox.name
    outbox.close()

    outbox = Outbox(path)
    assert outbox.name == name
    assert (outbox.tally.promised, outbox.tally.delivered) == (3, 1)
    assert outbox.tally.dropped == {"refused": 1}
    assert drain(outbox) == ["m3"]
    outbox.close()


def test_the_same_id_is_kept_once(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q")
    outbox.put(message(1))
    outbox.put(message(1))
    assert outbox.tally.promised == outbox.tally.waiting == 1
    outbox.close()


def test_a_will_is_put_by_the_next_process_unless_it_came_true(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q")
    outbox.put(message(1), if_killed=message(2))
    outbox.put(message(3), if_killed=message(4))
    outbox.put(message(4))
    assert outbox.tally.promised == 3, "a will is no promise yet"
    outbox.close()
    for _ in range(2):  # once, however often it is opened
        outbox = Outbox(tmp_path / "q")
        assert outbox.tally.promised == 4
        outbox.close()
    outbox = Outbox(tmp_path / "q")
    assert drain(outbox) == ["m1", "m3", "m4", "m2"]
    outbox.close()


def test_wills_survive_a_kill_while_they_are_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write, copies = tmp_path / "q", Store.write, list[Path]()
    outbox = Outbox(path)
    outbox.put(message(1), if_killed=message(2))
    outbox.put(message(3), if_killed=message(4))
    outbox.close()

    def copied_first(store: Store, **values: object) -> None:
        copies.append(tmp_path / f"before-write-{len(copies)}")
        for suffix in ("", "-wal"):
            if (file := Path(f"{path}{suffix}")).exists():
                shutil.copyfile(file, f"{copies[-1]}{suffix}")
        write(store, **values)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", copied_first)
        Outbox(path).close()
    assert len(copies) > 2
    for copy in copies:  # what lay on the disk when the process was killed there
        outbox = Outbox(copy)
        assert drain(outbox) == ["m1", "m3", "m2", "m4"]
        outbox.close()


def test_what_is_too_large_is_dropped_and_counted(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", limits=Limits(bytes=100))
    outbox.put(message(1, size=101))
    outbox.put(message(2, size=100))
    assert outbox.tally.dropped == {"too large": 1}
    outbox.put(message(3, size=1))
    assert outbox.tally.dropped == {"too large": 1, "queue full": 1}
    assert drain(outbox) == ["m3"]
    outbox.close()


def test_least_important_goes_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q", limits=Limits(messages=3))
    for number, kind in enumerate(("event", "camera", "result", "event", "drift", "event")):
        outbox.put(message(number, kind))  # type: ignore[arg-type]
    assert drain(outbox) == ["m0", "m3", "m5"]
    assert outbox.tally.dropped == {"queue full": 3}
    for number in range(6, 10):
        outbox.put(message(number))
    outbox.put(message(10, "result"))  # less important than all that waits
    assert drain(outbox) == ["m7", "m8", "m9"]
    outbox.close()


def test_smaller_limits_hold_for_what_waits_already(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "q")
    for number in range(5):
        outbox.put(message(number))
    outbox.close()
    outbox = Outbox(tmp_path / "q", limits=Limits(messages=2))
    assert outbox.tally.dropped == {"queue full": 3} and balanced(outbox)
    assert drain(outbox) == ["m3", "m4"]
    outbox.close()


def test_second_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "q"
    outbox = Outbox(path)
    code = f"from generalad.runtime.delivery.outbox import Outbox; Outbox({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert f"UsageError: the queue {path} is in use by another process" in done.stderr
    with pytest.raises(UsageError, match="in use"):
        Outbox(path)
    outbox.put(message(1))
    outbox.close()
    Outbox(path).close()


def test_unwritable_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file of that name is in the way"):
        Outbox(tmp_path / "file" / "q")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*folder"):
        Outbox(tmp_path / "folder")
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="no permission"):
        Outbox(tmp_path / "closed" / "q")


def test_another_database_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "other"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE mine (x)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="another database"):
        Outbox(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    newer = tmp_path / "newer"
    Outbox(newer).close()
    with sqlite3.connect(newer) as file:
        file.execute("PRAGMA user_version=99")
    file.close()
    with pytest.raises(UsageError, match="a queue of version 99"):
        Outbox(newer)


def test_damaged_file_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "q"
    outbox = Outbox(path)
    for number in range(300):
        outbox.put(message(number, size=1000))
    outbox.close()
    data = bytearray(path.read_bytes())
    data[8192:40960] = os.urandom(32768)
    path.write_bytes(data)

    outbox = Outbox(path)
    assert outbox.moved_aside is not None and outbox.moved_aside.read_bytes() == data
    assert outbox.tally.promised == 0
    outbox.put(message(1))
    outbox.close()
    path.write_bytes(b"no database at all" * 100)
    outbox = Outbox(path)
    assert outbox.moved_aside is not None and outbox.tally.waiting == 0
    outbox.close()


def test_damage_during_the_run_loses_only_what_was_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "q"
    outbox = Outbox(path)
    for number in range(500):
        outbox.put(message(number, size=10_000))  # more than SQLite keeps in memory
    outbox.close()
    outbox = Outbox(path)
    size = path.stat().st_size
    with path.open("rb+") as file:  # behind the back of the one that uses it
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    outbox.put(message(500))
    while (first := outbox.next()) is not None:
        outbox.delivered(first.id)
    assert balanced(outbox)
    assert outbox.tally.promised == 501 and outbox.tally.dropped["queue damaged"] > 0
    assert outbox.moved_aside is not None and outbox.problem == ""
    outbox.put(message(501))
    outbox.close()
    outbox = Outbox(path)
    assert outbox.tally.promised == 502 and drain(outbox) == ["m501"]
    outbox.close()


KILLED = """
import sys
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.outbox import Outbox
outbox = Outbox(sys.argv[1])
for number in range(100000):
    outbox.put(Message(f"m{number}", "event", "t", b"{}"))
    print(number, flush=True)
    if number % 3 == 0:
        outbox.delivered(outbox.next().id)
"""


def test_kill_at_any_moment_keeps_every_promise(tmp_path: Path) -> None:
    path = tmp_path / "q"
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(200):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        rest = process.stdout.read().splitlines()
    promised = 200 + len(rest)
    outbox = Outbox(path)
    assert outbox.moved_aside is None and balanced(outbox)
    # The last one may have been written, but not printed.
    assert outbox.tally.promised in (promised, promised + 1)
    waiting = drain(outbox)
    first = outbox.tally.delivered - len(waiting)
    assert waiting == [f"m{number}" for number in range(first, outbox.tally.promised)]
    outbox.close()


class Moment:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root to mount a small file system")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_read_only_place_is_refused_at_the_start(small_disk: Path) -> None:
    Outbox(small_disk / "q").close()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    for name in ("q", "new", "folder/new"):
        with pytest.raises(StorageError, match="cannot write"):
            Outbox(small_disk / name)


def test_full_disk_loses_nothing_that_memory_can_hold(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    clock = Moment()
    outbox = Outbox(small_disk / "q", clock=clock, limits=Limits(unsaved_messages=200))
    number = 0

    def put(count: int) -> None:
        nonlocal number
        for _ in range(count):
            clock.now += 2
            outbox.put(message(number, size=1000))
            number += 1

    while outbox.tally.unsaved < 100:
        put(1)
    assert "the disk is full" in outbox.problem
    assert not outbox.tally.dropped and balanced(outbox) and number > 150
    put(150)
    assert outbox.tally.unsaved == 200 and outbox.tally.dropped == {"not stored": 50}
    # Deliveries go on, from the disk and then from memory.
    assert outbox.next() == message(0, size=1000)
    outbox.delivered("m0")
    ballast.unlink()
    clock.now += 2
    outbox.save()
    assert outbox.tally.unsaved == 0 and outbox.problem == ""
    outbox.close()
    outbox = Outbox(small_disk / "q")
    assert outbox.tally.dropped == {"not stored": 50} and outbox.tally.delivered == 1
    lost_from = number - 250  # the oldest of those that were in memory
    kept = [*range(1, lost_from), *range(lost_from + 50, number)]
    assert drain(outbox) == [f"m{n}" for n in kept]
    outbox.close()


def test_disk_that_the_queue_itself_has_filled(small_disk: Path) -> None:
    """A little room is enough to remove what was delivered, which makes more room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))
    clock = Moment()
    outbox = Outbox(small_disk / "q", clock=clock)
    number = 0
    while outbox.tally.unsaved < 300:
        clock.now += 2
        outbox.put(message(number, size=1000))
        number += 1
    for expected in range(number):
        first = outbox.next()
        assert first is not None and first.id == f"m{expected}"
        outbox.delivered(first.id)  # time stands still: nothing is written
    ballast.unlink()
    clock.now += 2
    outbox.save()
    assert outbox.problem == ""
    for again in range(number, number + 300):
        outbox.put(message(again, size=1000))
    assert outbox.problem == "" and outbox.tally.unsaved == 0
    outbox.close()
    outbox = Outbox(small_disk / "q")
    assert outbox.tally.delivered == number and outbox.tally.waiting == 300 and balanced(outbox)
    outbox.close()


@pytest.mark.parametrize("succeed", range(6))
def test_counts_agree_with_messages_after_every_part_of_a_write(
    tmp_path: Path, succeed: int
) -> None:
    outbox = Outbox(tmp_path / "q", clock=(clock := Moment()))
    for number in range(150):
        outbox.put(message(number))
    disk = FailingStore(outbox._store)
    disk.full = True
    for _ in range(100):
        first = outbox.next()
        assert first is not None
        outbox.delivered(first.id)
    for number in range(150, 300):
        outbox.put(message(number, "result"))
    assert outbox.tally.unsaved == 150
    disk.full, disk.left = False, succeed
    clock.now += 2
    outbox.save()
    for suffix in ("", "-wal"):  # what a kill would leave now
        shutil.copyfile(f"{outbox._store.path}{suffix}", f"{tmp_path / 'copy'}{suffix}")
    copy = Outbox(tmp_path / "copy")
    assert balanced(copy) and copy.tally.promised >= 150
    assert (copy.tally.delivered > 0) == (succeed > 0)
    copy.close()
    disk.left = 10**9
    outbox.close()
    outbox = Outbox(tmp_path / "q")
    assert outbox.tally.delivered == 100 and balanced(outbox)
    assert drain(outbox) == [f"m{number}" for number in range(100, 300)]
    outbox.close()


def test_disk_that_stays_full_is_said_at_the_end(small_disk: Path) -> None:
    outbox = Outbox(small_disk / "q")
    (small_disk / "ballast").write_bytes(bytes(600_000))
    for number in range(900):
        outbox.put(message(number, size=1000))
    unsaved = outbox.tally.unsaved
    assert unsaved
    with pytest.raises(StorageError, match=rf"the disk is full; {unsaved} messages .* are lost"):
        outbox.close()
    outbox.close()


TOO_LARGE_A_FILE = """
import resource, signal, sys
from generalad.runtime.delivery.message import Message
from generalad.runtime.delivery.outbox import Outbox
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
outbox = Outbox(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
for number in range(600):
    outbox.put(Message(f"m{number}", "event", "t", bytes(1000)))
tally = outbox.tally
assert outbox.problem and 0 < tally.unsaved < 600, tally
assert tally.promised == 600 == tally.waiting, tally
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
outbox.close()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_file_that_may_not_grow_is_the_same_as_a_full_disk(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOO_LARGE_A_FILE, str(tmp_path / "q")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE * 2)
    assert done.returncode == 0, done.stderr
    outbox = Outbox(tmp_path / "q")
    assert drain(outbox) == [f"m{number}" for number in range(600)]
    outbox.close()


def test_names_are_safe_in_topics() -> None:
    assert safe_level("line 1/camera+2#\n") == "line 1_camera_2__"
    assert safe_level("") == "_" and safe_level("größe") == "größe"


class FailingStore:
    """Lets writes fail on demand."""

    def __init__(self, store: Store) -> None:
        self.full = False
        self.left = 10**9  # writes that succeed
        self._write = store.write
        store.write = self.write  # type: ignore[method-assign]

    def write(self, **values: object) -> None:
        self.left -= 1
        if self.full or self.left < 0:
            raise sqlite3.OperationalError("database or disk is full")
        self._write(**values)  # type: ignore[arg-type]


class OutboxMachine(RuleBasedStateMachine):
    """Anything in any order, against a list; also the disk fills up, and the process is killed."""

    LIMIT, UNSAVED = 6, 3

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # quicker, where there is one
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.path = self.folder / "q0"
        self.clock = Moment()
        self.number = 0
        self.waiting: list[tuple[str, int]] = []  # id, importance; oldest first
        self.unsaved: set[str] = set()
        self.taken: str | None = None
        self.promised = self.delivered = 0
        self.dropped: Counter[str] = Counter()
        self.wills: list[str] = []
        self.saved = self.state()
        self.start()

    def start(self) -> None:
        limits = Limits(messages=self.LIMIT, unsaved_messages=self.UNSAVED)
        self.outbox = Outbox(self.path, limits=limits, clock=self.clock)
        self.disk = FailingStore(self.outbox._store)
        for will in self.wills:  # the process before this one said nothing
            self.promised += 1
            self.enter(will, IMPORTANCE["event"])
        self.wills.clear()
        self.written()

    def state(self) -> tuple[list[tuple[str, int]], int, int, Counter[str], list[str]]:
        dropped, wills = self.dropped.copy(), list(self.wills)
        return list(self.waiting), self.promised, self.delivered, dropped, wills

    def enter(self, id: str, importance: int) -> None:
        self.waiting.append((id, importance))
        self.unsaved.add(id)
        if len(self.waiting) > self.LIMIT:
            self.give_up([w for w in self.waiting if w[0] != self.taken], "queue full")
        if self.disk.full and len(self.unsaved) > self.UNSAVED:
            left = [w for w in self.waiting if w[0] in self.unsaved and w[0] != self.taken]
            self.give_up(left, "not stored")

    def written(self) -> None:
        """What the outbox must have done at the end of every change."""
        self.clock.now += 10
        self.outbox.save()
        if not self.disk.full:
            self.unsaved.clear()
            self.saved = self.state()

    def give_up(self, candidates: list[tuple[str, int]], reason: str) -> None:
        victim = min(candidates, key=lambda item: item[1])  # of equal ones the first
        self.waiting.remove(victim)
        self.unsaved.discard(victim[0])
        self.dropped[reason] += 1

    @rule(kind=st.sampled_from(KINDS))
    def put(self, kind: MessageKind) -> None:
        self.clock.now += 10
        self.number += 1
        self.outbox.put(message(self.number, kind))
        self.promised += 1
        self.enter(f"m{self.number}", IMPORTANCE[kind])
        self.written()

    @rule()
    def begin(self) -> None:
        """Something that will end: its end is left as a will."""
        self.clock.now += 10
        self.number += 2
        self.outbox.put(message(self.number - 1), if_killed=message(self.number))
        self.promised += 1
        self.wills.append(f"m{self.number}")
        self.enter(f"m{self.number - 1}", IMPORTANCE["event"])
        self.written()

    @precondition(lambda self: self.wills)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """It ends, in the process that told of its beginning."""
        self.clock.now += 10
        id = self.wills.pop(data.draw(st.integers(0, len(self.wills) - 1)))
        self.outbox.put(message(int(id[1:])))
        self.promised += 1
        self.enter(id, IMPORTANCE["event"])
        self.written()

    @rule()
    def next(self) -> None:
        found = self.outbox.next()
        assert (found.id if found else None) == (self.waiting[0][0] if self.waiting else None)
        self.taken = found.id if found else None

    @precondition(lambda self: self.taken is not None)
    @rule(end=st.sampled_from(["delivered", "refused", "released"]))
    def settle(self, end: str) -> None:
        assert self.taken is not None
        self.clock.now += 10
        if end == "released":
            self.outbox.released(self.taken)
        else:
            self.waiting = [w for w in self.waiting if w[0] != self.taken]
            self.unsaved.discard(self.taken)
            if end == "delivered":
                self.outbox.delivered(self.taken)
                self.delivered += 1
            else:
                self.outbox.refused(self.taken, "refused")
                self.dropped["refused"] += 1
        self.taken = None
        self.written()

    @rule(full=st.booleans())
    def fill_disk(self, full: bool) -> None:
        self.disk.full = full
        self.written()

    @rule()
    def reopen(self) -> None:
        self.disk.full = False
        self.outbox.close()
        self.unsaved.clear()
        self.saved, self.taken = self.state(), None
        self.start()

    @rule()
    def kill(self) -> None:
        """What lies on the disk at this moment is what the next process finds."""
        copy = self.folder / f"q{self.promised}-{self.number}-{self.clock.now}"
        self.clock.now += 1
        for suffix in ("", "-wal"):
            source = Path(f"{self.path}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        self.disk.full = False
        self.outbox.close()
        self.path, self.taken = copy, None
        self.unsaved.clear()
        waiting, self.promised, self.delivered, dropped, wills = self.saved
        self.waiting, self.dropped, self.wills = list(waiting), dropped.copy(), list(wills)
        self.start()

    @invariant()
    def nothing_is_lost_or_invented(self) -> None:
        tally = self.outbox.tally
        assert balanced(self.outbox)
        assert tally.promised == self.promised and tally.delivered == self.delivered
        assert tally.dropped == self.dropped
        assert tally.waiting == len(self.waiting) and tally.unsaved == len(self.unsaved)

    def teardown(self) -> None:
        self.disk.full = False
        assert drain(self.outbox) == [id for id, _ in self.waiting]
        self.outbox.close()
        shutil.rmtree(self.folder)


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE messages SET kind='evend'",
        "UPDATE messages SET kind=7",
        "UPDATE messages SET topic=cast(x'ff41' AS text)",
        "UPDATE messages SET id=cast(x'c3' AS text)",
        "UPDATE messages SET payload='text'",
        "UPDATE messages SET payload=NULL, id=NULL",
        "UPDATE wills SET kind='?'",
        "UPDATE wills SET topic=cast(x'80' AS text)",
        "UPDATE counts SET value='many'",
        "UPDATE counts SET value=-1",
        "UPDATE counts SET value=NULL",
        "DELETE FROM facts",
        "UPDATE facts SET value=cast(x'ff' AS text)",
        "DROP TABLE counts",
        "ALTER TABLE messages RENAME COLUMN topic TO subject",
    ],
)
def test_content_that_nobody_wrote_is_moved_aside_and_the_queue_works(
    tmp_path: Path, change: str
) -> None:
    path = tmp_path / "q"
    outbox = Outbox(path)
    outbox.put(message(1), if_killed=message(2))
    outbox.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA ignore_check_constraints=1")
        try:
            db.execute(change)
        except sqlite3.IntegrityError:
            return  # the file itself refuses it
        db.commit()
    outbox = Outbox(path)
    assert outbox.moved_aside is not None and outbox.tally.waiting == 0
    outbox.put(message(3))
    assert drain(outbox) == ["m3"]
    outbox.close()
    outbox = Outbox(path)
    assert outbox.moved_aside is None
    outbox.close()
