"""
A client within the Pod: on SIGUSR1 it sends many requests at once, and prints the
number of complete responses.  As process 1 without a handler, it ignores SIGTERM.
"""

import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from urllib.request import urlopen


def whole(number):
    """Send a request; whether the response is complete.  A short one raises."""
    with urlopen(f"http://127.0.0.1:8080/{number}", timeout=30) as answer:
        return len(answer.read()) == int(answer.headers["Content-Length"])


if __name__ == "__main__":
    many = int(sys.argv[1])
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.sigwait({signal.SIGUSR1})
    with ThreadPoolExecutor(many) as threads:
        print(sum(threads.map(whole, range(many))), "whole", flush=True)
