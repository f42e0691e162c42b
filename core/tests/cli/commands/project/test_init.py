"""`init` and `ship`: a new project, and its code for the instances."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import attrs
import pytest
import yaml
from command_line import CommandLine
from memory_commands import Answer, MemoryCommands
from terminal import in_a_terminal

from cloud_tasks.cli.context import make_registry
from cloud_tasks.cli.main import main
from cloud_tasks.cli.scaffold.project_files import worker_packages
from cloud_tasks.cli.scaffold.source_archive import pack, upload
from cloud_tasks.config import PROVIDER_KINDS, load_config
from cloud_tasks.plugin import Reach, hookimpl, setting
from cloud_tasks.shipping import find_checkout
from cloud_tasks.testing import MemoryProvider


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def repository(folder: Path) -> str:
    """Create a git repository with all files of the folder; return the commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "All")
    return git(folder, "rev-parse", "HEAD")


@attrs.frozen(kw_only=True)
class CloudSettings:
    project: str = setting(help="Whose machines these are", flag="--project")
    colour: str = setting(help="Which", default="blue")


LOCAL = dict.fromkeys(PROVIDER_KINDS, "local")


@attrs.frozen(kw_only=True)
class ClusterSettings:
    project: str = setting(help="What is charged", default="none", asked=True)
    partition: str = setting(help="Where jobs wait", default="main", asked=True)


ARCHIVE = ("--ship", "archive", "--bucket", "box")


def init_with_cluster(
    *arguments: str, location: Reach = Reach.NETWORK, reach: Reach = Reach.NETWORK, ship: tuple[str, ...] = ARCHIVE
) -> Answer:
    """Run ``init`` with two plugins: ``memory``, and ``cluster``, which has compute and pricing only.

    Args:
        location: Where the instances of ``cluster`` are.
        reach: From where the queue ``memory`` can be used; ``wide`` can be used from anywhere.
    """
    provider = MemoryProvider()
    queue_traits = attrs.evolve(provider.queue.traits, reach=reach)
    commands = MemoryCommands(provider=provider, compute={"settings": CloudSettings}, queue={"traits": queue_traits})
    backends = commands.provider
    traits = attrs.evolve(backends.compute.traits, location=location)
    if reach is not Reach.NETWORK:
        wide = attrs.evolve(backends.queue, name="wide")
        commands.registry.register("wide", SimpleNamespace(cloud_tasks_register_queue=hookimpl(lambda: (wide,))))
    plugin = SimpleNamespace(
        cloud_tasks_register_compute=hookimpl(
            lambda: (attrs.evolve(backends.compute, name="cluster", settings=ClusterSettings, traits=traits),)
        ),
        cloud_tasks_register_pricing=hookimpl(lambda: (attrs.evolve(backends.pricing, name="cluster"),)),
    )
    commands.registry.register("cluster", plugin)
    return commands.call("init", "sums", *ship, *arguments, provider=False)


def init(*arguments: str, provider: str | None = "memory") -> Answer:
    chosen = [] if provider is None else ["--provider", provider]
    return MemoryCommands(compute={"settings": CloudSettings}).call("init", *chosen, *arguments, provider=False)


# init


def test_init_writes_worker_tasks_configuration_and_startup_script(tmp_path: Path) -> None:
    answer = init("sums", "--ship", "archive", "--bucket", "gs://box/code", "--region", "moon-1")
    assert answer.error is None
    assert sorted(path.name for path in (tmp_path / "sums").iterdir()) == [
        ".gitignore", "config.yml", "startup.sh", "tasks.json", "worker.py",
    ]  # fmt: skip
    config = yaml.safe_load((tmp_path / "sums" / "config.yml").read_text())
    assert (config["provider"], config["run"]["job_id"], config["run"]["region"]) == ("memory", "sums", "moon-1")
    ast.parse((tmp_path / "sums" / "worker.py").read_text())
    assert len(json.loads((tmp_path / "sums" / "tasks.json").read_text())) == 20
    assert "cloud-tasks ship --config config.yml" in answer.out
    assert answer.out.rstrip().endswith("cloud-tasks run --config config.yml --task-file tasks.json")


