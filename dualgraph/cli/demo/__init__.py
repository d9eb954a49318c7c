"""``dualgraph demo``: one model from training to deployment, on real data, in about a minute.

Train eagerly (`train`), trace and optimise (`graphs`), export and run without the model's code
(`deploy`), time (`timings`); `show` prints each step and `dualgraph.cli.report` makes the page.
"""

from dualgraph.cli.demo.steps import command

__all__ = ["command"]
