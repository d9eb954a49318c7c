"""``python -m dualgraph.torch script.py args...``, also with ``-m module`` and ``-c code``."""

from __future__ import annotations

import sys

from dualgraph.torch.run import USAGE, run_code, run_module, run_script


def main(arguments: list[str]) -> None:
    """Run what the command line names, as python itself would."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        sys.exit(0 if arguments else 2)
    kind, rest = arguments[0], arguments[1:]
    if kind in ("-m", "-c"):
        if not rest:
            sys.exit(f"argument expected for the {kind} option\n{USAGE}")
        (run_module if kind == "-m" else run_code)(rest[0], rest[1:])
    elif kind.startswith("-") and kind != "-":
        sys.exit(f"unknown option {kind}\n{USAGE}")
    else:
        run_script(kind, rest)


if __name__ == "__main__":
    main(sys.argv[1:])
