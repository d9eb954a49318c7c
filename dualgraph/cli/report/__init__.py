"""The demo's page: one HTML file that needs no other and looks right in light and dark."""

from dualgraph.cli.report.page import page

__all__ = ["page"]
