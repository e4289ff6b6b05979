"""
The configuration of a sidecar, as the operator gives it.

In reading order: C{cores} counts the cores, C{values} parses the text of one option,
C{options} holds all options of C{twistd sitio}, C{memory} sums up what they take.
Nothing here opens a port or makes a sidecar: that is L{sitio.assembly}'s part.
"""
