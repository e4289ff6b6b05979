"""
The benchmark: sitio beside other proxies, in one run.

  - C{scenarios}: what is measured; C{proxies}: who is measured, and how each
    is set up, with their configurations in C{peers/};
  - C{runner}: measures, round by round; C{load} and C{paced} make the load,
    C{machine} reads CPU time and memory from C{/proc};
  - C{targets}, C{report} and C{chart}: what is made of it;
  - C{micro}: single steps of sitio, with no network.

Run it by C{make bench}, or C{python -m bench --help}.
"""
