"""
Several worker processes behind one port, and the supervisor that starts them.

In reading order:

  - C{supervisor}: the parent process: starts workers, replaces those that end, adds up
    their metrics.
  - C{spawning}: starts the process of a worker.
  - C{replacing}: another configuration for all workers, or for none.
  - C{worker}: a worker process.
  - C{process}: a worker process as the supervisor sees it.
  - C{heartbeat}: finds workers that are stuck, and ends them.
  - C{channel}: the worker channel, which carries messages between the two.
  - C{output}: a worker's standard output becomes log events of the supervisor.
  - C{totals}: the metrics of all workers, those that have ended included.
  - C{sockets}: the listening sockets: opened by the supervisor, inherited by workers.
"""
