"""
Counts exchanges and logs them.

In reading order:

  - C{stats}: counters and latency histograms per endpoint.
  - C{outcomes}: what counts as failed, and what a failure is called.
  - C{row}: the counters of one endpoint.
  - C{reading}: reads the rows in steps, while exchanges are counted.
  - C{attempts}: those of attempts to send requests to the upstream.
  - C{histogram}: bounds, sums and quantiles of histograms.
  - C{snapshot}: the metrics as plain data, and how snapshots add up.
  - C{upstreams}: upstreams and their endpoints, in these snapshots.
  - C{certificates}: the TLS of ports and upstreams, in these snapshots.
  - C{underway}: adds exchanges that have not ended.
  - C{statsline}: the log line with hit counts.
  - C{history}: remembers single exchanges for the admin port.
  - C{records}: these exchanges as plain data.
  - C{configstate}: what came of reading the configuration.
  - C{sidecar}: the interfaces through which others see a sidecar.
  - C{processes}: what the processes use of memory, CPU time and descriptors.
  - C{metrics}: a snapshot in the formats that Prometheus reads.
  - C{upstreammetrics}: what it has of upstreams and their endpoints.
  - C{certificatemetrics}: what it has of their TLS.
  - C{series}: limits the series that it has.
  - C{accesslog}: one log line for each exchange.
  - C{logformat}: the formats of these lines.
  - C{logfile}: a file that a thread writes to.
  - C{startline}: the log line at the start.
  - C{eventlog}: the log as text or JSON, from a level on.
  - C{reopen}: SIGUSR1 has log files opened anew.
"""
