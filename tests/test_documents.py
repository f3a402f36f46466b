"""What the documents name exists: commands, flags, files, metrics. The site is built from them."""

import contextlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from ranker.cli import app
from ranker.divergence.document import page

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
COMMANDS = typer.main.get_command(app)
CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def page_ids(path):
    return str(path.relative_to(ROOT))


def code_of(path):
    """The text of a page's code, spans and blocks."""
    return [match.strip("`") for match in CODE.findall(path.read_text(encoding="utf-8"))]


def commands_of(path):
    """Calls of `ranker` in a page's code, each as its words; lines that go on with a backslash are joined."""
    for code in code_of(path):
        for line in code.replace("\\\n", " ").splitlines():
            line = re.split(r"\s#\s", line.strip().removeprefix("$ "))[0]
            if re.match(r"ranker [a-z]", line) and "[OPTIONS]" not in line:
                try:
                    yield shlex.split(line)
                except ValueError:  # an excerpt that ends inside a quotation
                    yield line.split()


def mistakes_in(words):
    """What of a call the command line does not know; empty if all of it exists."""
    command, position = COMMANDS, 1
    while hasattr(command, "commands") and position < len(words) and not words[position].startswith("-"):
        child = command.commands.get(words[position])
        if child is None:
            return [words[position]] if not command.invoke_without_command or position == 1 else []
        command, position = child, position + 1
    flags = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    flags |= {"--help", "-h"}
    return [
        word
        for word in words[position:]
        if re.match(r"--[a-z]", word) and word.split("=")[0].rstrip(".,;:") not in flags
    ]


@pytest.mark.parametrize("path", PAGES, ids=page_ids)
def test_commands_and_flags_exist(path):
    mistakes = {" ".join(words): wrong for words in commands_of(path) if (wrong := mistakes_in(words))}
    assert not mistakes


def test_examples_of_the_help_are_calls_that_the_command_line_knows():
    def walk(command, name):
        yield name, command.help or ""
        for child, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{name} {child}")

    mistakes, examples = {}, 0
    for name, text in walk(COMMANDS, "ranker"):
        for example in re.findall(r"Example: (ranker [^\n]+)", text):
            examples += 1
            wrong = mistakes_in(shlex.split(example))
            if wrong:
                mistakes[name] = wrong
    assert not mistakes
    assert examples > 5


NAMED_FILES = re.compile(
    r"(?<![\w./-])(?:benchmarks|configs|docker|docs|tests|ranker|pipelines|serving)/[\w./-]*\w"
)


@pytest.mark.parametrize("path", [p for p in PAGES if "evidence" not in p.parts], ids=page_ids)
def test_files_exist(path):
    named = {name for code in code_of(path) for name in NAMED_FILES.findall(code)}
    # What a user makes stands beside examples of ours, by these names.
    ours = {name for name in named if not re.search(r"configs/mine|docker/\.env$", name)}
    absent = {name for name in ours if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()}
    assert not absent


def test_metrics_exist():
    """Every Prometheus metric that a page names is written somewhere in the code or by a rule."""
    sources = [*(ROOT / "serving").rglob("*.py"), *(ROOT / "docker" / "prometheus").glob("*.yaml")]
    known = "\n".join(source.read_text(encoding="utf-8") for source in sources)
    absent = {}
    for path in PAGES:
        for code in code_of(path):
            for name in re.findall(r"\branker_[a-z_]+", code):
                stem = re.sub(r"_(total|bucket|sum|count)$", "", name)
                if stem not in known and not re.search(
                    rf"{re.escape(stem.removeprefix('ranker_'))}\b", known
                ):
                    absent.setdefault(page_ids(path), set()).add(name)
    assert not absent


