"""Read by the fork server before its first worker: Ctrl-C is not for workers.

A terminal sends it to all of its processes; the parent tells its workers to stop by SIGTERM. A
worker that is being born cannot say so itself, so it inherits that the signal is blocked.
"""

import signal

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
