"""
What is configured becomes objects, and other objects take their place.

In reading order:

  - C{plan}: makes a generation of a configuration: routes, policies, upstreams.
  - C{endpoints}: where sitio listens, and what connects to upstreams; C{tlsplan}: their TLS.
  - C{fitting}: brings the limits of connections into those of the process.
  - C{adminports}: the ports for operators.
  - C{generations}: starts, replaces and stops generations.
  - C{replacement}: puts another configuration in place in one process.
  - C{reloading}: when that happens, and what is told of it.
  - C{check}: makes all of it without opening anything.
"""
