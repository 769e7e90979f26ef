"""What the jobs of the crash tests are: scripts, their keys, and how each of their runs is to end."""

from __future__ import annotations

from accounts import COUNT, Kind

SOON = {"error_time": 0.1, "defer_time": 0.1}

# --- one run ---------------------------------------------------------------------------------------------------

ZERO = Kind("exit 0", "done", 0)
THREE = Kind("exit 3", "failed", 3)
KILLED_BY_ITSELF = Kind("kill -9 $$", "failed", 137)
LEAVES_ONE = Kind("sleep 60 &\nexit 0", "done", 0)
LEAVES_ANOTHER_SESSION = Kind("(setsid sleep 60 &)\nexit 6", "failed", 6)
LEAVES_BOTH = Kind("sleep 60 &\n(setsid sleep 60 &)\nexit 6", "failed", 6)
A_WHILE = Kind("sleep 0.1; exit 0", "done", 0)
A_WHILE_AND_NINE = Kind("sleep 0.2; exit 9", "failed", 9)
LONG = Kind("sleep 1; exit 0", "done", 0)
LONG_AND_FIVE = Kind("sleep 1.5; exit 5", "failed", 5)
TOO_LONG = Kind("sleep 60", "timeout", None, keys={"wall_time": 0.7})

# --- several runs ----------------------------------------------------------------------------------------------

ALWAYS_FAILS = Kind("exit 3", "failed", 3, {None: ("failed",) * 3}, {"attempts": 3, **SOON})
FAILS_ONCE = Kind(
    f"{COUNT}\n[ $runs = 2 ] || exit 3",
    "done",
    0,
    {None: ("failed", "done")},
    {"attempts": 3, "error_backoff": 2, **SOON},
)
AT_ONCE_AGAIN = Kind("exit 4", "failed", 4, {None: ("failed",) * 2}, {"attempts": 2, "error_time": 0})
DEFERS_TWICE = Kind(f"{COUNT}\n[ $runs = 3 ] || exit 75", "done", 0, {None: ("deferred", "deferred", "done")}, SOON)
DEFERS_AND_FAILS = Kind(
    f"{COUNT}\ncase $runs in 1|3) exit 75;; *) exit 3;; esac",
    "failed",
    3,
    {None: ("deferred", "failed", "deferred", "failed")},
    {"attempts": 2, **SOON},
)
TWICE_TOO_LONG = Kind("sleep 60", "timeout", None, {None: ("timeout",) * 2}, {"wall_time": 0.7, "attempts": 2, **SOON})

# --- arrays ----------------------------------------------------------------------------------------------------

ALL_WELL = Kind("sleep 0.05", "done", 0, dict.fromkeys((1, 4, 7, 20), ("done",)), {"array": "1-7:3,20%2"})
ONE_BAD = Kind(
    "[ $QM_ARRAY_TASK_ID != 1 ] || exit 9",
    "failed",
    9,
    {0: ("done",), 1: ("failed",), 2: ("done",)},
    {"array": "0-2"},
)
STUBBORN = Kind(
    f"{COUNT}\ncase $QM_ARRAY_TASK_ID.$runs in 1.*) exit 9;; 2.1) exit 75;; 3.1) exit 4;; esac",
    "failed",
    9,
    {0: ("done",), 1: ("failed", "failed"), 2: ("deferred", "done"), 3: ("failed", "done")},
    {"array": "0-3", "attempts": 2, **SOON},
)
ALL_TOO_LONG = Kind("sleep 60", "timeout", None, {1: ("timeout",), 2: ("timeout",)}, {"array": "1-2", "wall_time": 0.7})
ONE_TASK_TOO_LONG = Kind("sleep 60", "timeout", None, {5: ("timeout",)}, {"array": "5", "wall_time": 0.7})

# --- what a queue is fed with ------------------------------------------------------------------------------------

SHORT = (ZERO, THREE, A_WHILE, A_WHILE_AND_NINE, KILLED_BY_ITSELF, LEAVES_ONE, LEAVES_ANOTHER_SESSION)
ELSE = (
    *(LONG, LONG_AND_FIVE, TOO_LONG, TWICE_TOO_LONG),
    *(ALWAYS_FAILS, FAILS_ONCE, AT_ONCE_AGAIN, DEFERS_TWICE, DEFERS_AND_FAILS),
    *(ALL_WELL, ONE_BAD, STUBBORN, ALL_TOO_LONG),
)
