"""Models on Linux for 64-bit Arm: the runner programs, the libraries that they need, how to call them.

The one rule: nothing is fetched during a build; `python -m edgeq.linux` does that, and a build that
lacks something says so.
"""
