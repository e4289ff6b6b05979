"""
Several processes behind one port.

In reading order:

  - C{supervisor}: the parent, which starts workers and replaces them.
  - C{worker}: a worker process.
  - C{channel}: what parent and worker tell each other.
  - C{sockets}: the listening sockets that they share.
"""
