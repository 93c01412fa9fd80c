"""Print pip's settings as the environment variables that uv reads, one shell assignment a line.

uv reads neither ``pip.conf`` nor ``PIP_*``. Who has told pip about an index, a certificate or a proxy must
not have to say it twice, so the Makefile evaluates this output before it lets hatch install with uv. What
the user has set for uv itself wins. Run it with the interpreter whose pip is meant.
"""

from __future__ import annotations

import ast
import os
import shlex
import subprocess
import sys

VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
}
# uv separates these with commas; everything else with blanks, as pip does.
COMMA_SEPARATED = {"UV_FIND_LINKS"}


def pip_settings(listing: str) -> dict[str, str]:
    """Return pip's effective settings from the lines of ``pip config list`` (the last source of a name wins)."""
    settings: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listing.splitlines():
        key, separator, value = line.partition("=")
        section, _, name = key.rpartition(".")
        if separator and section in settings:
            settings[section][name] = str(ast.literal_eval(value))
    return {**settings["global"], **settings["install"], **settings[":env:"]}


def uv_variables(settings: dict[str, str]) -> dict[str, str]:
    """Translate pip's settings to uv's variables; with more than one index, to pip's way of choosing among them."""
    found = {variable: settings[name] for name, variable in VARIABLES.items() if settings.get(name)}
    for variable in COMMA_SEPARATED & found.keys():
        found[variable] = ",".join(found[variable].split())
    if "UV_INDEX" in found:
        found["UV_INDEX"] = " ".join(found["UV_INDEX"].split())
        found["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return found


def main() -> None:
    pip = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    for variable, value in uv_variables(pip_settings(pip.stdout)).items():
        if variable not in os.environ:
            print(f"export {variable}={shlex.quote(value)}")


if __name__ == "__main__":
    main()
