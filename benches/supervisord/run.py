#!/usr/bin/env python3
"""supervisord 4.3.0 and gangerd side by side, in one run on one machine.

    cargo build --release && benches/supervisord/run.py [--scenarios start,stop,restart,storm,idle,sampled,logs,status,churn]
        [--tools supervisord,ganger] [--passes 1] [--workers 1000] [--json FILE]

Each scenario takes the tools in turn, so both meet the same machine. CPU is the kernel's own count (schedstat) and holds on
a busy machine to about a quarter; wall times are upper bounds. Only ratios within one run say anything.

supervisord runs at its quickest: startsecs=0, autorestart=true, minfds no larger than needed. It is installed into
target/supervisor if it is not there (tests/run does the same).
"""

import argparse
import glob
import http.client
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import xmlrpc.client

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TARGET = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
SHM = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tempfile.gettempdir()
VENV = os.environ.get("GANGER_SUPERVISOR_VENV", os.path.join(ROOT, "target", "supervisor"))

# Goals as set when the peers were measured (ratios to a C floor and to the best peer, here in the words of that machine).
GOALS = {
    "start 100: daemon CPU ms": "-",
    "start 1000: daemon CPU ms": "< 90",
    "start 1000: all CPU ms": "< 210",
    "stop 1000: all CPU ms": "< 80",
    "stop 1000: wall ms": "< 100",
    "restart of 10: p50 ms": "< 1.5",
    "restart of 10: p99 ms": "< 5",
    "restart of 10: daemon CPU us each": "< 250",
    "restart of 1000: p50 ms": "< 1.5",
    "restart of 1000: p99 ms": "< 5",
    "restart of 1000: daemon CPU us each": "< 250",
    "storm: daemon CPU us per respawn": "< 100",
    "idle: wake-ups/s": "0",
    "idle: CPU ms/min": "<= 1",
    "idle: PSS MiB": "<= 6",
    "logs x1: CPU s/GB": "<= 1.0",
    "logs x1: MB/s": ">= 1.1 x supervisord",
    "logs x1: lines lost": "0",
    "logs x50: CPU s/GB": "<= 0.6",
    "logs x50: lines lost": "0",
    "status CLI: CPU ms": "< 2",
    "status CLI: daemon CPU ms": "< 2",
    "status API: daemon CPU ms": "< 2",
    "churn API: stop and start of one, wall ms": "< 5",
    "sampled: CPU ms per sweep": "<= 4",
}


class Trouble(Exception):
    pass


def wait_for(what, limit, met, step=0.002):
    end = time.monotonic() + limit
    while True:
        value = met()
        if value:
            return value
        if time.monotonic() > end:
            raise Trouble(f"not within {limit} s: {what}")
        time.sleep(step)


def read(path):
    with open(path) as file:
        return file.read()


