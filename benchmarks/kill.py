"""SIGKILL a build and a training run at random moments: nothing may be lost, the result must be identical.

    .venv/bin/python benchmarks/kill.py [--kills 30] [--train-kills 10] [--seed 0] [--warm] [--out FILE]

A real `kdcache build` (tiny teacher, drawn folder data) is killed, started again, killed again, until it
ends; then its tree must be byte-identical to that of a build that was never killed, and verify must find
nothing. After every kill each committed record must stand for whole objects. The same for `kdtrain --resume`:
equal student.safetensors, every step once in metrics.jsonl.

When: about half of the kills at a uniform moment between the first byte written and the last commit (spans
are learned from the unkilled run); the others at a uniform moment in the life of the temporary file of a
random array shard, tar or record (or of a checkpoint), seen by inotify, because those live for milliseconds.
Counted by what the kill left half-written; it goes on until no phase is zero. A SIGKILL keeps the page cache:
loss of power is not tested here. Costs about 8 s a kill, 2 s with --warm.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from kill_checks import compare_runs, compare_trees, half_committed, tree
from kill_on_cue import Cue, Lifetimes, Process, kill_on_cue, phase_of, temporary_in
from warm_process import YIELD, WarmProcess

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
KILLS_A_ROUND = 5  # then the job is left to end and is compared: early kills alone would never let it end
GIVE_UP = 24
BUILD_PHASES, TRAIN_PHASES = ("tar", "array", "record"), ("checkpoint",)


class Trial:
    """One kind of job ('build' or 'train'): its command, its reference, and the kills counted by phase."""

    def __init__(self, work: Path, draw: random.Random, phases: tuple[str, ...]) -> None:
        self.work, self.draw, self.phases = work, draw, phases
        self.count: Counter[str] = Counter()
        self.finished = 0
        self.failures: list[str] = []
        self.lifetimes = Lifetimes()

    def spare(self, num_kills: int) -> bool:
        """Leave the job alone now: this round had its kills, or all are done."""
        return self.over(num_kills) or sum(self.count.values()) >= KILLS_A_ROUND * (self.finished + 1)

    def over(self, num_kills: int) -> bool:
        """Enough kills, and every phase was hit; gives up on a phase after GIVE_UP more, because a cue comes
        late again and again on a busy machine."""
        total = sum(self.count.values())
        hit_all = all(self.count[phase] for phase in self.phases)
        return total >= num_kills and (hit_all or total >= num_kills + GIVE_UP)

    def cue(self, missing: dict[str, int], whole: dict[str, int]) -> Cue:
        """When to kill next: a uniform moment of what is left to do, or a random file of a phase."""
        left = sum(missing.values()) / max(1, sum(whole.values()))
        possible = [p for p in self.phases if missing.get(p)]
        number = sum(self.count.values())
        if number and number % 2 == 0 or not possible:
            return Cue(after_s=self.draw.random() * self.lifetimes.span_s * left)
        phase = min(possible, key=lambda p: self.count[p])
        number = self.draw.randrange(missing[phase])
        return Cue(phase=phase, number=number, after_s=self.draw.random() * self.lifetimes.median_s(phase))


def environment(home: Path) -> dict[str, str]:
    """One thread everywhere (one and two threads give different bits), our tiny teacher importable."""
    path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"KDCACHE_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def start(command: list[str], home: Path, log: Path, warm: bool) -> Process:
    if warm:
        return WarmProcess(command, environment(home), log)
    program = Path(sys.executable).parent / command[0]
    with log.open("ab") as out:
        # Yielding the processor to the one who watches: on a busy machine a cue would come too late.
        nice = ["nice", "-n", str(YIELD)]
        return subprocess.Popen(
            [*nice, str(program), *command[1:]], env=environment(home), stdout=out, stderr=out
        )


def build_command(folder: Path, args: argparse.Namespace) -> list[str]:
    more = "--tap stage1 --tap stage4 --tap logits --batch-size 4 --device cpu --crop 64"
    return [
        "kdcache", "build", "--teacher", "tiny_teacher:make", "--data", f"folder:{folder}",
        "--views", f"crops:{args.views}", "--shard-rows", "4", *more.split(),
    ]  # fmt: skip


def train_command(name: str, args: argparse.Namespace) -> list[str]:
    fixed = "--loss mgd --student tiny_teacher:make --batch-size 4 --save-every 3 --device cpu --log none"
    return ["kdtrain", *fixed.split(), "--steps", str(args.steps), "--run", name]


def kill_builds(folder: Path, args: argparse.Namespace, trial: Trial) -> Path:
    """Returns the home of the unkilled build, whose cache the training runs read."""
    command, log = build_command(folder, args), trial.work / "build.log"
    reference = trial.work / "reference"
    reference.mkdir()
    trial.lifetimes.learn(start(command, reference, log, args.warm), reference)
    wanted = tree(reference)
    whole = Counter(phase_of(name) for name in wanted)
    while not trial.over(args.kills) or not trial.finished:
        home = trial.work / f"build-{trial.finished}"
        home.mkdir()
        while True:
            left = Counter(phase_of(name) for name in wanted if not (home / name).is_file())
            cue = None if trial.spare(args.kills) else trial.cue(left, whole)
            if kill_on_cue(start(command, home, log, args.warm), home, cue):
                trial.count[phase_of(temporary_in(home))] += 1
                trial.failures += half_committed(home)
            else:
                break
        trial.finished += 1
        trial.failures += compare_trees(wanted, home)
    return reference


def kill_training(home: Path, args: argparse.Namespace, trial: Trial) -> None:
    log = trial.work / "train.log"
    trial.lifetimes.learn(start(train_command("reference", args), home, log, args.warm), home)
    runs = home / "runs"
    every = {"checkpoint": args.steps // 3, "other": args.steps}
    while not trial.over(args.train_kills) or not trial.finished:
        name = f"killed-{trial.finished}"
        resumed: list[str] = []
        while True:
            saved = [int(p.name[5:]) for p in (runs / name).glob("checkpoints/step-*")]
            left = args.steps - max(saved, default=0)
            cue = (
                None
                if trial.spare(args.train_kills)
                else trial.cue({"checkpoint": left // 3, "other": left}, every)
            )
            process = start([*train_command(name, args), *resumed], home, log, args.warm)
            if kill_on_cue(process, home, cue):
                trial.count[phase_of(temporary_in(home))] += 1
                resumed = ["--resume"] if (runs / name).exists() else []
            else:
                break
        trial.finished += 1
        trial.failures += compare_runs(runs / "reference", runs / name, args.steps)
        if process.returncode:
            trial.failures.append(f"{name}: exit status {process.returncode}, see {log}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--train-kills", type=int, default=10)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--warm", action="store_true", help="fork the commands, which saves their imports")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("bench-out/kill.json"))
    return parser.parse_args()


def main() -> None:
    args = arguments()
    sys.path.insert(0, str(SUPPORT))
    from tiny_folder import draw_folder  # on the path since the line above

    draw = random.Random(args.seed)
    work = Path(tempfile.mkdtemp(prefix="kdcache-kill-"))
    folder = draw_folder(work / "drawn", args.images)
    draw_folder(folder, 2, "val")
    builds, runs = Trial(work, draw, BUILD_PHASES), Trial(work, draw, TRAIN_PHASES)
    home = kill_builds(folder, args, builds)
    if args.train_kills:
        kill_training(home, args, runs)
    failures = builds.failures + runs.failures
    if failures:
        print(f"kept for a look: {work}", file=sys.stderr)
    else:
        shutil.rmtree(work)
    result = {
        "build": {"kills": dict(builds.count), "finished_and_compared": builds.finished},
        "train": {"kills": dict(runs.count), "finished_and_compared": runs.finished},
        "failures": failures,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    kills = builds.count + runs.count
    shown = ", ".join(f"{phase} {kills[phase]}" for phase in (*BUILD_PHASES, *TRAIN_PHASES, "other"))
    print(f"| SIGKILL per phase: {shown} | nothing lost | {len(failures)} failures | `benchmarks/kill.py` |")
    raise SystemExit(1 if failures else 0)


if __name__ == "__main__":
    main()
