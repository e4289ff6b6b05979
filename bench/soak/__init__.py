"""
The soak: many requests through one C{twistd sitio}, with every policy, while clients and
the service misbehave.  It counts what must be zero.

  - C{order}: what is to be run;
  - C{plan}: what each request asks for and what the service answers, from a seed;
  - C{wire}: a connection, and HTTP messages on it, without the code of sitio;
  - C{service}: the service behind sitio, a process of its own;
  - C{policy}: policies of the soak, beside those that come with sitio;
  - C{judge}: whether a response is one that its request may get;
  - C{clients}: the clients;
  - C{checks}: descriptors, memory, the log, the end;
  - C{run}: starts all processes, restarts the service, and makes the report.

Run it with C{make soak}, or see C{python -m bench.soak --help}.
"""