def test_init_shows_the_settings_to_fill_in(tmp_path: Path) -> None:
    answer = init("sums", "--ship", "archive", "--bucket", "box")
    assert "Set in config.yml:   memory.project" in answer.out
    assert "# project: # required: Whose machines these are" in (tmp_path / "sums" / "config.yml").read_text()


def test_init_writes_provider_settings_into_their_section(tmp_path: Path) -> None:
    answer = init("sums", "--ship", "archive", "--bucket", "box", "--set", "project=my: project")
    assert "Set in config.yml" not in answer.out
    assert yaml.safe_load((tmp_path / "sums" / "config.yml").read_text())["memory"] == {"project": "my: project"}


@pytest.mark.parametrize(
    "chosen", [("--provider", "cluster", "--queue", "memory"), ("--compute", "cluster", "--queue", "memory")]
)
def test_init_takes_queue_and_compute_of_different_plugins(tmp_path: Path, chosen: tuple[str, ...]) -> None:
    answer = init_with_cluster(*chosen, "--set", "partition=long", "--set", "cluster.project=physics")
    assert answer.error is None
    text = (tmp_path / "sums" / "config.yml").read_text()
    found = yaml.safe_load(text)
    assert {key: found.get(key) for key in ("provider", *PROVIDER_KINDS)} == {
        "provider": None,
        "queue": "memory",
        "compute": "cluster",
        "pricing": "cluster",
    }
    assert found["cluster"] == {"partition": "long", "project": "physics"}
    assert "list-regions --provider cluster" in text


@pytest.mark.parametrize(("chosen", "given"), [(("--queue", "memory"), True), ((), False)])
def test_init_refuses_a_queue_out_of_reach(tmp_path: Path, chosen: tuple[str, ...], given: bool) -> None:
    error = init_with_cluster(
        "--compute", "cluster", *chosen, location=Reach.SHARED_FILES, reach=Reach.MACHINE
    ).error  # fmt: skip
    assert str(error) == (
        'queue: "memory" can be used from the controller\'s machine only, and the instances of compute "cluster" '
        "are elsewhere; use queue: wide"
        if given
        else 'no queue chosen: "cluster" has none; add --queue NAME; installed: wide'
    )
    assert not (tmp_path / "sums").exists()


@pytest.mark.parametrize("location", list(Reach))
def test_init_ships_the_folder_to_instances_that_share_it(tmp_path: Path, location: Reach) -> None:
    chosen = ("--compute", "cluster", "--queue", "memory")
    answer = init_with_cluster(*chosen, location=location, ship=("--ship", "folder"))
    if location is Reach.NETWORK:
        assert str(answer.error).startswith('--ship: instances of "cluster" do not share your folder')
        return
    assert answer.error is None
    assert 'cd "$CLOUD_TASKS_SUBMIT_DIR"' in (tmp_path / "sums" / "startup.sh").read_text()


def test_init_installs_nothing_on_machines_that_share_files(tmp_path: Path) -> None:
    answer = init_with_cluster("--compute", "cluster", "--queue", "memory", location=Reach.SHARED_FILES)
    assert answer.error is None
    script = (tmp_path / "sums" / "startup.sh").read_text()
    assert not any(word in script for word in ("apt-get", "/root", "/var/", "pip install"))
    assert 'CACHE="${CLOUD_TASKS_LOCAL_STATE_DIR:-$CLOUD_TASKS_SUBMIT_DIR/.cloud-tasks}"\n' in script
    assert "PYTHON=python3\n" in script


def test_init_asks_for_the_kind_that_a_provider_lacks(tmp_path: Path) -> None:
    for chosen in (("--provider", "cluster"), ("--compute", "cluster")):
        error = init_with_cluster(*chosen).error
        assert str(error) == 'no queue chosen: "cluster" has none; add --queue NAME; installed: memory'
    assert not (tmp_path / "sums").exists()


@pytest.mark.parametrize(
    ("word", "reason"),
    [("projet=p", 'did you mean "memory.project"?'), ("cluster.project=p", "cluster.project: unknown setting")],
)
def test_init_refuses_unknown_settings(tmp_path: Path, word: str, reason: str) -> None:
    assert reason in str(init("sums", "--ship", "archive", "--bucket", "box", "--set", word).error)
    assert not (tmp_path / "sums").exists()


