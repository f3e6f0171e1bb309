"""A station inspects parts: a trigger, its pictures, one verdict for each, and the PLC.

`verdict` says what is told; `parts` is the state machine that gives each trigger exactly one
verdict, in order, with a clock and nothing else. `plc` is how a PLC asks and is answered.
"""
