"""Starts continuumd with no configuration at all, waits until it is ready, runs the original client's calls against it,
and stops it. Usage: python default_node.py CONTINUUMD DIRECTORY
"""

import os
import pathlib
import subprocess
import sys
import time

import requests

binary, directory = sys.argv[1], pathlib.Path(sys.argv[2])
here = pathlib.Path(__file__).parent
environment = {name: value for name, value in os.environ.items()
               if not name.startswith("CONTINUUM_") and name not in ("NODE_ID", "BIND_ADDRESS", "BOOTSTRAP_NODES")}
node = subprocess.Popen([binary], cwd=directory, env=environment, stdin=subprocess.DEVNULL)
try:
    for _ in range(3000):
        assert node.poll() is None, f"continuumd ended with {node.returncode}"
        try:
            if requests.get("http://127.0.0.1:8000/readyz", timeout=5).status_code == 200:
                break
        except requests.ConnectionError:
            pass
        time.sleep(0.01)
    else:
        raise SystemExit("continuumd is not ready")
    subprocess.run([sys.executable, here / "seed_client.py"], check=True, env=environment)
    assert (directory / "continuum-data").is_dir(), "the data lies in a local directory"
    node.terminate()
    assert node.wait(10) == 0, f"continuumd ended with {node.returncode}"
finally:
    node.kill()
    node.wait()
