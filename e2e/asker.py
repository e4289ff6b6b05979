"""
A client within the Pod: on SIGUSR1 it asks for many slow responses at a time, and
prints how many of them came whole.  SIGTERM it doesn't hear, as process 1.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen


def whole(number):
    """Whether a response comes, to its end: one that is short raises."""
    with urlopen(f"http://127.0.0.1:8080/{number}", timeout=30) as answer:
        return len(answer.read()) == int(answer.headers["Content-Length"])


if __name__ == "__main__":
    many = int(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.sigwait({signal.SIGUSR1})
    with ThreadPoolExecutor(many) as threads:
        print(sum(threads.map(whole, range(many))), "whole", flush=True)