def test_the_configuration_page_is_current_and_says_something_of_every_key():
    from ranker.config import document

    for _, section, _ in document.SECTIONS:
        for name, field in section.model_fields.items():
            meaning, example = document.meaning_of(section, name, field)
            assert meaning
            assert example is not None
    written = (DOCS / "configuration.md").read_text(encoding="utf-8")
    assert written == document.page(), "run: python -m ranker.config.document > docs/configuration.md"


@pytest.mark.parametrize("name", ["configuration", "measures"])
def test_the_pages_do_not_need_docstrings(name):
    module = {"configuration": "ranker.config.document", "measures": "ranker.divergence.document"}[name]
    stripped = subprocess.run(
        [sys.executable, "-OO", "-m", module], capture_output=True, text=True, check=True, timeout=120
    )
    assert stripped.stdout == (DOCS / f"{name}.md").read_text(encoding="utf-8")


def test_the_command_line_runs_without_docstrings():
    done = subprocess.run(
        [sys.executable, "-OO", "-m", "ranker.cli", "--help"], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "quickstart" in done.stdout


def test_the_measures_page_is_current():
    written = (DOCS / "measures.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m ranker.divergence.document > docs/measures.md"


def test_the_site_is_built_without_a_warning(tmp_path):
    if sys.version_info < (3, 11):
        pytest.skip("the site's generator needs Python 3.11")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "site" / "reference" / "command-line.html").read_text(encoding="utf-8")
    assert "ranker monitor replay" in written
    answers = (tmp_path / "site" / "reference" / "http.html").read_text(encoding="utf-8")
    assert "/api/matrix" in answers
    assert ":predict" in answers
    # Readable without a network: nothing is loaded from another host.
    for html in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r'<(script|img|iframe)[^>]+src="https?:', html.read_text(encoding="utf-8")), html
        assert not re.search(
            r'<link[^>]+rel="stylesheet"[^>]+href="https?:', html.read_text(encoding="utf-8")
        ), html


def load_script(path):
    specification = importlib.util.spec_from_file_location(f"documentation_{path.stem}", path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_tutorial_shows_the_commands_of_its_script():
    script = load_script(DOCS / "tutorial" / "incident.py")

    class Recorder(script.Workplace):
        def show(self, command, code=0, last=None):
            self.lines.append(f"$ {command}")

        def wait_for_version(self, replica, version):
            pass

        @contextlib.contextmanager
        def in_background(self, command, *further):
            self.lines.append(f"$ {command}")
            yield

    recorder = Recorder(ROOT, script.PORT)
    script.story(recorder, 6000)
    page_lines = (DOCS / "tutorial" / "incident.md").read_text(encoding="utf-8").splitlines()
    commands, shown = (
        [line for line in lines if line.startswith("$ ")] for lines in (recorder.lines, page_lines)
    )
    assert shown == commands, "run: make tutorial"
    assert len(shown) > 8
    prose = "\n".join(line for line in recorder.lines if line and not line.startswith("$ "))
    assert set(prose.splitlines()) <= set(page_lines), "run: make tutorial"


def test_the_routes_of_the_server_are_those_that_it_answers():
    from serving.server.transports import rest

    for call in load_script(DOCS / "hooks.py").SERVER_ROUTES:
        method, path = call.split()
        pattern = rest._POST if method == "POST" else rest._GET
        for version in ("", "/versions/3", "/labels/stable"):
            assert pattern.fullmatch(path.replace("{model}", f"shop{version}")), call


GENERATED = ("reference/command-line.md", "reference/http.md")


@pytest.mark.parametrize("path", PAGES, ids=page_ids)
def test_relative_links_lead_somewhere(path):
    """The pages of the command line and of HTTP are written while the site is built."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    broken = [
        link
        for link in links
        if "://" not in link and not link.endswith(GENERATED) and not (path.parent / link).exists()
    ]
    assert not broken


def test_the_picture_of_the_structure_is_drawn_from_the_code():
    structure = load_script(DOCS / "structure.py")
    assert structure.PICTURE.read_text() == structure.svg(structure.uses()), "run: python docs/structure.py"
