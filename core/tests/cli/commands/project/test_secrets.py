"""`init` and `ship` put no secret into archives, startup scripts or configurations."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import attrs
import pytest
from memory_commands import Answer, MemoryCommands

from cloud_tasks.cli.scaffold.source_archive import pack
from cloud_tasks.errors import InputError
from cloud_tasks.plugin import setting
from cloud_tasks.shipping.secret_files import secret_files

SECRETS = [
    ".env", ".env.production", "prod.env", ".aws/credentials", "deep/.aws/config", ".ssh/id_rsa", ".ssh/known_hosts",
    "keys/id_ed25519", "ID_RSA", ".netrc", ".npmrc", ".pypirc", ".git-credentials", ".docker/config.json", "kubeconfig",
    ".kube/config", "url.secret", "server.key", "cert.PEM", "store.p12", "client_secret_123.json",
    "client_secrets.json", "secrets.yaml", "my-service-account.json", "serviceAccountKey.json", "credentials.json",
    "terraform.tfstate", "gcloud/application_default_credentials.json", "api_token.txt",
]  # fmt: skip
HARMLESS = [
    "worker.py", "secrets.py", "test_credentials.py", "tasks.json", "config.yml", ".env.example", ".env.template",
    "id_rsa.pub", "keyboard.json", "environment.yml", "tokenizer.json", "monkey.txt", "docs/secrets.md", "envelope.txt",
]  # fmt: skip
PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n"


def write(folder: Path, *names: str, content: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize("name", SECRETS)
def test_secret_files_are_recognised_by_name(tmp_path: Path, name: str) -> None:
    assert secret_files(tmp_path, [name]) == (name,)


@pytest.mark.parametrize("name", HARMLESS)
def test_secret_files_are_not_what_merely_sounds_like_them(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    assert secret_files(tmp_path, [name]) == ()


@pytest.mark.parametrize(
    ("name", "content", "is_secret"),
    [
        ("deploy", PRIVATE_KEY, True),
        ("notes.txt", f"the key:\n{PRIVATE_KEY}", True),
        ("gcp.json", '{"type": "service_account", "private_key": "-----BEGIN PRIVATE KEY-----\\nMIIE"}', True),
        ("pgp.asc", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF", True),
        ("cert.txt", "-----BEGIN CERTIFICATE-----\nMIID\n", False),
        ("README.txt", "a file that starts with BEGIN PRIVATE KEY is a key", False),
        ("parser.py", f"KEY = {PRIVATE_KEY!r}", False),
    ],
)
def test_secret_files_are_recognised_by_content(tmp_path: Path, name: str, content: str, is_secret: bool) -> None:
    (tmp_path / name).write_text(content)
    assert secret_files(tmp_path, [name]) == ((name,) if is_secret else ())


@pytest.mark.parametrize("is_repository", [False, True])
def test_pack_refuses_secrets_by_name(tmp_path: Path, is_repository: bool) -> None:
    write(tmp_path, "worker.py", ".env", ".aws/credentials", ".ssh/id_rsa", "url.secret")
    if is_repository:
        subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
        subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    with pytest.raises(InputError, match="hold secrets") as caught:
        pack(tmp_path)
    for name in (".env", ".aws/credentials", ".ssh/id_rsa", "url.secret"):
        assert name in str(caught.value)
    assert ".gitignore" in caught.value.hint
    (tmp_path / ".gitignore").write_text(".aws\n.ssh\n*.secret\n")
    if is_repository:
        subprocess.run(["git", "rm", "--quiet", "-r", "--cached", "."], cwd=tmp_path, check=True)
    assert pack(tmp_path, secrets=[".env"]).files == (".env", ".gitignore", "worker.py")


def ship(*arguments: str) -> Answer:
    return MemoryCommands().call("ship", "--config", "config.yml", *arguments)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "project").mkdir()
    MemoryCommands().call(
        "init", "project", "--provider", "memory", "--bucket", str(tmp_path / "box"), "--yes", provider=False
    )
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_ship_lists_the_files_and_uploads_no_secret(project: Path) -> None:
    (project / ".gitignore").write_text("")
    (project / "key.pem").write_text("x")
    refused = ship()
    assert isinstance(refused.error, InputError)
    assert "key.pem" in str(refused.error)
    assert not (project.parent / "box").exists()
    shown = ship("--dry-run", "--with-secret", "key.pem")
    assert "\n  key.pem\n" in shown.out
    assert "\n  worker.py\n" in shown.out
    assert ship("--with-secret", "key.pem").error is None
    (archive,) = (project.parent / "box").iterdir()
    with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as packed:
        assert "key.pem" in packed.getnames()


def test_init_ignores_secrets(project: Path) -> None:
    write(project, ".env", "key.pem", "credentials.json", "id_rsa", "job.db", ".cloud-tasks/x")
    assert set(pack(project).files) == {".gitignore", "config.yml", "startup.sh", "tasks.json", "worker.py"}


@attrs.frozen(kw_only=True)
class Settings:
    token: str | None = setting(help="Token", secret=True, default=None)


def test_ship_refuses_a_configuration_with_a_secret(project: Path) -> None:
    (project / "config.yml").chmod(0o600)
    with (project / "config.yml").open("a") as file:
        file.write("memory:\n  token: hunter2\n")
    commands = MemoryCommands(compute={"settings": Settings})
    refused = commands.call("ship", "--config", "config.yml")
    assert isinstance(refused.error, InputError)
    assert "memory.token: a secret in a file that would be shipped" in str(refused.error)
    assert "CLOUD_TASKS_MEMORY_TOKEN" in str(refused.error)
    assert "hunter2" not in refused.out + refused.err + str(refused.error)
    assert commands.call("ship", "--config", "config.yml", "--with-secret", "config.yml").error is None


def test_init_writes_no_secret_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = MemoryCommands(compute={"settings": Settings})
    refused = commands.call("init", ".", "--provider", "memory", "--set", "token=hunter2", "--yes", provider=False)
    assert "token is a secret" in str(refused.error)
    assert "hunter2" not in str(refused.error)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", [True, False])
def test_init_writes_no_credentials_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    url = "https://user:ghp_SECRET123@github.com/me/x.git"
    for command in (["init", "--quiet"], ["remote", "add", "origin", url]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", *identity, "commit", "--quiet", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    options = ["--repository", url] if given else []
    shown = MemoryCommands().call(
        "init", ".", "--provider", "memory", "--ship", "git", *options, "--yes", provider=False
    )
    assert shown.error is None
    assert "REPOSITORY=https://github.com/me/x.git\n" in (tmp_path / "startup.sh").read_text()
    assert "credentials in the repository's URL are not written" in shown.err
    written = "".join(file.read_text() for file in tmp_path.iterdir() if file.is_file())
    assert "SECRET" not in written + shown.out + shown.err


def test_init_refuses_credentials_in_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = MemoryCommands().call(
        "init", ".", "--provider", "memory", "--bucket", "s3://key:SECRET@box/code", "--yes", provider=False
    )
    assert "URL with credentials" in str(shown.error)
    assert "SECRET" not in str(shown.error)
    assert list(tmp_path.iterdir()) == []


def test_configuration_shows_no_credentials_of_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yml").write_text("provider: memory\ntask_source: https://me:SECRET@host/tasks.json\n")
    shown = MemoryCommands().call("config", "show", "--config", "config.yml", provider=False)
    assert "https://host/tasks.json" in shown.out
    assert "SECRET" not in shown.out
