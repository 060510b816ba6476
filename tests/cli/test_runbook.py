"""What the runbook tells to do with kubectl alone is done, by real bash and real kubectl."""

import os
import re
import subprocess
from pathlib import Path

from tests.cli.conftest import Stage, eventually
from tests.cli.guards import StandIn
from tests.kernel.objects import GROUP

_RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"


def test_a_freeze_by_kubectl_alone(frosty: Stage, guard: StandIn) -> None:
    """Made, seen to be carried out, and taken back, as the text says."""
    frosty.deployment(replicas=1)
    begin, back = re.findall(r"```bash\n(.*?)```", _RUNBOOK.read_text(), re.DOTALL)
    begin = begin.replace("NS=model-serving", f"NS={frosty.namespace}")
    order, look = begin.split("# Which pods")
    names = "\n".join(line for line in begin.splitlines() if re.match(r"NS=|ME=", line))
    _bash(frosty, order)
    (pod,) = frosty.pods()
    eventually(lambda: f"{frosty.namespace}/{pod} Frozen" in _bash(frosty, f"# Which pods{look}"))
    _bash(frosty, f"{names}\n{back}")
    made = frosty.get(f"{GROUP} freezes/by-hand")["spec"]
    assert made["thaw"] == {"by": "dave", "reason": "false alarm"}
    assert made["locks"] == {"deployments.apps/vllm": ""}
    eventually(lambda: f"{frosty.namespace}/{pod} Thawed" in _bash(frosty, f"# Which pods{look}"))


def _bash(stage: Stage, script: str) -> str:
    plane = stage.control_plane
    path = f"{plane.kubectl_path.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-s"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PATH": path, "KUBECONFIG": str(plane.user("dave").kubeconfig)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
