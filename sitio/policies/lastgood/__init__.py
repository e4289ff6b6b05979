"""
The policy C{last-good}: masks a failure with the last good response to the same request.

In reading order:

  - C{options}: the options of an operator's description.
  - C{policy}: the policy, which stores and masks.
  - C{fields}: the request fields that say nothing about who asks.
  - C{lookup}: which requests may be answered from the store, and by which key.
  - C{invalidation}: what an unsafe request makes out of date.
  - C{store}: the stored responses, bounded in bytes.
  - C{mask}: the response that masks a failure.
  - C{budget}: when masking stops.
"""
