"""The command line as a whole: exit codes, messages, settings, what is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from diffkeeper import cli, engines
from diffkeeper.cli import settings
from diffkeeper.engines.protocol import EngineSurvey
from diffkeeper.errors import UsageError


def run_python(program, **more):
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, **more)


@pytest.mark.parametrize("args", ["--help", "--version", "timeline --help", "record --help"])
def test_help_and_version_are_on_standard_output(args, capsys):
    assert cli.run(args.split()) == 0
    captured = capsys.readouterr()
    assert captured.out
    assert captured.err == ""


def test_help_lists_every_command_and_each_loads(capsys):
    cli.run(["--help"])
    shown = capsys.readouterr().out
    for name in cli._COMMANDS:
        assert f"  {name}  " in shown
        assert cli.load_command(name).name == name


@pytest.mark.parametrize(
    ("args", "exit_code", "message"),
    [
        ([], 2, "Usage: diffkeeper"),
        (["timelin"], 2, "diffkeeper: no command 'timelin': did you mean 'timeline'?"),
        (["--nope"], 2, "No such option"),
        (["timeline", "--nope"], 2, "Try 'diffkeeper timeline --help'."),
        (["timeline", "--last", "0"], 2, "--last"),
        (["export"], 2, "--out"),
        (["record"], 125, "COMMAND"),
        (["record", "--nope"], 125, "No such option"),
        (["record", "--baseline", "some", "true"], 125, "--baseline"),
    ],
)
def test_bad_usage_is_two_and_for_record_125(args, exit_code, message, capsys):
    assert cli.run(args) == exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


@pytest.mark.parametrize(("args", "exit_code"), [(["info"], 70), (["record", "true"], 125)])
def test_an_internal_error_is_no_exit_code_of_the_command(args, exit_code, capsys, monkeypatch):
    def broken(name):
        raise RuntimeError("a defect")

    monkeypatch.setattr(cli, "load_command", broken)
    assert cli.run(args) == exit_code
    assert "please report it" in capsys.readouterr().err


def test_ctrl_c_is_130(monkeypatch):
    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_command", interrupted)
    assert cli.run(["info"]) == 130


def test_a_reader_that_has_seen_enough_is_no_error():
    program = (
        "import click, sys; from diffkeeper import cli\n"
        "@click.command('info')\n"
        "def much():\n    for _ in range(100000): print('x' * 100)\n"
        "cli.load_command = lambda name: much\n"
        "sys.exit(cli.run(['info']))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_an_error_shows_no_control_characters(capsys):
    assert cli.run(["timeline", "--since", "\x1b[2Jsoon", "nowhere"]) in (2, 10)
    assert "\x1b" not in capsys.readouterr().err


def test_help_and_record_load_nothing_slow():
    program = (
        "import sys; from diffkeeper import cli\n"
        "cli.run(['--help']); cli.load_command('record')\n"
        "slow = {'rich', 'pathspec', 'importlib.metadata', 'asyncio', 'tomllib', 'rocksdict'}\n"
        "print(*sorted(slow & set(sys.modules)), file=sys.stderr)"
    )
    assert run_python(program).stderr == "\n"


# --- doctor ---


@pytest.mark.parametrize(("is_usable", "exit_code"), [(True, 0), (False, 13)])
def test_doctor_explains_every_engine(is_usable, exit_code, capsys, monkeypatch):
    survey = EngineSurvey("ebpf", is_usable, "no privileges", ("sudo diffkeeper doctor",))
    monkeypatch.setattr(engines, "survey", lambda: [survey])
    assert cli.run(["doctor"]) == exit_code
    assert survey.text() in capsys.readouterr().out
    assert cli.run(["doctor", "--json"]) == exit_code
    assert capsys.readouterr().out.startswith('{"v":1,"type":"engine","name":"ebpf","is_usable":')


# --- settings ---


@pytest.fixture
def command():
    @click.command("show")
    @click.option("-s", "--state-dir", default="default")
    @click.option("--watch", multiple=True)
    @click.option("--json", "as_json", is_flag=True)
    @click.option("--last", type=int)
    def show(**values):
        click.echo(values)

    settings.name_variables(show)
    return show


def ask(command, folder, *args):
    context = command.make_context("show", list(args), default_map=settings.for_command(command, os.fspath(folder)))
    return context.params


def test_an_option_wins_over_its_variable_over_the_file_over_the_default(command, tmp_path, monkeypatch):
    assert ask(command, tmp_path)["state_dir"] == "default"
    (tmp_path / "pyproject.toml").write_text('[tool.diffkeeper]\nstate-dir = "file"\njson = true\n')
    assert ask(command, tmp_path)["state_dir"] == str(tmp_path / "file")
    assert ask(command, tmp_path)["as_json"] is True
    monkeypatch.setenv("DIFFKEEPER_STATE_DIR", "variable")
    assert ask(command, tmp_path)["state_dir"] == "variable"
    assert ask(command, tmp_path, "-s", "option")["state_dir"] == "option"


def test_a_flag_has_a_variable_of_its_own_name(command, tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFKEEPER_JSON", "1")
    assert ask(command, tmp_path)["as_json"] is True


def test_the_table_of_a_command_wins_over_the_shared_one(command, tmp_path):
    (tmp_path / "pyproject.toml").write_text(
        '[tool.diffkeeper]\nlast = 3\nwatch = ["a", "/b"]\nother = 1\n[tool.diffkeeper.show]\nlast = 4\n'
    )
    found = ask(command, tmp_path)
    assert found["last"] == 4
    assert found["watch"] == (str(tmp_path / "a"), "/b")


def test_the_nearest_file_that_speaks_of_diffkeeper_counts(command, tmp_path):
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text("[tool.diffkeeper]\nlast = 3\n")
    (tmp_path / "a/pyproject.toml").write_text("[tool.other]\nlast = 4\n")
    assert ask(command, inner)["last"] == 3


@pytest.mark.parametrize(
    "text",
    [
        "[tool.diffkeeper.show]\nlsat = 3\n",
        "[tool.diffkeeper]\nshow = 3\n",
        "[tool.diffkeeper]\nlast = [1, 2]\n",
        "[tool.diffkeeper.show]\nlast = {a = 1}\n",
        "[tool.diffkeeper\n",
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_by_name(command, tmp_path, text):
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(UsageError, match=r"pyproject\.toml"):
        ask(command, tmp_path)


def test_a_file_without_our_table_is_not_even_parsed(command, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[[[ not toml")
    assert ask(command, tmp_path)["last"] is None
