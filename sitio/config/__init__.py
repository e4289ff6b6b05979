"""
The configuration of a sidecar, as the operator gives it.

In reading order:

  - C{model}: what is configured, as plain values; C{listeners}, C{upstreams}, C{policies} and
    C{tables} are parts of it.
  - C{keys}: its fields, with what may stand in the file; C{kinds} and C{routekinds}: the types
    of their values; C{addresses}: those that people type.
  - C{limits}: names of limits and timeouts.
  - C{places}: where things stand in the file, and mistakes there.
  - C{positions}: the lines of the keys of a file.
  - C{cores} counts the cores, C{values} parses the text of one option, C{options} holds all
    options of C{twistd sitio}, C{memory} sums up what they take.

Nothing here opens a port or makes a sidecar: that is L{sitio.assembly}'s part.
"""