@pytest.mark.parametrize(
    ("folder", "job_id"),
    [("My Sums 2", "my-sums-2"), ("2026-run", "run"), ("x" * 40, "x" * 24), ("---", "job")],
)
def test_init_derives_the_job_name_from_the_folder(tmp_path: Path, folder: str, job_id: str) -> None:
    init("--ship", "archive", "--bucket", "box", "--", folder)
    assert yaml.safe_load((tmp_path / folder / "config.yml").read_text())["run"]["job_id"] == job_id


def test_init_never_overwrites_files(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text("mine")
    (tmp_path / ".gitignore").write_text("mine too")
    answer = init("--ship", "archive", "--bucket", "box", "--job-id", "sums")
    assert "would overwrite worker.py" in str(answer.error)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".gitignore", "worker.py"]
    (tmp_path / "worker.py").unlink()
    assert init("--ship", "archive", "--bucket", "box", "--job-id", "sums").error is None
    assert (tmp_path / ".gitignore").read_text() == "mine too"


def test_init_clones_a_repository_at_its_commit(tmp_path: Path) -> None:
    project = tmp_path / "tree" / "job"
    project.mkdir(parents=True)
    (project / "data.txt").write_text("1")
    commit = repository(tmp_path / "tree")
    git(tmp_path / "tree", "remote", "add", "origin", "https://example.org/tree.git")
    (project / "data.txt").write_text("2")
    answer = init("tree/job")
    script = (project / "startup.sh").read_text()
    assert f"REPOSITORY=https://example.org/tree.git\nCOMMIT={commit}\n" in script
    assert 'cd "$CODE/job"\n' in script
    assert "1 changed file not in commit" in answer.err
    assert "is on no remote branch" in answer.err


@pytest.mark.parametrize("ship", [("git", "--repository", "r", "--commit", "c"), ("archive", "--bucket", "gs://b")])
@pytest.mark.parametrize("provider", ["memory", "local"])
def test_init_writes_valid_bash(tmp_path: Path, provider: str, ship: tuple[str, ...]) -> None:
    commands = MemoryCommands()
    if provider == "local":
        pytest.importorskip("cloud_tasks_local")
        shell = CommandLine(tmp_path)
        assert shell.run("init", "p", "--provider", "local", "--ship", *ship).code == 0
    else:
        assert commands.call("init", "p", "--provider", provider, "--ship", *ship, provider=False).error is None
    script = (tmp_path / "p" / "startup.sh").read_text()
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert "@" not in script.replace("$@", "")
    assert ("pip install" in script) == (provider == "memory")
    for option in ("Acquire::Retries=", "DPkg::Lock::Timeout=", "--retries"):
        assert (option in script) == (provider == "memory")


def test_worker_packages_have_no_version_and_no_controller_extras() -> None:
    assert worker_packages(make_registry(), LOCAL) == ("cloud-tasks", "cloud-tasks-local")
    assert worker_packages(MemoryCommands().registry, dict.fromkeys(PROVIDER_KINDS, "memory")) == ("cloud-tasks",)


def test_init_installs_the_package_that_reads_the_bucket(tmp_path: Path) -> None:
    for url, package in (("gs://b", "gcsfs"), ("s3://b", "s3fs"), ("az://b", "adlfs")):
        folder = url.partition(":")[0]
        assert init(folder, "--bucket", url).error is None
        assert f" {package}\n" in (tmp_path / folder / "startup.sh").read_text()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--ship", "folder"], 'instances of "memory" do not share your folder'),
        (["--ship", "git"], "--repository"),
        (["--ship", "git", "--repository", "r"], "--commit"),
        (["--ship", "archive"], "no location for the archive"),
        (["--ship", "archive", "--bucket", "b", "--commit", "c"], "--commit: requires --ship git"),
        (["--ship", "git", "--bucket", "b"], "--bucket: requires --ship archive"),
        (["--bucket", "b", "--job-id", "Big Job"], '"Big Job" is not a valid job name'),
        (["--bucket", "b", "--set", "project"], 'such as project_id=my-project, got "project"'),
    ],
)
def test_init_reports_misuse_and_writes_nothing(tmp_path: Path, arguments: list[str], reason: str) -> None:
    assert reason in str(init("new", *arguments).error)
    assert not (tmp_path / "new").exists()


