"""
The benchmark: compares sitio with other proxies, in one run.

  - C{scenarios}: the scenarios; C{traffic}: their requests and files; C{proxies}: the
    proxies and their set-ups, with configurations in C{peers/};
  - C{runner}: measures, round by round; C{testbed} runs the proxies and the
    service; C{load} and C{paced} make the load; C{machine} reads CPU time and
    memory from C{/proc};
  - C{targets}, C{report} and C{chart}: the report;
  - C{micro}: single steps of sitio, without a network;
  - C{instructions}: the instructions of one exchange in memory, in the eight C{shapes};
  - C{soak}: no measurement, but a search for faults under load (C{make soak}).

Run it with C{make bench}, or see C{python -m bench --help}.
"""
