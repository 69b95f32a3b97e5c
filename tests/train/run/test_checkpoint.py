"""Checkpoints: nothing is lost by kills, damage and full disks, and what is read is what was written, bit for bit."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rvm_jax.errors import InputError
from rvm_jax.host.files import replacing
from rvm_jax.model.network import MattingNetwork
from rvm_jax.weights import orbax_folders
from rvm_jax.weights.files import read_weights
from tests.train.killing import same_bits, state_after
from train.device import optimizer, step
from train.run.checkpoint import Checkpoints

LIKE = state_after(0)
KILLS = int(os.environ.get("RVM_KILLS", "4"))


def save(folder, *iterations, keep=9):
    with Checkpoints(folder, keep=keep) as checkpoints:
        for i in iterations:
            checkpoints.save(i, state_after(i), stage=1)


def restore(folder):
    with Checkpoints(folder, keep=9) as checkpoints:
        return checkpoints.restore(LIKE)


def test_a_new_run_has_none(tmp_path):
    with Checkpoints(tmp_path / "run" / "checkpoints", keep=2) as checkpoints:
        assert checkpoints.restore(LIKE) is None
        assert checkpoints.newest() is None


def test_what_is_read_is_what_was_written(tmp_path):
    """Also if the arrays are used for something else before it is written."""
    state = state_after(7)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(7, state, stage=1)
        for leaf in jax.tree.leaves(state):
            leaf[...] = 0
    iterations, again = restore(tmp_path)
    assert iterations == 7
    assert same_bits(again, state_after(7))


def test_an_average_is_what_is_kept_beside_what_is_trained(tmp_path):
    average = optimizer.Average(np.int32(5), *state_after(8)[:2])
    state = state_after(7)._replace(average=average)
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(7, state, stage=1)
    kept = orbax_folders.read_arrays(tmp_path / "7" / "variables")
    jax.tree.map(np.testing.assert_array_equal, kept, {"params": average.params, "batch_stats": average.batch_stats})
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        iterations, again = checkpoints.restore(LIKE._replace(average=average))
    assert iterations == 7
    assert same_bits(again, state)
    assert {path.name for path in (tmp_path / "7").iterdir() if path.is_dir()} == {"variables", "moments", "raw"}


def test_a_folder_beside_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save(Path("../run"), 3)
    assert same_bits(restore(Path("../run"))[1], state_after(3))


KEPT = {  # (iterations, stage, MAD), how many of the last to keep; then what is kept, and which is the best
    "the last": ([(1, 1, None), (2, 1, None), (3, 1, None)], 2, [2, 3], None),
    "the best is old": ([(1, 1, 0.5), (2, 1, 0.1), (3, 1, 0.2), (4, 1, None), (5, 1, None)], 2, [2, 4, 5], 2),
    "a better one comes": ([(1, 1, 0.2), (2, 1, None), (3, 1, None), (4, 1, 0.1)], 1, [4], 4),
    "a later stage is better": ([(1, 1, 0.1), (2, 2, 0.9), (3, 2, 0.95), (4, 2, None)], 1, [2, 4], 2),
    "the best is the newest": ([(1, 1, 0.2), (2, 1, 0.1)], 1, [2], 2),
    "not a number": ([(1, 1, float("nan")), (2, 1, 0.2), (3, 1, None)], 1, [2, 3], 2),
}


@pytest.mark.parametrize("name", KEPT)
def test_the_last_and_the_best_are_kept(name, tmp_path):
    saves, keep, kept, best = KEPT[name]
    for part in (saves[:2], saves[2:]):  # the second part in a run that goes on
        with Checkpoints(tmp_path, keep=keep) as checkpoints:
            for iterations, stage, mad in part:
                checkpoints.save(iterations, state_after(iterations), stage=stage, mad=mad)
            assert checkpoints.newest() == (part or saves)[-1][0]
    assert orbax_folders.saved_iterations(tmp_path) == kept
    assert orbax_folders.best_iteration(tmp_path, kept) == best


def test_a_checkpoint_that_is_there_is_kept_and_may_be_validated_later(tmp_path):
    save(tmp_path, 3, 4)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    for mad in (None, 0.25):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(4, state_after(4), stage=2, mad=mad)
            assert checkpoints.validated(4) == (mad is not None)
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_a_kill_in_the_middle_of_a_write_loses_no_checkpoint(tmp_path):
    command = [sys.executable, "-m", "tests.train.killing", str(tmp_path), "4"]
    assert subprocess.run(command, stdout=subprocess.PIPE, check=False).returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir() if "tmp" in path.name] != []  # it was in the middle
    assert "4" in orbax_folders.validations(tmp_path)
    iterations, state = restore(tmp_path)
    assert iterations == 3
    assert same_bits(state, state_after(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "validation.json"]
    assert set(orbax_folders.validations(tmp_path)) == {"3"}


@pytest.mark.slow
def test_a_kill_at_any_moment_loses_no_checkpoint(tmp_path):
    last = 0
    for moment in np.random.default_rng(20).uniform(0.05, 0.6, KILLS):  # seconds after it has begun to save
        command = [sys.executable, "-m", "tests.train.killing", str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            time.sleep(moment)
            process.kill()
            told, errors = process.communicate()
        assert first, errors  # the state that it went on with was what had been saved
        assert errors == ""
        assert int(first) >= last - 1, "what was written before the kill is lost"
        last = int((first + told).splitlines()[-1])
    iterations, state = restore(tmp_path)
    assert iterations >= last - 1
    assert same_bits(state, state_after(iterations))


def test_what_a_killed_run_was_writing_is_removed(tmp_path):
    """The result of its validation is forgotten too, or a run that goes on would not validate again."""
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, state_after(1), stage=1, mad=0.2)
        checkpoints.wait()
        result = (tmp_path / "validation.json").read_text()
        checkpoints.save(2, state_after(2), stage=1, mad=0.3)
    shutil.rmtree(tmp_path / "2")
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    (tmp_path / ".rvm-1234").mkdir()
    (tmp_path / ".rvm-1234" / "new").write_text('{"1":')
    assert restore(tmp_path)[0] == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "validation.json"]
    assert (tmp_path / "validation.json").read_text() == result


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def data_of(checkpoint):
    """The largest file, which holds the arrays."""
    return max(files_of(checkpoint), key=lambda path: path.stat().st_size)


DAMAGES = {
    "cut off": lambda path: os.truncate(data_of(path), data_of(path).stat().st_size // 2),
    "empty file": lambda path: os.truncate(data_of(path), 0),
    "file missing": lambda path: data_of(path).unlink(),
    "list of files missing": lambda path: (path / "moments" / "manifest.ocdbt").unlink(),
    "names missing": lambda path: (path / "variables" / "_METADATA").unlink(),
    "moments missing": lambda path: shutil.rmtree(path / "moments"),
    "empty folder": lambda path: (shutil.rmtree(path), path.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_training_goes_on_from_the_newest_that_can_be_read(name, tmp_path, capfd):
    save(tmp_path, 1, 2, 3)
    for number in (3, 2):
        DAMAGES[name](tmp_path / str(number))
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        iterations, state = checkpoints.restore(LIKE)
        assert iterations == 1
        assert same_bits(state, state_after(1))
        told = capfd.readouterr()
        assert told.out == ""
        first, second, *others = told.err.splitlines()
        assert others == []
        assert f"{tmp_path}/3/" in first
        assert "damaged" in first
        assert first.endswith("renamed to damaged-3, and going on from iteration 1")
        assert second.endswith("renamed to damaged-2, and going on from iteration 1")
        checkpoints.save(2, state_after(2), stage=1)
        checkpoints.save(3, state_after(3), stage=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "3", "damaged-2", "damaged-3"]
    assert restore(tmp_path)[0] == 3
    DAMAGES[name](tmp_path / "3")  # once more
    assert restore(tmp_path)[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "damaged-2", "damaged-3"]


def test_no_damage_goes_unnoticed(tmp_path):
    """Whichever file is cut off, emptied, zeroed or missing: what is read is what was saved, or it is an error."""
    save(tmp_path / "good", 5)
    good, bad = tmp_path / "good" / "5", tmp_path / "bad" / "5"
    noticed = 0
    for damaged in files_of(good):
        for content in (damaged.read_bytes()[: damaged.stat().st_size // 2], b"", bytes(damaged.stat().st_size), None):
            shutil.rmtree(bad.parent, ignore_errors=True)
            shutil.copytree(good, bad)
            if content is None:
                (bad / damaged.relative_to(good)).unlink()
            else:
                (bad / damaged.relative_to(good)).write_bytes(content)
            try:
                found = restore(bad.parent)
            except InputError:
                noticed += 1
            else:
                assert same_bits(found[1], state_after(5)), damaged
    assert noticed >= 20


def test_if_none_can_be_read_all_stay_and_it_is_said(tmp_path):
    save(tmp_path, 1, 2)
    for number in (1, 2):
        DAMAGES["cut off"](tmp_path / str(number))
    with pytest.raises(InputError, match=r"no checkpoint of this run can be read \(.*/2/.*damaged.*\): mend it, or"):
        restore(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_a_state_of_another_network_is_not_taken(tmp_path):
    save(tmp_path, 1)
    other = LIKE._replace(batch_stats={"encoder": {"mean": np.zeros(8), "count": np.array(0, np.int32)}})
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        message = r"has batch_stats/encoder/mean as float64\(7,\), not float64\(8,\)"
        with pytest.raises(InputError, match=message):
            checkpoints.restore(other)


def test_a_full_disk_costs_nothing_but_the_checkpoint(tmp_path):
    """Files of this process cannot grow beyond a few bytes, which TensorStore meets in its own threads."""
    program = (
        "import signal, sys; import numpy as np; from pathlib import Path\n"
        "from rvm_jax.errors import InputError; from train.run.checkpoint import Checkpoints\n"
        "from tests.full_disk import fill; from tests.train.killing import state_after\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "many = {str(i): np.random.default_rng(i).normal(size=500) for i in range(300)}\n"
        "try:\n"
        "    with Checkpoints(Path(sys.argv[1]), keep=1) as checkpoints:\n"
        "        checkpoints.save(1, state_after(1), stage=1, mad=0.5)\n"
        "        checkpoints.wait()\n"
        "        fill(int(sys.argv[2]))\n"
        "        checkpoints.save(2, state_after(2)._replace(params=many), stage=1, mad=0.4)\n"
        "except InputError as error:\n"
        "    sys.exit(f'rvm: {error}')"
    )
    for limit in ("20000", "0"):
        folder = tmp_path / limit
        command = [sys.executable, "-c", program, str(folder), limit]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert result.stderr.startswith(f"rvm: cannot save a checkpoint in {folder}: ")
        assert result.stderr.endswith(
            "File too large; once that is mended, the same command goes on from iteration 1\n"
        )
        assert result.stderr.count("\n") == 1
        assert [path.name for path in folder.iterdir() if path.name.isdecimal()] == ["1"]
        iterations, state = restore(folder)
        assert iterations == 1
        assert same_bits(state, state_after(1))


def test_a_folder_that_cannot_be_made_or_written(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(InputError, match=r"cannot write .*/file/checkpoints: Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints", keep=1)
    with Checkpoints(tmp_path / "run", keep=1) as checkpoints:
        checkpoints.save(1, state_after(1), stage=1)
        checkpoints.wait()
        shutil.rmtree(tmp_path / "run")
        (tmp_path / "run").write_text("precious")
        with pytest.raises(InputError, match=r"cannot save a checkpoint in .*/run: Not a.*same command begins anew$"):
            checkpoints.save(2, state_after(2), stage=1)
    assert (tmp_path / "run").read_text() == "precious"


def test_a_failed_save_does_not_hide_what_else_ends_a_run(tmp_path, monkeypatch):
    def leave(error):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            checkpoints.save(1, state_after(1), stage=1)
            checkpoints.wait()
            full = iter([OSError(28, "No space left on device")])
            monkeypatch.setattr(ocp.CheckpointManager, "wait_until_finished", lambda manager: fail(next(full, None)))
            fail(error)

    def fail(error):
        if error:
            raise error

    with pytest.raises(InputError, match=r"cannot save .*: No space left on device; once .* goes on from iteration 1$"):
        leave(None)
    with pytest.raises(KeyboardInterrupt):
        leave(KeyboardInterrupt())


def test_nothing_is_printed_and_no_thread_keeps_the_process(tmp_path, capfd):
    """Python waits for threads before it ends, but for daemons."""
    before = set(threading.enumerate())
    save(tmp_path, 1, 2, 3, keep=1)
    assert restore(tmp_path)[0] == 3
    for thread in set(threading.enumerate()) - before:
        if not thread.daemon:
            thread.join(timeout=10)  # some are about to end
            assert not thread.is_alive()
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def tiny_states():
    """Three states of the network `tiny`."""
    shapes = jax.eval_shape(lambda: step.init(MattingNetwork("tiny"), jax.random.key(0)))

    def state(seed):
        rng = np.random.default_rng(seed)
        return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)

    return [state(seed) for seed in range(3)]


def test_weights_are_read_from_a_run_and_from_its_checkpoints(tiny_states, tmp_path):
    run = tmp_path / "run"

    def reads(path, state):
        read = read_weights(path)
        assert (read.variant.name, read.refiner) == ("tiny", "deep_guided_filter")
        jax.tree.map(np.testing.assert_array_equal, read.variables["params"], state.params)
        jax.tree.map(np.testing.assert_array_equal, read.variables["batch_stats"], state.batch_stats)
        return read

    with Checkpoints(run / "checkpoints", keep=9) as checkpoints:
        with pytest.raises(InputError, match=r"/run is a training run that has saved no checkpoint yet"):
            read_weights(run)
        for i, state in enumerate(tiny_states):
            checkpoints.save(9 + i, state, stage=1)
        checkpoints.wait()
        reads(run, tiny_states[2])
        checkpoints.save(9, tiny_states[0], stage=1, mad=0.3)
        checkpoints.save(10, tiny_states[1], stage=1, mad=0.2)
        checkpoints.save(11, tiny_states[2], stage=1, mad=0.4)
        reads(run, tiny_states[1])
        reads(run / "checkpoints" / "9", tiny_states[0])
    (run / "checkpoints" / "validation.json").write_text("{")
    reads(run, tiny_states[2])
    with replacing(run / "weights") as partial:
        shutil.copytree(run / "checkpoints" / "9" / "variables", partial)
    reads(run, tiny_states[0])
    DAMAGES["cut off"](run / "checkpoints" / "9" / "variables")
    with pytest.raises(InputError, match=r"checkpoints/9/variables is not a folder of saved weights, or it is damaged"):
        read_weights(run / "checkpoints" / "9")


TWO_HOSTS = """
import sys; from pathlib import Path
import jax
from tests.train.killing import same_bits, state_after
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from train.run.checkpoint import Checkpoints
with Checkpoints(Path(sys.argv[3]), keep=2) as checkpoints:
    found = checkpoints.restore(state_after(0))
    assert (found is None) == (sys.argv[4] == "0"), found
    done, state = found or (0, state_after(0))
    assert done == int(sys.argv[4]) and same_bits(state, state_after(done))
    for i in range(done + 1, done + 4):
        checkpoints.save(i, state_after(i), stage=1, mad=1 / i)
    checkpoints.wait()
    print(checkpoints.newest(), checkpoints.validated(done + 3), checkpoints.validated(99))
"""


@pytest.mark.slow
def test_of_two_hosts_the_first_writes_and_both_go_on(tmp_path):
    """They have no disk in common."""
    folders = [tmp_path / "first", tmp_path / "second"]
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    for done in (0, 3):
        with socket.create_server(("localhost", 0)) as server:
            address = f"localhost:{server.getsockname()[1]}"
        commands = [
            [sys.executable, "-c", TWO_HOSTS, address, str(i), str(folder), str(done)]
            for i, folder in enumerate(folders)
        ]
        processes = [
            subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
            for c in commands
        ]
        results = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [0, 0], results
        told = [out.splitlines()[-1] for out, _ in results]  # Gloo tells of itself before
        assert told == [f"{done + 3} True False", "None True False"]
    assert sorted(path.name for path in folders[0].iterdir()) == ["5", "6", "validation.json"]
    assert not folders[1].exists()