def test_init_rejects_an_unknown_provider() -> None:
    assert 'unknown queue backend "nimbus"' in str(init(provider="nimbus").error)


def test_init_prompts_for_missing_options_on_a_terminal(tmp_path: Path) -> None:
    session = in_a_terminal(tmp_path, "local\nmy-job", "init", "new")
    assert session.code == 0, session.err
    found = yaml.safe_load((tmp_path / "new" / "config.yml").read_text())["run"]
    assert (found["job_id"], found["program"]) == ("my-job", "worker.py")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        ".gitignore", "config.yml", "tasks.json", "worker.py",
    ]  # fmt: skip


def test_init_prompts_for_region_and_common_settings_of_a_cloud(tmp_path: Path) -> None:
    session = in_a_terminal(tmp_path, "gcp\n\ngs://box/code\nus-central1\nmy-project\n\ny\n2", "init", "new")
    assert session.code == 0, session.err
    assert "Google Cloud project that is billed (gcp.project_id): " in session.out
    text = (tmp_path / "new" / "config.yml").read_text()
    found = yaml.safe_load(text)
    assert (found["run"]["region"], found["gcp"]) == ("us-central1", {"project_id": "my-project"})
    run = found["run"]
    assert (run["program"], run["staging"]) == ("worker.py", "gs://box/code")
    assert (run["use_spot"], run["min_gpus"]) == (True, 2)
    assert (tmp_path / "new" / "requirements.txt").exists()
    assert "  # service_account: # E-mail address" in text
    assert "cloud-tasks doctor --config config.yml" in session.out


@pytest.mark.parametrize("provider", ["gcp", "aws", "azure"])
def test_init_writes_skipped_settings_as_comments(tmp_path: Path, provider: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", "sums", "--provider", provider, "--ship", "archive", "--bucket", "box", "--yes"])
    assert ended.value.code == 0
    text = (tmp_path / "sums" / "config.yml").read_text()
    assert f"  # region: # region of the instances; see `cloud-tasks list-regions --provider {provider}`" in text
    asked = {"gcp": "project_id", "aws": "instance_profile", "azure": "subscription_id"}[provider]
    assert f"  # {asked}: # " in text
    load_config(make_registry(), file=tmp_path / "sums" / "config.yml", options={}, environ={})


@pytest.mark.parametrize("provider", ["gcp", "aws", "azure"])
def test_init_writes_a_program_that_is_shipped(
    tmp_path: Path, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", "sums", "--provider", provider, "--spot", "--yes"])
    assert ended.value.code == 0
    assert f"Set up the account:  cloud-tasks setup {provider}" in capsys.readouterr().out
    text = (tmp_path / "sums" / "config.yml").read_text()
    assert "\n  # staging: # required: a prefix" in text
    config = load_config(make_registry(), file=tmp_path / "sums" / "config.yml", options={}, environ={})
    assert (config.run.program, config.run.use_spot, config.run.min_gpus) == ("worker.py", True, None)
    assert config.is_shipped


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            ("--provider", "gcp", "--staging", "s3://box"),
            "--staging: instances of gcp cannot download from it; use gs://",
        ),
        (("--provider", "local", "--staging", "gs://box"), "--staging: nothing is downloaded; omit it"),
    ],
)
def test_init_refuses_a_staging_that_instances_cannot_use(
    tmp_path: Path, options: tuple[str, ...], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["init", "sums", *options, "--yes"])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "sums").exists()


def test_init_warns_of_a_startup_script_that_is_not_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["init", "sums", "--provider", "gcp", "--ship", "archive", "--bucket", "box", "--yes"])
    assert "Warning: --ship is deprecated: without it, the program is shipped" in capsys.readouterr().err


