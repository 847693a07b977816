"""The report as a page: one file that a reviewer opens, with nothing to fetch and nothing to install.

The one rule: whatever a model, group or tool calls itself is text on this page, never markup or script.
"""
