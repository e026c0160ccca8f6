"""Customers in bulk: export, and import as a plan that is shown, checked and then applied.

The HTTP API, the command line and the web pages all use this: `export.export` writes a file; `rows.read`
reads a file's rows, `plan.Planner` plans what each row does, `load.load` plans, checks and applies.
"""