def test_init_with_yes_prompts_for_nothing(tmp_path: Path) -> None:
    session = in_a_terminal(tmp_path, "", "init", "new", "--yes")
    assert (session.code, "[" in session.out) == (0, False)
    assert yaml.safe_load((tmp_path / "new" / "config.yml").read_text())["provider"] == "local"


# the archive


def names(content: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return archive.getnames()


def write_tree(folder: Path) -> None:
    (folder / "package" / "deep").mkdir(parents=True)
    for name in ("worker.py", "secret.env", "package/code.py", "package/deep/data.bin", "package/x.tmp"):
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("*.env\n")
    (folder / "package" / ".gitignore").write_text("*.tmp\n")
    (folder / "link").symlink_to("worker.py")


EXPECTED = [".gitignore", "link", "package/.gitignore", "package/code.py", "package/deep/data.bin", "worker.py"]


@pytest.mark.parametrize("is_repository", [False, True])
def test_pack_includes_what_git_would_track(tmp_path: Path, is_repository: bool) -> None:
    write_tree(tmp_path)
    if is_repository:
        repository(tmp_path)
        (tmp_path / "package" / "code.py").unlink()
        (tmp_path / "new.py").write_text("not yet added")
    expected = sorted([*EXPECTED, "new.py"]) if is_repository else EXPECTED
    expected = [name for name in expected if not (is_repository and name == "package/code.py")]
    assert names(pack(tmp_path).content) == expected
    assert (tmp_path / ".git").exists() == is_repository


def test_pack_of_a_folder_in_a_repository_excludes_the_rest(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / ".gitignore").write_text("*.bin\n")
    repository(tmp_path)
    assert names(pack(tmp_path / "package").content) == [".gitignore", "code.py"]


def test_pack_of_the_same_files_gives_the_same_archive(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tree(tmp_path / name)
    (tmp_path / "two" / "worker.py").touch()
    one, two = pack(tmp_path / "one"), pack(tmp_path / "two")
    assert one == two
    (tmp_path / "two" / "worker.py").write_text("other")
    assert pack(tmp_path / "two").name != one.name


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o700, 0o755])
def test_pack_ignores_hard_links_owners_times_and_access_of_others(tmp_path: Path, mode: int) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_tree(tmp_path / name)
    shutil.copy(tmp_path / "one" / "worker.py", tmp_path / "one" / "copy.py")
    (tmp_path / "two" / "copy.py").hardlink_to(tmp_path / "two" / "worker.py")
    for file in ("copy.py", "worker.py"):
        (tmp_path / "one" / file).chmod(0o755 if mode & 0o100 else 0o644)
        (tmp_path / "two" / file).chmod(mode)
    one, two = pack(tmp_path / "one"), pack(tmp_path / "two")
    assert one == two
    with tarfile.open(fileobj=io.BytesIO(two.content)) as archive:
        content = {name: archive.extractfile(name) for name in ("copy.py", "worker.py")}
        assert {file and file.read() for file in content.values()} == {(tmp_path / "one" / "worker.py").read_bytes()}
        assert {member.type for member in archive if not member.issym()} == {tarfile.REGTYPE}


def test_upload_skips_an_existing_archive(tmp_path: Path) -> None:
    write_tree(tmp_path)
    archive = pack(tmp_path)
    box = tmp_path / "box" / "deep"
    assert [upload(archive, str(box)), upload(archive, str(box))] == [True, False]
    assert [path.name for path in box.iterdir()] == [archive.name]
    assert (box / archive.name).read_bytes() == archive.content


def test_find_checkout_without_git_is_none(tmp_path: Path) -> None:
    assert find_checkout(tmp_path) is None


# ship


def ship(*arguments: str) -> Answer:
    return MemoryCommands().call("ship", "--config", "config.yml", *arguments)


