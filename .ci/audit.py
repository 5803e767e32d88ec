"""Audit installed packages, and the lowest supported ones, for known holes.

Advisories come from the package index, through pip-audit. Where it does not answer, as
behind a mirror that has only the packages, that is said and is no failure. Arguments
are files of requirements (`name==version`).
"""

import subprocess
import sys
import urllib.error
import urllib.request

# A release with published advisories: it tells whether the index has such.
PROBE = "https://pypi.org/pypi/pillow/10.0.0/json"


def has_advisories() -> bool:
    """Return whether the index answers, and lists advisories."""
    try:
        with urllib.request.urlopen(PROBE, timeout=20) as answer:
            return b'"vulnerabilities":[{' in answer.read().replace(b" ", b"")
    except (urllib.error.URLError, OSError):
        return False


def audit_all(requirements: list[str]) -> int:
    """Run pip-audit on this environment and on files; return the worst exit status."""
    audit = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off"]
    # This package itself is on no index.
    commands = [[*audit, "--skip-editable"]]
    for file in requirements:
        commands.append([*audit, "--no-deps", "--disable-pip", "-r", file])
    return max(subprocess.run(command, check=False).returncode for command in commands)


if __name__ == "__main__":
    if has_advisories():
        sys.exit(audit_all(sys.argv[1:]))
    print("left out: the package index does not answer with advisories")
