"""The engines side by side on the shape of work that SELF-ALIGN has: one long prompt, many short continuations.

This package's `job`, `run_peer`, `scoring_harness` and the peers of other environments import the standard library and
their own engine only: they run where selfalign is not installed.
"""