def cpu_ns(pid):
    """Processor time of all threads of a process, in ns; 0 if it is gone."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        try:
            total += int(read(path).split()[0])
        except OSError:
            pass
    return total


def switches(pid):
    """How often its threads went to sleep and were woken: voluntary context switches."""
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        for line in read(path).splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def memory_kib(pid):
    """(RSS, PSS)"""
    found = {}
    for line in read(f"/proc/{pid}/smaps_rollup").splitlines():
        words = line.split()
        if words[0] in ("Rss:", "Pss:"):
            found[words[0]] = int(words[1])
    return found["Rss:"], found["Pss:"]


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=60)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Tool:
    """A supervisor with one program of `count` workers, in a directory of its own."""

    def __init__(self, directory, command, count, log, native=""):
        self.dir, self.command, self.count, self.log, self.native = directory, command, count, log, native
        # Sockets and FIFOs belong into memory, as in /run; on ext4 an inode that replaces one just deleted costs 100 us.
        self.run = os.path.join(SHM, os.path.basename(os.path.dirname(directory)) + "-" + os.path.basename(directory))
        self.births = os.path.join(directory, "births")
        open(self.births, "w").close()
        self.process = None

    def start(self):
        out = open(os.path.join(self.dir, "out"), "w")
        self.process = subprocess.Popen(self.argv(), stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def born(self):
        """[(pid, monotonic ns)] of all workers that ever started."""
        data = open(self.births, "rb").read()
        return [struct.unpack_from("qq", data, at) for at in range(0, len(data) - 15, 16)]

    def all_born(self, limit=180):
        def met():
            if self.process.poll() is not None:
                raise Trouble(f"{self.name} ended: {read(os.path.join(self.dir, 'out'))[-2000:]}")
            return os.path.getsize(self.births) >= 16 * self.count

        wait_for(f"{self.count} workers of {self.name}", limit, met, 0.005)
        return self.born()

    def pids(self):
        """The daemon: the process that we started, and those of its children that run the same program (not workers)."""
        program = os.readlink(f"/proc/{self.process.pid}/exe")
        found = [self.process.pid]
        for child in read(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split():
            try:
                if os.readlink(f"/proc/{child}/exe") == program:
                    found.append(int(child))
            except OSError:
                pass
        return found

    def cpu(self):
        return sum(cpu_ns(pid) for pid in self.pids())

    def reaped_cpu(self):
        """Processor time of children that were reaped, in ns; the kernel tells it in hundredths of a second."""
        fields = read(f"/proc/{self.process.pid}/stat").rpartition(")")[2].split()
        return (int(fields[13]) + int(fields[14])) * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))

    def quiet(self):
        """Until it has nothing to do any more: no processor time in half a second (a periodic tick may stay)."""

        def met():
            before = self.cpu()
            time.sleep(0.5)
            return self.cpu() - before < 5_000_000

        try:
            wait_for("quiet", 60, met)
        except Trouble:
            pass  # then it is never quiet, and that will show

    def stop(self):
        if self.process is None:
            return
        born = [pid for pid, _ in self.born()]
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.run, ignore_errors=True)
        # What is left of ours: known by what it runs.
        for pid in born:
            try:
                if os.readlink(f"/proc/{pid}/exe") == self.command[0]:
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass

    def __enter__(self):
        self.configure()
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()


class Supervisord(Tool):
    name = "supervisord"

    def configure(self):
        log = os.path.join(self.dir, "log_%(process_num)d") if self.log else "NONE"
        with open(os.path.join(self.dir, "s.conf"), "w") as file:
            file.write(
                f"""[supervisord]
nodaemon=true
logfile={self.dir}/supervisord.log
pidfile={self.dir}/supervisord.pid
childlogdir={self.dir}
minfds={max(1024, 3 * self.count + 200)}
{"user=root" if os.getuid() == 0 else ""}
[unix_http_server]
file={self.dir}/s.sock
[supervisorctl]
serverurl=unix://{self.dir}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[program:w]
command={" ".join(self.command)}
process_name=w_%(process_num)04d
numprocs={self.count}
startsecs=0
autorestart=true
stdout_logfile={log}
stdout_logfile_maxbytes=0
stderr_logfile=NONE
"""
            )

    def argv(self):
        return [f"{VENV}/bin/supervisord", "-c", f"{self.dir}/s.conf"]

    def status_argv(self):
        return [f"{VENV}/bin/supervisorctl", "-c", f"{self.dir}/s.conf", "status"]

    def api_status(self):
        connection = UnixConnection(f"{self.dir}/s.sock")
        connection.request("POST", "/RPC2", xmlrpc.client.dumps((), "supervisor.getAllProcessInfo"), {"Content-Type": "text/xml"})
        body = connection.getresponse().read()
        connection.close()
        return body.count(b"<name>statename</name>")

    def call(self, method, *params):
        connection = UnixConnection(f"{self.dir}/s.sock")
        connection.request("POST", "/RPC2", xmlrpc.client.dumps(params, method), {"Content-Type": "text/xml"})
        answer = xmlrpc.client.loads(connection.getresponse().read())
        connection.close()
        return answer

    def stop_all(self):
        self.call("supervisor.stopAllProcesses")

    def churn_one(self, number):
        self.call("supervisor.stopProcess", f"w:w_{number:04d}", True)
        self.call("supervisor.startProcess", f"w:w_{number:04d}", True)

    def restart_argv(self, number):
        return [f"{VENV}/bin/supervisorctl", "-c", f"{self.dir}/s.conf", "restart", f"w:w_{number:04d}"]


class Ganger(Tool):
    name = "ganger"

    def configure(self):
        log = os.path.join(self.dir, "log_%(process_num)d") if self.log else "NONE"
        with open(os.path.join(self.dir, "g.toml"), "w") as file:
            file.write(
                f"""[daemon]
