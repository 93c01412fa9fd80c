"""What a release needs: versions, changelogs and the check that guards the tags."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import check_release
import pytest
import uv_settings
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(folder.name for folder in (ROOT / "packages").iterdir() if (folder / "pyproject.toml").exists())


PROJECT = '[project]\nname = "durabletask-core"\nversion = "1.2.0"\n'
CHANGELOG = "# Changelog\n\n## 1.2.0 - 2026-11-22\n\n- Timers of any length.\n\n## 1.1.0 - 2026-10-01\n\n- Older.\n"


def lay_out(root: Path, *, project: str = PROJECT, changelog: str = CHANGELOG) -> Path:
    folder = root / "packages" / "durabletask-core"
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    (folder / "CHANGELOG.md").write_text(changelog, encoding="utf-8")
    return root


@pytest.mark.parametrize("package", PACKAGES)
def test_the_changelog_of_a_package_has_an_entry_for_its_version(package: str) -> None:
    version = check_release.project_version(ROOT / "packages" / package)
    assert check_release.changelog_entry(ROOT / "packages" / package, version).text


@pytest.mark.parametrize("package", PACKAGES)
def test_siblings_are_required_in_a_range_that_holds_their_current_version(package: str) -> None:
    text = (ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in map(Requirement, re.findall(r'"(durabletask-[^"]+)"', text.split("dependencies = [")[1])):
        if requirement.name in PACKAGES:
            version = check_release.project_version(ROOT / "packages" / requirement.name)
            assert requirement.specifier.contains(version), f"{package} requires {requirement}, which is {version}"


def test_a_tag_names_package_and_version(tmp_path: Path) -> None:
    release = check_release.check("durabletask-core-v1.2.0", lay_out(tmp_path))
    assert (release.package, release.version, release.notes) == ("durabletask-core", "1.2.0", "- Timers of any length.")


BAD = [
    ("v1.2.0", {}, r"expected a tag like durabletask-<package>-v<version>, found 'v1\.2\.0'"),
    ("durabletask-core-v1.2", {}, "does not match the version '1.2.0'"),
    ("durabletask-core-v1.3.0", {}, "does not match the version '1.2.0'"),
    ("durabletask-other-v1.2.0", {}, "no package 'durabletask-other'"),
    ("durabletask-../core-v1.2.0", {}, "expected a tag like"),
    ("durabletask-core-v1.2.0", {"changelog": "# Changelog\n\n## 1.1.0\n\n- Older.\n"}, "no entry for 1.2.0"),
    ("durabletask-core-v1.2.0", {"changelog": "# Changelog\n\n## 1.2.0\n\n## 1.1.0\n\n- Older.\n"}, "is empty"),
    (
        "durabletask-core-v1.2.0",
        {"changelog": "# Changelog\n\n## 1.2.0.post1 - 2026-11-22\n\n- A.\n"},
        "no entry for 1.2.0",
    ),
    *(
        (
            "durabletask-core-v1.2.0",
            {"changelog": CHANGELOG.replace("## 1.2.0 - 2026-11-22", heading)},
            rf"expected '## 1\.2\.0 - YYYY-MM-DD' .* found '{re.escape(heading)}'",
        )
        for heading in ("## 1.2.0", "## 1.2.0 (unreleased)", "## 1.2.0 - 2026-13-01", "## 1.2.0 - 22 November 2026")
    ),
    ("durabletask-core-v1.2.0", {"project": '[project]\nname = "durabletask-core"\n'}, "no static version"),
]


@pytest.mark.parametrize(("tag", "files", "message"), BAD)
def test_a_release_that_does_not_fit_its_tag_is_refused(
    tag: str, files: dict[str, str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(check_release.ReleaseError, match=message):
        check_release.check(tag, lay_out(tmp_path, **files))


def test_the_command_prints_the_fields_for_the_workflow_and_fails_on_a_bad_tag(tmp_path: Path) -> None:
    """It looks at the repository that it lies in: here one of a package that is ready, as ours need not be."""
    lay_out(tmp_path)
    (tmp_path / "scripts").mkdir()
    script = [sys.executable, shutil.copy(ROOT / "scripts" / "check_release.py", tmp_path / "scripts")]
    good = subprocess.run(
        [*script, "durabletask-core-v1.2.0", "--notes", "notes.md"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (good.returncode, good.stdout) == (0, "package=durabletask-core\nversion=1.2.0\n")
    assert (tmp_path / "notes.md").read_text(encoding="utf-8") == "- Timers of any length.\n"
    bad = subprocess.run([*script, "durabletask-core-v999"], capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and "does not match the version" in bad.stderr


def test_settings_of_pip_become_those_of_uv() -> None:
    listing = "\n".join(
        [
            "global.index-url='https://mirror.example/simple'",
            "global.extra-index-url='https://a.example/simple https://b.example/simple'",
            "install.constraint='limits.txt'",
            ":env:.find-links='one two'",
            ":env:.index-url='https://other.example/simple'",
            ":env:.disable-pip-version-check='1'",
        ]
    )
    assert uv_settings.uv_variables(uv_settings.pip_settings(listing)) == {
        "UV_DEFAULT_INDEX": "https://other.example/simple",
        "UV_INDEX": "https://a.example/simple https://b.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": "one,two",
        "UV_CONSTRAINT": "limits.txt",
    }
