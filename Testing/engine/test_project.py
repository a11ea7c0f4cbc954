"""The project as a whole: what Slicer and pip ship, and what lies in the repository."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENGINE = "CardiacDiffusionAug/cardiac_diffusion_aug"
MODELS = "CardiacDiffusionAug/Resources/Models"
UPDATE_LISTS = "Testing/cmake/update_lists.py"
MODULE_CMAKE = "CardiacDiffusionAug/CMakeLists.txt"

TOP_LEVEL = {"CMakeLists.txt", "CardiacDiffusionAug", "LICENSE", "README.md", "Resources", "Testing", "pyproject.toml"}
LARGEST_FILE = 20_000_000


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def need(*tools: str) -> None:
    """Skip the test unless all these tools are on the PATH."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not on the PATH")


@pytest.fixture(scope="module")
def files() -> list[str]:
    """Files that git tracks, or would after `git add .`."""
    need("git")
    if not (ROOT / ".git").exists():
        pytest.skip("the sources are not a checkout of git")
    names = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate").stdout
    return sorted(name for name in names.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture
def sources(files: list[str], tmp_path: Path) -> Path:
    """A copy of what CMake reads, to break."""
    copy = tmp_path / "sources"
    for name in files:
        if name.startswith(("CardiacDiffusionAug/", "Testing/")) or name == "CMakeLists.txt":
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
    return copy


def configure(sources: Path, build: Path) -> subprocess.CompletedProcess[str]:
    """Configure the extension against the stand-in for Slicer."""
    need("cmake", "make", "cc", "c++")
    slicer = sources / "Testing" / "cmake" / "FakeSlicer"
    return run("cmake", "-S", sources, "-B", build, f"-DSlicer_DIR={slicer}", "-DBUILD_TESTING=ON", cwd=build.parent)


def test_every_file_of_the_module_is_listed_for_slicer(files: list[str]) -> None:
    checked = run(sys.executable, UPDATE_LISTS, "--check")
    assert checked.returncode == 0, f"run python {UPDATE_LISTS}\n{checked.stdout}{checked.stderr}"


def test_a_forgotten_file_is_noticed_and_then_listed(sources: Path) -> None:
    run("git", "init", "--quiet", cwd=sources)
    (sources / ENGINE / "forgotten.py").touch()
    (sources / MODELS / "forgotten weights.safetensors").touch()

    checked = run(sys.executable, UPDATE_LISTS, "--check", cwd=sources)
    assert checked.returncode == 1
    assert "+  cardiac_diffusion_aug/forgotten.py" in checked.stdout
    assert '+  "Resources/Models/forgotten weights.safetensors"' in checked.stdout

    assert run(sys.executable, UPDATE_LISTS, cwd=sources).returncode == 0
    assert run(sys.executable, UPDATE_LISTS, "--check", cwd=sources).stdout == ""


def test_cmake_configures_the_extension(tmp_path: Path) -> None:
    configured = configure(ROOT, tmp_path / "build")
    assert configured.returncode == 0, configured.stderr


@pytest.mark.parametrize("name", ["cardiac_diffusion_aug/labels.py", "Resources/Models/README.md"])
def test_cmake_refuses_a_listed_file_that_is_missing(sources: Path, tmp_path: Path, name: str) -> None:
    (sources / "CardiacDiffusionAug" / name).unlink()
    configured = configure(sources, tmp_path / "build")
    assert configured.returncode != 0
    assert name in configured.stderr


def test_cmake_refuses_a_file_outside_the_module(sources: Path, tmp_path: Path) -> None:
    cmake = sources / MODULE_CMAKE
    cmake.write_text(cmake.read_text().replace("# END RESOURCES", "../CMakeLists.txt"))
    configured = configure(sources, tmp_path / "build")
    assert configured.returncode != 0
    assert "../CMakeLists.txt" in configured.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel that pip would install."""
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    path = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("wheel"))))
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_engine_and_the_models(wheel: zipfile.ZipFile, files: list[str]) -> None:
    package = "cardiac_diffusion_aug"
    moved = {ENGINE: package, MODELS: f"{package}/models"}
    expected = {
        new + name.removeprefix(old) for name in files for old, new in moved.items() if name.startswith(old + "/")
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_the_wheel_states_version_license_dependencies_and_command(wheel: zipfile.ZipFile) -> None:
    import cardiac_diffusion_aug

    info = f"cardiac_diffusion_aug-{cardiac_diffusion_aug.__version__}.dist-info"
    facts = HeaderParser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert facts["Name"] == "cardiac-diffusion-aug"
    assert facts["Version"] == cardiac_diffusion_aug.__version__
    assert facts["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-4.0"
    assert f"{info}/licenses/LICENSE" in wheel.namelist()
    commands = configparser.ConfigParser()
    commands.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert commands["console_scripts"]["cardiac-diffusion-aug"] == "cardiac_diffusion_aug.cli:main"
    # Without an upper bound a future release of a dependency breaks an installation that worked.
    unbounded = [
        need
        for need in facts.get_all("Requires-Dist", [])
        if "==" not in need and ("<" not in need or ">=" not in need)
    ]
    assert unbounded == []


def test_no_file_is_too_large_for_the_repository(files: list[str]) -> None:
    assert [name for name in files if (ROOT / name).stat().st_size > LARGEST_FILE] == []


def test_the_top_level_holds_only_what_belongs_there(files: list[str]) -> None:
    top = {name.partition("/")[0] for name in files}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_pictures_for_the_extension_index_are_there() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    pictures = re.findall(r"https://raw\.githubusercontent\.com/\w+/\w+/main/([\w/.]+)", text)
    assert len(pictures) == 4
    assert [name for name in pictures if not (ROOT / name).is_file()] == []
