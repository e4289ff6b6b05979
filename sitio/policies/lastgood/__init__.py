"""
The policy C{last-good}: masks a failure with the last good response to the same request.

In reading order:

  - C{policy}: the options, and the policy that stores and masks.
  - C{store}: the stored responses, bounded in bytes.
  - C{budget}: when masking stops.
"""
