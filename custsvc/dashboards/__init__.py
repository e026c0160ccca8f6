"""A Grafana dashboard and Prometheus alert rules over custsvc's metrics, as files to import.

`alerts.yml` is written by hand, `grafana` makes the dashboard from a table of panels. Each alert has a page
in docs/runbooks. Tests check both against the metrics that exist, and fire each alert.
"""