runtime_dir = "{self.run}"
log_dir = "{self.dir}"
[server]
socket = "{self.dir}/g.sock"
[program.w]
command = {json.dumps(self.command)}
process_name = "w_%(process_num)04d"
numprocs = {self.count}
startsecs = 0
autorestart = true
stdout_logfile = "{log}"
stdout_logfile_maxbytes = 0
stderr_logfile = "NONE"
{'user = "root"' if os.getuid() == 0 else ""}
{self.native}
"""
            )

    def argv(self):
        return [f"{TARGET}/release/gangerd", "-c", f"{self.dir}/g.toml"]

    def status_argv(self):
        return [f"{TARGET}/release/gangerctl", "-s", f"{self.dir}/g.sock", "status"]

    def api_status(self):
        connection = UnixConnection(f"{self.dir}/g.sock")
        connection.request("GET", "/api/v1/status")
        body = connection.getresponse().read()
        connection.close()
        return sum(len(program["slots"]) for program in json.loads(body)["programs"])

    def call(self, verb, fields):
        connection = UnixConnection(f"{self.dir}/g.sock")
        connection.request("POST", f"/api/v1/{verb}", json.dumps(fields), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise Trouble(f"{verb}: {answer.status} {body[:300]!r}")

    def stop_all(self):
        self.call("stop", {"targets": ["all"]})

    def churn_one(self, number):
        # A start that is asked for while the worker still stops is kept, and follows.
        self.call("stop", {"targets": [f"w:w_{number:04d}"]})
        self.call("start", {"targets": [f"w:w_{number:04d}"]})

    def restart_argv(self, number):
        return [f"{TARGET}/release/gangerctl", "-s", f"{self.dir}/g.sock", "restart", f"w:w_{number:04d}"]


TOOLS = {"supervisord": Supervisord, "ganger": Ganger}


class Bench:
    def __init__(self, options, base):
        self.options, self.base = options, base
        self.worker = os.path.join(base, "worker")
        subprocess.run(["cc", "-O2", "-static", "-o", self.worker, os.path.join(HERE, "worker.c")], check=True)
        self.results = {}
        self.serial = 0

    def tool(self, name, count, more=(), log=False, native=""):
        self.serial += 1
        directory = os.path.join(self.base, str(self.serial))
        os.mkdir(directory, 0o755)
        births = os.path.join(directory, "births")
        return TOOLS[name](directory, [self.worker, births, *more], count, log, native)

    def note(self, name, row, value):
        self.results.setdefault(row, {}).setdefault(name, []).append(value)
        print(f"  {name}: {row}: {value:.4g}", flush=True)

    def start(self, name):
        for count in (100, self.options.workers):
            with self.tool(name, count) as tool:
                before = time.monotonic_ns()
                born = tool.all_born()
                daemon = tool.cpu()
                workers = sum(cpu_ns(pid) for pid, _ in born)
                first = min(at for _, at in born)
                last = max(at for _, at in born)
                self.note(name, f"start {count}: daemon CPU ms", daemon / 1e6)
                self.note(name, f"start {count}: all CPU ms", (daemon + workers) / 1e6)
                self.note(name, f"start {count}: wall ms, first to last", (last - first) / 1e6)
                self.note(name, f"start {count}: wall ms, with the daemon's own start", (last - before) / 1e6)

    def stop(self, name):
        with self.tool(name, self.options.workers) as tool:
            born = [pid for pid, _ in tool.all_born()]
            tool.quiet()
            workers = sum(map(cpu_ns, born))
            cpu, reaped, began = tool.cpu(), tool.reaped_cpu(), time.monotonic()
            tool.stop_all()
            wait_for("the end of all workers", 60, lambda: not any(os.path.exists(f"/proc/{pid}") for pid in reversed(born)), 0.005)
            took = time.monotonic() - began
            tool.quiet()
            daemon = tool.cpu() - cpu
            count = self.options.workers
            self.note(name, f"stop {count}: daemon CPU ms", daemon / 1e6)
            self.note(name, f"stop {count}: all CPU ms", (daemon + max(0, tool.reaped_cpu() - reaped - workers)) / 1e6)
            self.note(name, f"stop {count}: wall ms", took * 1e3)

    def restart(self, name):
        for count in (10, self.options.workers):
            self.kill_some(name, count)

    def kill_some(self, name, count):
        with self.tool(name, count) as tool:
            tool.all_born()
            # supervisord starts a worker again at once only if it does not look like a failed start.
            time.sleep(2)
            tool.quiet()
            before = tool.cpu()
            latencies = []
            alive = [pid for pid, _ in tool.born()]
            for _ in range(self.options.kills):
                victim = alive.pop(0)
                known = len(tool.born())
                killed = time.monotonic_ns()
                os.kill(victim, signal.SIGKILL)
                wait_for("the new worker", 30, lambda: os.path.getsize(tool.births) >= 16 * (known + 1), 0.0005)
                pid, at = tool.born()[known]
                alive.append(pid)
                latencies.append((at - killed) / 1e6)
                time.sleep(0.02)
            each = (tool.cpu() - before) / self.options.kills / 1e3
            latencies.sort()
            self.note(name, f"restart of {count}: p50 ms", statistics.median(latencies))
            self.note(name, f"restart of {count}: p99 ms", latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))])
            self.note(name, f"restart of {count}: daemon CPU us each", each)

    def storm(self, name):
        """Ten workers that end at once, under rules that start them again at once: what a start and an end cost, and whether
        anybody else is still heard."""
        with self.tool(name, 10, ["crash"]) as tool:
            tool.all_born()
            time.sleep(1)
            cpu, born, began = tool.cpu(), os.path.getsize(tool.births), time.monotonic()
            time.sleep(5)
            used, took = tool.cpu() - cpu, time.monotonic() - began
            count = (os.path.getsize(tool.births) - born) // 16
            if count == 0:
                raise Trouble("it has given up")
            self.note(name, "storm: respawns/s", count / took)
            self.note(name, "storm: daemon CPU us per respawn", used / count / 1e3)
            began = time.monotonic()
            tool.api_status()
            self.note(name, "storm: status meanwhile, wall ms", (time.monotonic() - began) * 1e3)
            began = time.monotonic()
            tool.process.send_signal(signal.SIGTERM)
            tool.process.wait(60)
            self.note(name, "storm: TERM to exit, wall ms", (time.monotonic() - began) * 1e3)

    def idle(self, name):
        with self.tool(name, self.options.workers) as tool:
            tool.all_born()
            tool.quiet()
            time.sleep(2)
            pids = tool.pids()
            cpu, woken = tool.cpu(), sum(map(switches, pids))
            began = time.monotonic()
            time.sleep(self.options.idle_seconds)
            took = time.monotonic() - began
            self.note(name, "idle: wake-ups/s", (sum(map(switches, pids)) - woken) / took)
            self.note(name, "idle: CPU ms/min", (tool.cpu() - cpu) / 1e6 * 60 / took)
            sizes = [memory_kib(pid) for pid in pids]
            self.note(name, "idle: RSS MiB", sum(rss for rss, _ in sizes) / 1024)
            self.note(name, "idle: PSS MiB", sum(pss for _, pss in sizes) / 1024)
            self.note(name, "idle: threads", sum(len(os.listdir(f"/proc/{pid}/task")) for pid in pids))

    def sampled(self, name):
        """Memory limits on all workers: every one is read every `sample_interval`. supervisord has no such thing (memmon runs
        one `ps` for each process)."""
        if name != "ganger":
            return
        every = 5
        native = f'[program.w.recycle]\nmax_memory = "1GB"\nsample_interval = "{every}s"\n'
        with self.tool(name, self.options.workers, native=native) as tool:
            tool.all_born()
            # The first sweep opens what the others read.
            time.sleep(2 * every + 2)
            cpu, began = tool.cpu(), time.monotonic()
            time.sleep(6 * every)
            took = time.monotonic() - began
            used = (tool.cpu() - cpu) / 1e6
            self.note(name, "sampled: CPU ms per sweep", used * every / took)
            self.note(name, "sampled: CPU ms/min at 10 s", used * every / took * 6)
            sizes = [memory_kib(pid) for pid in tool.pids()]
            self.note(name, "sampled: RSS MiB", sum(rss for rss, _ in sizes) / 1024)
            self.note(name, "sampled: PSS MiB", sum(pss for _, pss in sizes) / 1024)

    def churn(self, name):
        with self.tool(name, self.options.workers) as tool:
            tool.all_born()
            time.sleep(2)
            tool.quiet()
            for what, act in (
                ("API", tool.churn_one),
                ("CLI", lambda number: subprocess.run(tool.restart_argv(number), stdout=subprocess.DEVNULL, check=True)),
            ):
                walls = []
                cpu = tool.cpu()
                rounds = 9
                for number in range(rounds):
                    known = len(tool.born())
                    began = time.monotonic_ns()
                    act(number)
                    wait_for("the new worker", 30, lambda: os.path.getsize(tool.births) >= 16 * (known + 1), 0.0005)
                    walls.append((tool.born()[known][1] - began) / 1e6)
                self.note(name, f"churn {what}: stop and start of one, wall ms", statistics.median(walls))
                self.note(name, f"churn {what}: daemon CPU us each", (tool.cpu() - cpu) / rounds / 1e3)

    def logs(self, name):
        for writers in (1, 50):
            lines = self.options.log_mb * 10_000 // writers
            total = lines * writers * 100
            go = os.path.join(self.base, f"go{self.serial}")
            with self.tool(name, writers, [go, str(lines)], log=True) as tool:
                tool.all_born()
                tool.quiet()
                files = [os.path.join(tool.dir, f"log_{number}") for number in range(writers)]
                size = lambda: sum(os.path.getsize(path) for path in files if os.path.exists(path))
                cpu, began = tool.cpu(), time.monotonic()
                open(go, "w").close()
                try:
                    wait_for("all lines", 240, lambda: size() >= total, 0.005)
                except Trouble:
                    pass  # what is missing is counted below
                took, used = time.monotonic() - began, tool.cpu() - cpu
                lost = 0
                for path in files:
                    # Each writer's numbers must be there, each once, in order.
                    whole = 0
                    with open(path, "rb") as file:
                        for line in file:
                            if len(line) == 100 and int(line[8:18]) == whole:
                                whole += 1
                    lost += lines - whole
                    os.unlink(path)
                self.note(name, f"logs x{writers}: CPU s/GB", used / 1e9 / (total / 1e9))
                self.note(name, f"logs x{writers}: MB/s", total / 1e6 / took)
                self.note(name, f"logs x{writers}: lines lost", lost)

    def status(self, name):
        count = self.options.workers
        with self.tool(name, count) as tool:
            tool.all_born()
            tool.quiet()
            walls, cpus, daemons = [], [], []
            for _ in range(7):
                cpu, began = tool.cpu(), time.monotonic()
                process = subprocess.Popen(tool.status_argv(), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
                text = process.stdout.read()
                _, _, usage = os.wait4(process.pid, 0)
                process.returncode = 0
                walls.append((time.monotonic() - began) * 1e3)
                cpus.append((usage.ru_utime + usage.ru_stime) * 1e3)
                daemons.append((tool.cpu() - cpu) / 1e6)
                if text.count(b"RUNNING") != count:
                    raise Trouble(f"{name}: status shows {text.count(b'RUNNING')} RUNNING of {count}: {text[:300]!r}")
            self.note(name, "status CLI: wall ms", statistics.median(walls))
            self.note(name, "status CLI: CPU ms", statistics.median(cpus))
            self.note(name, "status CLI: daemon CPU ms", statistics.median(daemons))
            walls, daemons = [], []
            for _ in range(7):
                cpu, began = tool.cpu(), time.monotonic()
                shown = tool.api_status()
                walls.append((time.monotonic() - began) * 1e3)
                daemons.append((tool.cpu() - cpu) / 1e6)
                if shown != count:
                    raise Trouble(f"{name}: the API shows {shown} of {count}")
            self.note(name, "status API: wall ms (with parsing)", statistics.median(walls))
            self.note(name, "status API: daemon CPU ms", statistics.median(daemons))

    def table(self, tools):
        print(f"\n| {'what':<48} | " + " | ".join(f"{name:>12}" for name in tools) + f" | {'ratio':>8} | goal |")
        print("|" + "-" * 50 + "|" + "|".join("-" * 14 for _ in tools) + "|----------|------|")
        for row, found in self.results.items():
            middle = {name: statistics.median(found[name]) for name in tools if name in found}
            cells = " | ".join(f"{middle[name]:>12.4g}" if name in middle else f"{'-':>12}" for name in tools)
            ratio = "-"
            if "ganger" in middle and middle.get("supervisord"):
                ratio = f"{middle['ganger'] / middle['supervisord']:.3g}"
            print(f"| {row:<48} | {cells} | {ratio:>8} | {GOALS.get(row, '')} |")


def install_supervisor():
    if not os.path.exists(f"{VENV}/bin/supervisord"):
        print(f"installing supervisor 4.3.0 into {VENV}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([f"{VENV}/bin/pip", "-q", "--disable-pip-version-check", "install", "setuptools<81", "supervisor==4.3.0"], check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenarios", default="start,stop,restart,storm,idle,sampled,logs,status,churn")
    parser.add_argument("--tools", default="supervisord,ganger")
    parser.add_argument("--passes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=60, help="killed workers in `restart`")
    parser.add_argument("--idle-seconds", type=int, default=20)
    parser.add_argument("--log-mb", type=int, default=300)
    parser.add_argument("--json", help="writes all single figures there")
    options = parser.parse_args()
    tools = options.tools.split(",")
    scenarios = options.scenarios.split(",")
    if "supervisord" in tools:
        install_supervisor()
    if "ganger" in tools and not os.path.exists(f"{TARGET}/release/gangerd"):
        sys.exit("no release build of gangerd: cargo build --release")

    # A thousand workers need a few descriptors each in supervisord; both tools inherit what we may have.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    failures = 0
    with tempfile.TemporaryDirectory(prefix="gb-") as base:
        os.chmod(base, 0o755)
        bench = Bench(options, base)
        for number in range(options.passes):
            for scenario in scenarios:
                for name in tools:
                    print(f"pass {number + 1}: {scenario}: {name} (load {os.getloadavg()[0]:.1f})", flush=True)
                    try:
                        getattr(bench, scenario)(name)
                    except Trouble as trouble:
                        failures += 1
                        print(f"  {name}: {scenario} FAILED: {trouble}", flush=True)
        bench.table(tools)
        if options.json:
            with open(options.json, "w") as file:
                json.dump({"results": bench.results, "goals": GOALS}, file, indent=1)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
