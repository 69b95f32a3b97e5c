import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rvm_jax.cli.main import main


def run(tmp_path: Path, module: str, after: str = "print('done')") -> subprocess.CompletedProcess:
    (tmp_path / "greeter.py").write_text(module)
    script = "from rvm_jax.host.quiet_import import quiet_import; quiet_import('greeter'); " + after
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    return subprocess.run(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {script}"],
        capture_output=True,
        text=True,
        env=environment,
    )


def test_what_is_told_while_importing_is_not_shown(tmp_path):
    done = run(tmp_path, "import os; os.write(2, b'Welcome!')")
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_it_is_shown_if_the_import_fails(tmp_path):
    done = run(tmp_path, "import os; os.write(2, b'Welcome!'); import no_such_module")
    assert done.stderr.startswith("Welcome!")
    assert "No module named 'no_such_module'" in done.stderr
    assert done.returncode == 1


def test_keras_is_hidden_meanwhile(tmp_path):
    (tmp_path / "keras.py").write_text("raise SystemExit('imported')")
    trying = "try:\n    import keras\nexcept ImportError:\n    open('hidden', 'w').close()\n"
    done = run(tmp_path, f"import os; os.chdir({str(tmp_path)!r})\n{trying}")
    assert done.stdout == "done\n"
    assert (tmp_path / "hidden").exists()
    done = run(tmp_path, "", after="import keras")
    assert "imported" in done.stderr


def test_an_interrupt_waits_for_the_end_of_the_import(tmp_path):
    swallowing = "import os, signal\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt:\n    pass"
    done = run(tmp_path, swallowing)
    assert done.stdout == ""
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode in (130, -signal.SIGINT)


@pytest.mark.parametrize("module", ["tensorflow", "cv2", "array_record"])
def test_a_module_that_is_not_installed_is_one_line(module, monkeypatch, capsys):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    monkeypatch.setattr("rvm_jax.cli.data.commands.quiet_import", missing)
    assert main(["data", "check"]) == 2
    assert capsys.readouterr().err == f"rvm: {module} is not installed: this needs pip install 'rvm-jax[train]'\n"


def test_a_module_of_ours_that_is_missing_is_a_fault_of_ours(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'data_pipelines.x'", name="data_pipelines.x")

    monkeypatch.setattr("rvm_jax.cli.data.commands.quiet_import", missing)
    with pytest.raises(ModuleNotFoundError):
        main(["data", "check"])
