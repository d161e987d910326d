"""``make mutation``: mutate file by file, and run the tests of each. What a session holds already is not run again."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Final

import tomli_w

from tests.mutation.sessions import BUILD, FILTERED, HERE, PENDING, ROOT, SURVIVED, mutants, planned, session

TREE: Final = BUILD / "tree"
"""The copy that is mutated."""
COPIED: Final = ("kmm", "refactors", "tests", "benchmarks", "docs", "pyproject.toml", "README.md", "Makefile")
PYTEST: Final = "-m pytest -p no:cacheprovider --assert=plain -n 0 -q -x --no-header --tb=no"
NOT_SLOW: Final = "not full and not soak"
INTERVAL_S: Final = 2


def tool(name: str) -> str:
    """A command of Cosmic Ray; beside the interpreter unless COSMIC_RAY names its directory."""
    return str(Path(os.environ.get("COSMIC_RAY", Path(sys.executable).parent)) / name)


def environment(tree: Path) -> dict[str, str]:
    """For a process that imports from the tree. Bytecode is checked by hash: a mutant may have the size and second of the original."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


def copy_tree(tree: Path) -> None:
    """A fresh copy of the sources, compiled."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name, ignore=shutil.ignore_patterns("__pycache__", "_build", "*.sqlite"))
        else:
            shutil.copy2(source, tree / name)
    compile_all = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "kmm", "refactors", "tests"]
    subprocess.run(compile_all, cwd=tree, check=True)


def command(tests: tuple[str, ...]) -> str:
    """What runs the tests until one fails."""
    return f"{sys.executable} {PYTEST} -m {shlex.quote(NOT_SLOW)} {' '.join(tests)}"


def begin(path: str, tests: tuple[str, ...]) -> Path:
    """The configuration of a file; its session is begun, and filtered, where there is none."""
    config = tomllib.loads((HERE / "cosmic-ray.toml").read_text(encoding="utf-8"))
    config["cosmic-ray"] |= {"module-path": [path], "test-command": command(tests)}
    written = session(path).with_suffix(".toml")
    written.write_text(tomli_w.dumps(config), encoding="utf-8")
    if not session(path).exists():
        begun = session(path).with_suffix(".new")
        begun.unlink(missing_ok=True)
        subprocess.run([tool("cosmic-ray"), "init", str(written), str(begun)], cwd=TREE, env=environment(TREE), check=True)
        subprocess.run([tool("cr-filter-operators"), str(begun), str(written)], cwd=TREE, env=environment(TREE), check=True)
        begun.rename(session(path))
    return written


def execute(path: str, tests: tuple[str, ...]) -> None:
    """Run what is pending, and say how far it is."""
    config = begin(path, tests)
    every = mutants(path)
    if not any(each.outcome == PENDING for each in every):
        return
    running = subprocess.Popen([tool("cosmic-ray"), "exec", str(config), str(session(path))], cwd=TREE, env=environment(TREE))
    try:
        while running.poll() is None:
            time.sleep(INTERVAL_S)
            print(f"\r{progress(path)}", end="", file=sys.stderr, flush=True)
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait()
    print(f"\r{progress(path)}", file=sys.stderr)
    if running.returncode:
        raise SystemExit(f"mutation: cosmic-ray ended with {running.returncode} at {path}; what it has found is kept")


def progress(path: str) -> str:
    """How far a file is."""
    run = [each for each in mutants(path) if each.outcome != FILTERED]
    pending = sum(each.outcome == PENDING for each in run)
    survived = sum(each.outcome == SURVIVED for each in run)
    return f"{path}: {len(run) - pending} of {len(run)} mutants, {survived} survived"


def passes(tests: tuple[str, ...]) -> bool:
    """The tests pass in the copy as it stands."""
    done = subprocess.run(shlex.split(command(tests)), cwd=TREE, env=environment(TREE), capture_output=True, check=False)
    return done.returncode == 0


def main(paths: list[str]) -> None:
    """Run the files of the plan, or those given."""
    plan = planned()
    unknown = [path for path in paths if path not in plan]
    if unknown:
        raise SystemExit(f"mutation: {unknown[0]} is not in tests/mutation/plan.toml; take one of: {', '.join(plan)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    copy_tree(TREE)
    if not passes(tuple(dict.fromkeys(test for tests in plan.values() for test in tests))):
        raise SystemExit("mutation: the tests of the plan fail without any mutant; correct that first")
    for path in paths or plan:
        execute(path, plan[path])


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        raise SystemExit("mutation: interrupted; run it again to go on") from None