def test_ship_changes_only_the_line_that_names_the_code(tmp_path: Path) -> None:
    commands = MemoryCommands()
    commands.call("init", ".", "--provider", "memory", "--bucket", str(tmp_path / "box"), provider=False)
    (tmp_path / ".gitignore").write_text("box\n")
    before = (tmp_path / "startup.sh").read_text().splitlines()
    assert ship("--dry-run").out.startswith("Would upload code-")
    assert not (tmp_path / "box").exists()
    assert ship().error is None
    after = (tmp_path / "startup.sh").read_text().splitlines()
    (change,) = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    (archive,) = (tmp_path / "box").iterdir()
    assert change == ("ARCHIVE=", f"ARCHIVE={archive.name}")
    assert "startup.sh" not in names(archive.read_bytes())
    again = ship()
    assert "Found code-" in again.out
    assert "startup.sh is up to date" in again.out
    shown = ship("--json")
    assert "Found code-" in shown.err
    assert json.loads(shown.out) == {
        "script": str(tmp_path / "startup.sh"),
        "archive": archive.name,
        "files": len(names(archive.read_bytes())),
        "names": names(archive.read_bytes()),
        "bytes": archive.stat().st_size,
        "bucket": str(tmp_path / "box"),
        "uploaded": False,
        "script_changed": False,
    }


def test_ship_sets_the_commit(tmp_path: Path) -> None:
    MemoryCommands().call(
        "init", ".", "--provider", "memory", "--ship", "git", "--repository", "r", "--commit", "c", provider=False
    )
    commit = repository(tmp_path)
    expected = {"commit": commit, "changed_files": 0, "to_be_pushed": False, "script_changed": True}
    shown = ship("--json", "--dry-run")
    assert f"Would set commit {commit}" in shown.err
    assert json.loads(shown.out) == {"script": str(tmp_path / "startup.sh"), **expected}
    assert ship().error is None
    assert f"\nCOMMIT={commit}\n" in (tmp_path / "startup.sh").read_text()
    assert "changed file" not in ship().err


@pytest.mark.parametrize(
    ("run", "script", "reason"),
    [
        ("{}", "", "run.startup_script_file is not set"),
        ("{startup_script_file: absent.sh}", "", "run.startup_script_file: file not found"),
        ("{startup_script_file: s.sh}", "echo\n", "no line starts with BUCKET= or COMMIT="),
        ("{startup_script_file: s.sh}", "COMMIT=\n", "not a git repository with a commit"),
        ("{startup_script_file: s.sh}", "BUCKET=box\n", "no line starts with ARCHIVE="),
    ],
)
def test_ship_reports_what_it_cannot_ship(tmp_path: Path, run: str, script: str, reason: str) -> None:
    (tmp_path / "config.yml").write_text(f"provider: memory\nrun: {run}\n")
    (tmp_path / "s.sh").write_text(script)
    assert reason in str(ship().error)


# the whole way


def test_new_project_runs_unchanged(shell: CommandLine) -> None:
    assert shell.run("init", ".", "--provider", "local", "--job-id", "job").code == 0
    fast = ("--scaling-check-interval", "0.5", "--instance-termination-delay", "0")
    done = shell.run("run", "--config", "config.yml", "--task-file", "tasks.json", *fast)
    assert done.code == 0, done.err
    assert "Total tasks: 20\n  Completed: 20\n" in done.out


@pytest.mark.parametrize(("how", "option"), [("git", ("--ship", "git")), ("archive", ("--bucket", "box"))])
def test_startup_script_fetches_the_code_once(shell: CommandLine, how: str, option: tuple[str, ...]) -> None:
    folder = shell.folder
    (folder / "README.md").write_text("My project")
    if how == "git":
        repository(folder)
    assert shell.run("init", ".", "--provider", "local", "--job-id", "job", *option).code == 0
    (folder / "worker.py").write_text("import os\nprint(os.getcwd(), sorted(os.listdir()))\n")
    if how == "git":
        repository(folder)
    assert shell.run("ship", "--config", "config.yml").code == 0
    state = folder / "state"
    environment = {**os.environ, "CLOUD_TASKS_LOCAL_STATE_DIR": str(state)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"

    def boot() -> str:
        command = ["bash", str(folder / "startup.sh")]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    first = boot()
    assert first.startswith(f"{state}/code/")
    assert "'worker.py'" in first
    assert "'README.md'" in first
    # What it came from is not needed a second time.
    for source in (folder / ".git", folder / "box"):
        if source.exists():
            source.rename(f"{source}-gone")
    assert boot() == first
    assert len(list((state / "code").iterdir())) == 1
