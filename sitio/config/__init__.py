"""
The configuration of a sidecar, as the operator gives it.

In reading order:

  - C{model}: what is configured, as plain values; C{listeners}, C{upstreams}, C{policies} and
    C{tables} are parts of it.
  - C{keys}: its fields, with what may stand in the file; C{kinds} and C{routekinds}: the types
    of their values; C{addresses}: those that people type.
  - C{limits}: names of limits and timeouts.
  - C{places}: where things stand in the file, and mistakes there.
  - C{file} reads a file, with C{positions}: the lines of its keys; C{environment}: variables
    and secrets; C{structure}: makes the model of its data.
  - C{schema}: the documents about the file.
  - C{checks}: what is wrong between keys.
  - C{merge}: file, command line and environment as one; C{loading}: all of it, with policies.
  - C{cores} counts the cores, C{values} parses the text of one option, C{options} holds all
    options of C{twistd sitio}, which C{optionlist} lists, C{memory} sums up what they take.

Nothing here opens a port or makes a sidecar: that is L{sitio.assembly}'s part.
"""
