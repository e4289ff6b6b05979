"""
What sitio counts and logs about the requests that it carried.

In reading order:

  - C{stats}: counters and latency histograms per endpoint.
  - C{snapshot}: the same as plain data, and how snapshots add up.
  - C{statsline}: the log line with hit counts.
  - C{history}: the last exchanges, for the admin pages.
  - C{accesslog}: one line for each request.
  - C{logfile}: a file that is written to in a thread.
  - C{metrics}: a snapshot in Prometheus' format.
"""
