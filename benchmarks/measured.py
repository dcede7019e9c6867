"""Run and measure one command, as JSON: `python -I -S measured.py SECONDS OUT ERR COMMAND [ARGUMENT…]`.

This is a small process of its own, because Linux never reports a lower memory peak for a process than that of the
process that started it. So no peak is below 10 MB. For several processes, the peak is that of the largest. The
time runs from before the command starts until it has ended. After SECONDS, the command and all its processes are
killed.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    """Run the command, and print its times, memory peak and exit code."""
    seconds, out, err, *command = sys.argv[1:]
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
    ]
    start = time.monotonic()
    process = os.posix_spawn(command[0], command, os.environ, file_actions=files, setpgroup=0)
    for end in signal.SIGALRM, signal.SIGINT, signal.SIGTERM:
        signal.signal(end, lambda *_: os.killpg(process, signal.SIGKILL))
    signal.alarm(int(seconds))
    _, status, used = os.wait4(process, 0)
    took = time.monotonic() - start
    json.dump(
        {
            "seconds": took,
            "client_cpu": used.ru_utime + used.ru_stime,
            "peak_rss": used.ru_maxrss * 1024,
            "exit": os.waitstatus_to_exitcode(status),
        },
        sys.stdout,
    )


main()
