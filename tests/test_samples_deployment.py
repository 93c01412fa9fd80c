"""What deploys a sample to Azure fits together: azure.yaml, the Dockerfile, and the Bicep modules.

Without a Bicep compiler, the files are parsed, and the names that one of them uses must be those that the other
declares. The types of Azure's resources are not checked.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pycep import BicepParser

SAMPLES = Path(__file__).parents[1] / "samples"
INFRA = SAMPLES / "infra"
BICEP = sorted(INFRA.rglob("*.bicep"))
DEPLOYED = sorted(path.parent for path in SAMPLES.glob("*/azure.yaml"))
BUILT_IN_ROLES = {
    "registry.bicep": "7f951dda-4ed3-4680-a7ca-43fe172d538d",  # AcrPull
    "role-assignment.bicep": "0ad04412-c4d5-4796-b79c-f76d14c8d402",  # Durable Task Data Contributor
}
# A container app takes such values: outputs of other modules, put into its environment.
ENVIRONMENT = {"ENDPOINT", "TASKHUB", "AZURE_CLIENT_ID"}


@cache
def parsed(path: Path) -> dict[str, Any]:
    result: dict[str, Any] = BicepParser().parse(text=path.read_text("utf-8"))
    return result


def without_comments(path: Path) -> str:
    return re.sub(r"^\s*//.*$", "", path.read_text("utf-8"), flags=re.MULTILINE)


def relative(path: Path) -> str:
    return str(path.relative_to(INFRA))


@cache
def module_calls() -> list[tuple[Path, str, str, set[str]]]:
    """Every use of a module: the file, the symbol, the module's path and the parameters that it is given."""
    calls = []
    for path in BICEP:
        for name, module in parsed(path).get("modules", {}).items():
            config = module["config"]
            params = config.get("config", config)["params"]
            found = re.search(rf"^module {name} '([^']+)'", path.read_text("utf-8"), re.MULTILINE)
            assert found is not None
            calls.append((path, name, found[1], set(params)))
    return calls


@pytest.mark.parametrize("path", BICEP, ids=relative)
def test_what_a_bicep_file_declares_is_used_in_it(path: Path) -> None:
    text, tree = without_comments(path), parsed(path)
    declared = [*tree.get("parameters", {}), *tree.get("variables", {})]
    assert declared
    assert [name for name in declared if len(re.findall(rf"\b{name}\b(?!:)", text)) < 2] == []


@pytest.mark.parametrize(("path", "name", "target", "given"), module_calls(), ids=lambda value: str(value)[-30:])
def test_a_module_gets_the_parameters_that_it_declares(path: Path, name: str, target: str, given: set[str]) -> None:
    parameters = parsed(path.parent / target)["parameters"]
    required = {each for each, declaration in parameters.items() if declaration["default"] is None}
    assert required <= given <= set(parameters), f"{relative(path)}: {name}"


@pytest.mark.parametrize("path", BICEP, ids=relative)
def test_outputs_that_are_used_exist(path: Path) -> None:
    targets = {name: path.parent / target for source, name, target, _ in module_calls() if source == path}
    used = re.findall(r"\b(\w+)\.outputs\.(\w+)", without_comments(path))
    missing = [f"{name}.{output}" for name, output in used if output not in parsed(targets[name])["outputs"]]
    assert missing == []


def test_every_module_is_used() -> None:
    used = {(path.parent / target).resolve() for path, _, target, _ in module_calls()}
    assert used == {path.resolve() for path in (INFRA / "modules").glob("*.bicep")}


def test_the_parameter_file_names_parameters_of_the_main_module() -> None:
    given = json.loads((INFRA / "main.parameters.json").read_text("utf-8"))["parameters"]
    parameters = parsed(INFRA / "main.bicep")["parameters"]
    required = {name for name, declaration in parameters.items() if declaration["default"] is None}
    assert required <= set(given) <= set(parameters)


@pytest.mark.parametrize(("module", "role"), BUILT_IN_ROLES.items())
def test_roles_are_the_built_in_ones_and_are_given_to_one_resource(module: str, role: str) -> None:
    text = without_comments(INFRA / "modules" / module)
    assert re.findall(r"'([0-9a-f]{8}-[0-9a-f-]{27})'", text) == [role]
    assert re.search(r"^  scope: \w+$", text, re.MULTILINE), "the role would be given on the whole resource group"


def test_containers_are_told_where_the_scheduler_is() -> None:
    main = without_comments(INFRA / "main.bicep")
    settings = main.split("var settings = [")[1].split("\n]")[0]
    assert set(re.findall(r"name: '(\w+)'", settings)) == ENVIRONMENT


@pytest.mark.parametrize("folder", DEPLOYED, ids=lambda folder: folder.name)
def test_azure_yaml_names_what_exists(folder: Path) -> None:
    project = yaml.safe_load((folder / "azure.yaml").read_text("utf-8"))
    infra = project["infra"]
    main = (folder / infra["path"] / f"{infra['module']}.bicep").resolve()
    assert main == (INFRA / "main.bicep").resolve()
    text = main.read_text("utf-8")
    # azd finds the container app of a service by a tag with its name.
    assert set(project["services"]) == set(re.findall(r"serviceName: '(\w+)'", text))
    variables = set(re.findall(r"\$(?:env:)?([A-Z]\w+)", json.dumps(project["hooks"])))
    assert variables
    assert variables <= set(parsed(main)["outputs"])
    for name, service in project["services"].items():
        docker = service["docker"]
        source = folder / service["project"]
        dockerfile = (source / docker["path"]).read_text("utf-8")
        assert (source / docker["context"] / "packages").is_dir()
        assert f"FROM runtime AS {name}\n" in dockerfile
        assert docker["buildArgs"] == [f"SAMPLE={folder.name}", f"PROGRAM={name}"]
        assert (folder / f"{name}.py").is_file()


def test_images_run_without_rights_and_copy_what_exists() -> None:
    dockerfile = (SAMPLES / "Dockerfile").read_text("utf-8")
    stages = re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[1:]
    runtime = next(stage for stage in stages if " AS runtime\n" in stage)
    user = re.search(r"^USER (\d+)$", runtime, re.MULTILINE)
    assert user is not None and int(user[1]) > 0
    assert not any(re.search(r"^USER", stage, re.MULTILINE) for stage in stages if stage != runtime)
    assert [stage.split()[0] for stage in stages[2:]] == ["runtime", "runtime", "${PROGRAM}"]
    kept = (SAMPLES / "Dockerfile.dockerignore").read_text("utf-8")
    for source in re.findall(r"^COPY (?!--)(\S+)", dockerfile, re.MULTILINE):
        assert f"\n!{source.split('/')[0]}\n" in kept
        assert (SAMPLES.parent / source.replace("${SAMPLE}", "versioning")).exists()
