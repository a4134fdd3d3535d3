"""The server on a Ray of its own, on loopback, with the fake pipeline.

python -m tests.serve.live_ray '{"max_replicas": 2}'     # fields of Scale; DG2_* for the rest
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import uuid
from pathlib import Path

import httpx
import psutil

from dg2_jax.files import replacing
from tests.serve.live_worker import wait_for

_ROOT = Path(__file__).parents[2]
_NAMES = {"gcs_server", "raylet"}


class RayProcess:
    """`tests.serve.live_ray` as a process of its own, whose children are Ray's.

    Attributes:
        client: an HTTP client for the server.
        pids: of Ray's head.
    """

    def __init__(self, data: Path, database: str, step_seconds: float = 0.0, **scale):
        self._folder = tempfile.TemporaryDirectory(prefix="ray-")  # sockets need a short path
        env = os.environ | {
            "DG2_DATABASE": database,
            "DG2_DATA": str(data),
            "DG2_WARMUP": "false",
            "DG2_LEASE_SECONDS": "5",
            "DG2_DRAIN_SECONDS": "2",
            "DG2_MAX_BATCH": "2",
            "FAKE_STEP_SECONDS": str(step_seconds),
            "FAKE_NOTES": str(data / "begun.txt"),
            "PYTHONPATH": str(_ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": uuid.uuid4().hex,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": self._folder.name,
        }
        command = [sys.executable, "-m", "tests.serve.live_ray", json.dumps(scale)]
        address, log = Path(self._folder.name, "address"), data / "ray.log"
        env["LIVE_RAY_ADDRESS"] = str(address)
        with log.open("a") as output:
            self._process = subprocess.Popen(
                command, cwd=_ROOT, env=env, stdout=output, stderr=output
            )
        self.client = httpx.Client(timeout=60)
        try:
            wait_for(lambda: address.exists() or self._process.poll() is not None, 120)
            self.client.base_url = address.read_text()
        except (AssertionError, OSError) as error:
            self.stop()
            raise AssertionError(log.read_text()[-3000:]) from error

    @property
    def workers(self) -> list[int]:
        """The processes of the replicas that compute."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        return [child.pid for child in children if _is_worker(child)]

    def kill_head(self) -> None:
        """SIGKILL to the head: Ray's store of state, its node manager and what deployed on it."""
        children = psutil.Process(self._process.pid).children(recursive=True)
        heads = [child for child in children if child.name() in _NAMES]
        assert {child.name() for child in heads} == _NAMES
        for process in (*heads, self._process):
            process.send_signal(signal.SIGKILL)
        self._end(children)

    def stop(self) -> None:
        """Ends all of it."""
        children = []
        if self._process.poll() is None:
            children = psutil.Process(self._process.pid).children(recursive=True)
            self._process.terminate()
        self._end(children)

    def _end(self, children: list[psutil.Process]) -> None:
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.client.close()
        _, left = psutil.wait_procs(children, 30)  # Ray's processes follow their node manager
        for child in left:
            child.kill()
        psutil.wait_procs(left)
        self._folder.cleanup()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "ray::ServeReplica:dg2:Worker" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended
        return False


def main() -> None:
    """Serves until SIGTERM."""
    import ray
    from ray import serve

    from dg2_jax.serve import ray_app
    from dg2_jax.serve.server_settings import ServerSettings
    from tests.serve.fakes import fake_upscale
    from tests.serve.live import PROCESS_SIZE
    from tests.serve.live_worker import NotingPipeline

    seconds = float(os.environ["FAKE_STEP_SECONDS"])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 << 20,
        _node_ip_address="127.0.0.1",
    )
    over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: over.set())  # Ray has set its own
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    scale = ray_app.Scale(num_cpus=0.01, **json.loads(sys.argv[1]))

    def load(_):
        return NotingPipeline(seconds, PROCESS_SIZE)

    application = ray_app.application(ServerSettings(workers=0), scale, load, fake_upscale)
    serve.run(application, name="dg2")
    with replacing(Path(os.environ["LIVE_RAY_ADDRESS"])) as file:
        file.write_text(f"http://127.0.0.1:{port}")
    over.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
