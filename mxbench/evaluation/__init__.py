"""Many hand-ins on many devices: what to measure, where, and what to do when something dies.

`board` and `drift` decide and are pure; `local` and `cluster` run; `isolation` and `inner` measure
one hand-in in a process of its own; `ledger` keeps what is finished; `loop` ties them together.
"""
