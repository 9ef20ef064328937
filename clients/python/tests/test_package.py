"""The package as users get it: built, installed where nothing else is, its README's example run."""

import email
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import textwrap
import venv
import zipfile

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1]


def run(*command, **options):
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist, and the wheel that is made of it: so both hold what they need."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--sdist", "--outdir", out, PACKAGE)
    (sdist,) = out.glob("*.tar.gz")
    unpacked = tmp_path_factory.mktemp("sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", out, source)
    (wheel,) = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def clean(built, tmp_path_factory):
    """The Python of a virtual environment with the wheel and what it depends on, and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    wheels = os.environ.get("SIGNALBOX_TEST_WHEELS")
    source = ["--no-index", "--find-links", wheels] if wheels else []
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *source,
        f"{built}[cache,executor]",
    )
    return python


def test_the_wheel_holds_what_it_needs_and_nothing_else(built):
    with zipfile.ZipFile(built) as wheel:
        names = wheel.namelist()
        metadata = email.message_from_bytes(wheel.read(next(n for n in names if n.endswith("METADATA"))))
    for needed in (
        "py.typed",
        "specs.py",
        "_descriptors.binpb",
        "_families.json",
        "__init__.py",
        "wire/__init__.py",
    ):
        assert f"signalbox/{needed}" in names
    assert {name.split("/")[0] for name in names} == {
        "signalbox",
        f"signalbox_client-{metadata['Version']}.dist-info",
    }
    requires = sorted(re.split(r"[><=; ]", each)[0] for each in metadata.get_all("Requires-Dist"))
    assert requires == [
        "cryptography",
        "grpcio",
        "httpx",
        "opentelemetry-api",
        "prometheus-client",
        "protobuf",
    ]


def of_the_readme(name=""):
    """The one example of the README with a word behind `python`."""
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(rf"```python{' ' * bool(name)}{name}\n(.*?)```", readme, re.DOTALL)
    return example


def put_groq(server):
    server.put("providers/groq", provider={"type": "PROVIDER_TYPE_GROQ", "baseUrl": "http://127.0.0.1:1/v1"})
    server.put("providers/groq/apiKeys/prod", apiKey={"secret": {"value": "gsk-canary-1"}, "weight": 2})
    server.put("routers/default", router={"primary": "providers/groq", "retries": {"maxRetries": 0}})


def environment_of(server):
    return {
        "PATH": os.environ["PATH"],
        "SIGNALBOX_URL": server.url,
        "SIGNALBOX_TOKEN": server.token(),
        "SIGNALBOX_SETTING_MAX_RETRIES": "5",
    }


def test_the_example_of_the_readme_runs(clean, shared, tmp_path):
    put_groq(shared)
    script = tmp_path / "example.py"
    script.write_text(
        of_the_readme()
        + "assert retries == 5 and fast is False\nprint(client.status().ready)\n"
        # Nobody answers there: what is shown is that it calls.
        + of_the_readme("executor")
        + of_the_readme("validate")
        + "client.wait_ready()\nprint(client.status().rejection)\n"
    )
    printed = run(clean, script, env=environment_of(shared), cwd=tmp_path).splitlines()
    assert printed == [
        "http://127.0.0.1:1/v1",
        "prod 2 SecretText(...)",
        "True",
        "nobody has answered: [('groq', 'connection')]",
        "None",
    ]


def test_the_further_examples_of_the_readme_run(clean, shared, tmp_path):
    (tmp_path / "fake.py").write_text(of_the_readme("fake"))
    run(clean, "fake.py", cwd=tmp_path)
    script = of_the_readme("asyncio") + "\n\nimport asyncio\nasyncio.run(work(1))\n"
    (tmp_path / "asynchronous.py").write_text(script)
    worker = subprocess.Popen(
        [str(clean), "-u", "asynchronous.py"],
        env=environment_of(shared),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        assert worker.stdout.readline() == "begins with 5\n"
        shared.put("settings/readme", setting={"intValue": "1"})
        assert worker.stdout.read() == "['settings/readme'] 5\n"
    assert worker.returncode == 0


def test_the_examples_of_the_readme_are_typed(clean, tmp_path):
    scripts = {
        "connect": of_the_readme(),
        "asyncio": of_the_readme("asyncio"),
        "fake": of_the_readme("fake"),
        "validate": "import signalbox\n\n\n" + of_the_readme("validate"),
        "executor": of_the_readme() + of_the_readme("executor"),
    }
    for name, script in scripts.items():
        (tmp_path / f"example_{name}.py").write_text(script)
    check_types(clean, tmp_path, *(f"example_{name}.py" for name in scripts))


@pytest.mark.parametrize("name", ["getting-started", "clients"])
def test_the_examples_of_the_documents_run(clean, shared, tmp_path, name):
    shared.put("providers/groq", provider={"type": "PROVIDER_TYPE_GROQ", "baseUrl": "http://127.0.0.1:1/v1"})
    document = (PACKAGE.parent.parent / "docs" / f"{name}.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(
        example.replace("http://127.0.0.1:50051", shared.url) + "print(client.status().ready)\n"
    )
    (tmp_path / "worker.token").write_text(shared.token())
    environment = {
        "PATH": os.environ["PATH"],
        "SIGNALBOX_URL": shared.url,
        "SIGNALBOX_TOKEN_FILE": "worker.token",
        "SIGNALBOX_SETTING_MAX_RETRIES": "5",
    }
    assert run(clean, script, env=environment, cwd=tmp_path).splitlines()[-1] == "True"


def test_other_stubs_of_the_same_api_do_not_clash(clean, tmp_path):
    """An application may have generated the proto files itself, of another version."""
    script = textwrap.dedent("""
        from google.protobuf import descriptor_pb2, descriptor_pool
        file = descriptor_pb2.FileDescriptorProto(name="signalbox/v1/resource.proto", package="signalbox.v1")
        file.message_type.add(name="Resource").field.add(name="other", number=1, type=9, label=1)
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
        import signalbox
        signalbox.testing.FakeClient({"settings/a": {"setting": {"intValue": 1}}})
    """)
    run(clean, "-c", "import signalbox.testing" + script, cwd=tmp_path)
    run(clean, "-c", script.replace("import signalbox", "import signalbox, signalbox.testing"), cwd=tmp_path)


def test_types_hold():
    run(sys.executable, "-m", "mypy", "--cache-dir", os.devnull, cwd=PACKAGE)


def check_types(clean, folder, *names, errors=0):
    """Checks files as strictly as mypy can, against the package as it is installed."""
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(clean)]
    done = subprocess.run(
        [*mypy, "--cache-dir", os.devnull, *names],
        check=False,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=folder,
    )
    assert (done.stdout.count("error:"), done.returncode) == (errors, int(errors > 0)), done.stdout


def test_an_application_is_checked_by_the_types(clean, tmp_path):
    right = textwrap.dedent("""
        import signalbox
        client = signalbox.connect(url="http://localhost:1")
        provider = client.provider("groq")
        assert provider is not None
        url: str = provider.spec.base_url
        retries: int = client.setting_int("a", 3)
        maybe: int | None = client.setting_int("a")
        models: tuple[str, ...] = provider.spec.models
    """)
    (tmp_path / "right.py").write_text(right)
    (tmp_path / "wrong.py").write_text(
        right + 'client.setting_int("a", "text")\nprovider.spec.no_such_field\n'
    )
    check_types(clean, tmp_path, "right.py")
    check_types(clean, tmp_path, "wrong.py", errors=2)


def test_style_holds():
    run(sys.executable, "-m", "ruff", "check", "--no-cache", PACKAGE)
    run(sys.executable, "-m", "ruff", "format", "--no-cache", "--check", PACKAGE)


def test_no_module_is_too_long():
    for path in (PACKAGE / "src/signalbox").glob("*.py"):
        if path.name != "specs.py":
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
