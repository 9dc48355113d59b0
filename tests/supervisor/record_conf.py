#!/usr/bin/env python3
"""Records what the real Supervisor makes of snippets of supervisord.conf.

Run it with the Python of a virtual environment that has supervisor 4.3.0, as root, on a system with the users root,
daemon and www-data as Debian has them:

    python tests/supervisor/record_conf.py > tests/fixtures/supervisor/conf-cases.json

Each case is one or more files; the main one is supervisord.conf. They are written into a fresh directory, which is the
working directory as well, and is called @DIR@ in the answers. The answer is what supervisord would run by, or the
text with which it refuses. `tests/supervisor/conf.rs` gives the same files to ganger and compares.
"""

import json
import os
import platform
import shlex
import shutil
import sys
import tempfile

ENVIRONMENT = {
    "HOME": "/root",
    "PATH": "/usr/bin:/bin",
    "QUEUE": "low prio",
    "PCT": "100%",
    "PAREN": "%(here)s",
    "NUM": "7",
}
os.environ.clear()
os.environ.update(ENVIRONMENT)
platform.node = lambda: "box"

from supervisor import options  # noqa: E402
from supervisor.datatypes import Automatic, RestartUnconditionally, RestartWhenExitUnexpected  # noqa: E402
from supervisor.events import EventTypes  # noqa: E402

BASE = "[supervisord]\n[unix_http_server]\nfile=/tmp/s.sock\n"
CASES = []


def case(name, text, **files):
    CASES.append((name, dict({"supervisord.conf": text}, **{key.replace("__", "/"): value for key, value in files.items()})))


def program(name, keys):
    """A snippet within [program:w], which has a command already."""
    case(name, "[supervisord]\n[program:w]\ncommand=/bin/true\n" + keys + "\n")


def daemon(name, keys):
    case(name, "[supervisord]\n" + keys + "\n[program:w]\ncommand=/bin/true\n")


def fill():
    # Grammar.
    program("defaults", "")
    case("no sections", "")
    case("empty section only", "[supervisord]")
    case("no supervisord section", "[program:w]\ncommand=/bin/true\n")
    case("text before sections", "x=1\n[supervisord]\n")
    case("byte order mark", "\ufeff[supervisord]\n")
    case("crlf", "[supervisord]\r\n[program:w]\r\ncommand=/bin/true\r\nstartsecs=5\r\n")
    case("key without delimiter", "[supervisord]\nnonsense\n")
    case("value without key", "[supervisord]\n=x\n")
    program("colon delimiter", "startsecs: 5")
    program("first delimiter splits", "directory = a = b")
    program("upper-case key", "StartSecs=5")
    program("repeated key", "startsecs=5\nstartsecs=6")
    case("repeated section merges", "[supervisord]\n[program:w]\ncommand=/bin/true\nstartsecs=5\n[program:w]\npriority=3\n")
    program("semicolon inside", "directory=a;b")
    program("hash inside", "directory=a#b")
    program("comment after blank and semicolon", "directory=a ;b")
    program("comment after blank and hash", "directory=a #b")
    program("comment after tab", "directory=a\t;b")
    program("comment lines", "# a\n; b\n  # c\nstartsecs=5")
    program("continuation", "environment=A=1,\n  B=2,\n  C=3")
    program("continuation over an empty line", "environment=A=1,\n\n  B=2")
    program("continuation over a comment", "environment=A=1,\n  ; no\n# no\n  B=2")
    program("indented key", "  startsecs=5\n  priority=3")
    program("key deeper than the key before", "startsecs=5\n  priority=3")
    program("value on the next line", "directory=\n  /tmp")
    case("default section", "[DEFAULT]\nstartsecs=4\n[supervisord]\n[program:w]\ncommand=/bin/true\n[program:v]\ncommand=/bin/true\nstartsecs=2\n")
    case("section name with text behind it", "[supervisord] ; x\n[program:w] y\ncommand=/bin/true\n")
    case("section name with a space", "[supervisord]\n[program: w]\ncommand=/bin/true\n")
    case("section of another case", "[Supervisord]\n[program:w]\ncommand=/bin/true\n")
    program("empty value", "stdout_logfile=")
    program("unknown key", "numproc=4")
    case("unknown section", "[supervisord]\n[programm:w]\ncommand=/bin/true\n")
    program("umlauts", "environment=A=\"größe\"")

    # Expansion.
    program("here", "directory=%(here)s/x")
    program("program name", "directory=/%(program_name)s/%(group_name)s")
    program("host", "directory=/%(host_node_name)s")
    program("environment variable", "directory=/%(ENV_HOME)s")
    program("environment variable with blanks", "directory=/%(ENV_QUEUE)s")
    program("variable with a per cent sign", "directory=/%(ENV_PCT)s")
    program("variable is not expanded again", "directory=/%(ENV_PAREN)s")
    program("unknown name", "directory=/%(nope)s")
    program("unknown variable", "directory=/%(ENV_NOPE)s")
    program("stray per cent", "directory=/100%")
    program("escaped per cent", "directory=/100%%")
    program("per cent without conversion", "directory=/%(here)")
    program("letter conversion of a text", "directory=/%(here)d")
    program("padded number", "process_name=%(program_name)s_%(process_num)02d\nnumprocs=3")
    program("number as text", "process_name=%(program_name)s_%(process_num)s\nnumprocs=2")
    program("number, three wide", "process_name=%(program_name)s_%(process_num)03d\nnumprocs=2")
    program("numprocs as a name", "command=/bin/true %(numprocs)d %(process_num)d\nnumprocs=2\nprocess_name=w%(process_num)d")
    program("process number in directory and logs", "directory=/%(process_num)d\nstdout_logfile=/tmp/%(process_num)02d.log\nstderr_logfile=/tmp/e%(process_num)d\nnumprocs=2\nprocess_name=w%(process_num)d")
    program("process number in environment", "environment=N=\"%(process_num)d\",M=%(process_num)02d\nnumprocs=2\nprocess_name=w%(process_num)d")
    program("own variable in command", "environment=A=\"x\"\ncommand=/bin/echo %(ENV_A)s")
    program("own variable in directory", "environment=A=\"x\"\ndirectory=/%(ENV_A)s")
    program("own variable in a log file", "environment=A=\"x\"\nstdout_logfile=/tmp/%(ENV_A)s.log")
    program("expansion in a number", "startsecs=%(ENV_NUM)s")
    daemon("supervisord variable in a program", "environment=A=\"x y\"\n[program:v]\ncommand=/bin/echo %(ENV_A)s")
    daemon("here in supervisord", "logfile=%(here)s/x.log")
    case("program name in a numprocs value", "[supervisord]\n[program:3]\ncommand=/bin/true\npriority=%(program_name)s\n")

    # environment
    for name, value in [
        ("plain", "A=1,B=2"), ("quoted", "A=\"x, y\",B='z'"), ("blanks", "A = 1 , B = 2"), ("trailing comma", "A=1,"),
        ("semicolon between", "A=1;B=2"), ("word characters", "A=/a.b+c-d(e):f"), ("unquoted comma", "A=a,b"), ("unquoted at sign", "A=a@b"),
        ("unquoted star", "A=*"), ("no value", "A="), ("no equals", "A"), ("empty quotes", "A=\"\""), ("quote in quotes", "A='it\"s'"),
        ("backslash in quotes", "A=\"a\\nb\""), ("quote within a word", "A=b\"c"), ("open quotes", "A=\"x"), ("twice", "A=1,A=2"),
        ("empty", ""), ("fourth word is not looked at", "A=1 x B=2"), ("double equals", "A==1"), ("hash in quotes", "A=\"a#b\""),
        ("hash in a word", "A=a#b"), ("percent", "A=\"100%%\""), ("per cent alone", "A=\"100%\""), ("url", "A=\"http://x:1/?a=b&c\""),
        ("dollar", "A=$HOME"), ("json", "A='{\"a\": 1}'"), ("lower-case key", "a_b=1"), ("unquoted umlaut", "A=ü"),
    ]:
        program("environment: " + name, "environment=" + value)
    daemon("environment of all, over and under", "environment=A=1,B=2\n[program:v]\ncommand=/bin/true\nenvironment=B=3,C=4")

    # Values.
    for value in ["true", "TRUE", "yes", "on", "1", "false", "No", "off", "0", "maybe", "", "2"]:
        program("autostart " + (value or "empty"), "autostart=" + value)
    for value in ["true", "false", "unexpected", "UNEXPECTED", "1", "off", "always", ""]:
        program("autorestart " + (value or "empty"), "autorestart=" + value)
    for value in ["0", "5", " 5 ", "1_000", "+5", "-1", "5s", "1.5", ""]:
        program("startsecs '" + value + "'", "startsecs=" + value)
    for value in ["0", "10", "x"]:
        program("startretries " + value, "startretries=" + value)
    for value in ["0", "0,2", "0, 2", "", "256", "-1", "0,", "x", "2,0,2"]:
        program("exitcodes '" + value + "'", "exitcodes=" + value)
    for value in ["TERM", "term", "SIGTERM", "SigHup", "15", "9", "KILL", "USR1", "RTMIN", "RTMAX", "34", "64", "NOPE", "0", "65", "-1", "", "WINCH", "CLD", "STKFLT"]:
        program("stopsignal '" + value + "'", "stopsignal=" + value)
    for value in ["0", "1", "50", "x"]:
        program("stopwaitsecs " + value, "stopwaitsecs=" + value)
    program("stopasgroup", "stopasgroup=true")
    program("killasgroup", "killasgroup=true")
    program("stopasgroup without killasgroup", "stopasgroup=true\nkillasgroup=false")
    for value in ["022", "22", "0o22", "777", "9", "x", ""]:
        program("umask '" + value + "'", "umask=" + value)
    for value in ["0", "100", "1KB", "1kb", "10MB", "1GB", "10 MB", "1.5MB", "10M", "1B", "MB", "", "-1"]:
        program("maxbytes '" + value + "'", "stdout_logfile=/tmp/x\nstdout_logfile_maxbytes=" + value)
    program("backups", "stdout_logfile_backups=3\nstderr_logfile_backups=0")
    program("capture", "stdout_capture_maxbytes=512MB\nstderr_capture_maxbytes=1KB")
    program("log events", "stdout_events_enabled=true\nstderr_events_enabled=1")
    program("redirect", "redirect_stderr=true")
    program("redirect with a file", "redirect_stderr=true\nstderr_logfile=/tmp/e")
    for value in ["NONE", "none", "off", "AUTO", "auto", "/tmp/x.log", "x.log", "/nonexistent/x.log", "/dev/stdout", "~/x.log", "~nobody_there/x.log"]:
        program("stdout_logfile " + value, "stdout_logfile=" + value)
    program("stderr_logfile", "stderr_logfile=/tmp/e.log")
    program("one log file for all", "stdout_logfile=/tmp/x.log\nnumprocs=2\nprocess_name=w%(process_num)d")
    for value in ["root", "0", "www-data", "33", "nobody_there", "99999", ""]:
        program("user '" + value + "'", "user=" + value)
    for value in ["3", "-5", "x"]:
        program("priority " + value, "priority=" + value)
    program("directory is not looked at", "directory=/nonexistent")
    for value in ["AUTO", "auto", "http://x:1", ""]:
        program("serverurl '" + value + "'", "serverurl=" + value)

    # numprocs and names.
    program("numprocs without a number in the name", "numprocs=2")
    program("numprocs", "numprocs=3\nprocess_name=%(program_name)s_%(process_num)02d")
    program("numprocs of one", "numprocs=1")
    program("numprocs of none", "numprocs=0")
    program("numprocs_start", "numprocs=2\nnumprocs_start=8\nprocess_name=%(program_name)s_%(process_num)02d")
    program("numprocs that is no number", "numprocs=many")
    program("process_name", "process_name=other")
    program("process_name with a blank", "process_name=a b")
    program("process_name with a colon", "process_name=a:b")
    program("process_name with a group", "process_name=%(group_name)s-%(program_name)s")
    case("program name with a colon", "[supervisord]\n[program:a:b]\ncommand=/bin/true\n")
    case("program name with a slash", "[supervisord]\n[program:a/b]\ncommand=/bin/true\n")
    case("program name with a blank", "[supervisord]\n[program:a b]\ncommand=/bin/true\n")
    case("program without command", "[supervisord]\n[program:w]\n")
    program("command with quotes", "command=sh -c \"echo 'a b'\"")
    program("command cut at a comment within quotes", "command=sh -c \"a ; b\"")
    program("empty command", "command=")
    program("command without a path", "command=php worker.php --queue=high,low")
    program("command over several lines", "command=php\n  worker.php\n  --queue=x")
    case("the slides", "[supervisord]\n[program:worker]\ncommand=php /path/to/worker.php %(process_num)d\nprocess_name=%(program_name)s_%(process_num)d\nstdout_capture_maxbytes=512MB\nstdout_logfile_backups=3\nredirect_stderr=true\nnumprocs=10\nnumprocs_start=0\n")

    # Groups.
    two = "[supervisord]\n[program:a]\ncommand=/bin/true\n[program:b]\ncommand=/bin/true\npriority=5\n"
    case("group", two + "[group:g]\nprograms=a,b\n")
    case("group with a priority", two + "[group:g]\nprograms=a, b\npriority=7\n")
    case("group of one", two + "[group:g]\nprograms=b\n")
    case("group with an unknown program", two + "[group:g]\nprograms=a,c\n")
    case("group without programs", two + "[group:g]\n")
    case("group with a trailing comma", two + "[group:g]\nprograms=a,\n")
    case("program in two groups", two + "[group:g]\nprograms=a,b\n[group:h]\nprograms=a\n")
    case("group of the name of its program", two + "[group:a]\nprograms=a\n")
    case("group name in names", "[supervisord]\n[program:a]\ncommand=/bin/echo %(group_name)s\n[group:g]\nprograms=a\n")
    case("group and program of one name in a group", two + "[fcgi-program:a]\nsocket=tcp://x:1\ncommand=/bin/true\n[group:g]\nprograms=a\n")
    case("bad group name", two + "[group:g h]\nprograms=a\n")

    # Listeners.
    def listener(name, keys):
        case(name, "[supervisord]\n[eventlistener:l]\ncommand=/bin/true\n" + keys + "\n")

    listener("listener", "events=TICK_60")
    listener("listener of several", "events=PROCESS_STATE, tick_5\nbuffer_size=100")
    listener("listener of all", "events=EVENT")
    listener("listener without events", "")
    listener("listener of an unknown event", "events=NOPE")
    listener("listener with an empty list", "events=")
    listener("listener with a buffer of none", "events=EVENT\nbuffer_size=0")
    listener("listener with redirect", "events=EVENT\nredirect_stderr=true")
    listener("listener with a priority", "events=EVENT\npriority=5")
    listener("listener with the default handler", "events=EVENT\nresult_handler=supervisor.dispatchers:default_handler")
    listener("pool of listeners", "events=EVENT\nnumprocs=2\nprocess_name=%(program_name)s_%(process_num)d")
    for event in ["PROCESS_STATE_STARTING", "PROCESS_COMMUNICATION", "PROCESS_LOG", "REMOTE_COMMUNICATION", "SUPERVISOR_STATE_CHANGE", "TICK_3600", "PROCESS_GROUP_ADDED"]:
        listener("listener of " + event, "events=" + event)

    # FastCGI.
    def fcgi(name, keys):
        case(name, "[supervisord]\n[fcgi-program:f]\ncommand=/bin/true\n" + keys + "\n")

    fcgi("fcgi tcp", "socket=tcp://localhost:9002")
    fcgi("fcgi tcp, upper case", "socket=tcp://LocalHost:9002")
    fcgi("fcgi unix", "socket=unix:///tmp/f.sock")
    fcgi("fcgi unix of the program", "socket=unix:///tmp/%(program_name)s.sock")
    fcgi("fcgi unix with a mode and owner", "socket=unix:///tmp/f.sock\nsocket_mode=0770\nsocket_owner=www-data:daemon")
    fcgi("fcgi unix with a user", "socket=unix:///tmp/f.sock\nuser=www-data")
    fcgi("fcgi backlog", "socket=tcp://localhost:9002\nsocket_backlog=32")
    fcgi("fcgi backlog of none", "socket=tcp://localhost:9002\nsocket_backlog=0")
    fcgi("fcgi without a socket", "")
    fcgi("fcgi with a relative path", "socket=unix://f.sock")
    fcgi("fcgi with a bad port", "socket=tcp://localhost:99999")
    fcgi("fcgi with no port", "socket=tcp://localhost")
    fcgi("fcgi with another scheme", "socket=udp://localhost:1")
    fcgi("fcgi tcp with a mode", "socket=tcp://localhost:9002\nsocket_mode=0770")
    fcgi("fcgi with a bad owner", "socket=unix:///tmp/f.sock\nsocket_owner=nobody_there")

    # Servers.
    def server(name, text):
        case(name, "[supervisord]\n[program:w]\ncommand=/bin/true\n" + text + "\n")

    server("unix server", "[unix_http_server]\nfile=/tmp/s.sock")
    server("unix server with a relative path", "[unix_http_server]\nfile=x/../s.sock")
    server("unix server with mode and owner", "[unix_http_server]\nfile=/tmp/s.sock\nchmod=0770\nchown=www-data:daemon")
    server("unix server with an owner", "[unix_http_server]\nfile=/tmp/s.sock\nchown=root")
    server("unix server with a bad mode", "[unix_http_server]\nfile=/tmp/s.sock\nchmod=rw")
    server("unix server with a bad owner", "[unix_http_server]\nfile=/tmp/s.sock\nchown=nobody_there")
    server("unix server without a file", "[unix_http_server]")
    server("unix server with a login", "[unix_http_server]\nfile=/tmp/s.sock\nusername=u\npassword={SHA}82ab876d1387bfafe46cc1c8a2ef074eae50cb1d")
    server("unix server with half a login", "[unix_http_server]\nfile=/tmp/s.sock\nusername=u")
    server("two unix servers", "[unix_http_server]\nfile=/tmp/s.sock\n[unix_http_server:b]\nfile=/tmp/b.sock")
    for value in ["9001", ":9001", "*:9001", "127.0.0.1:9001", "LocalHost:9001", "0", "65536", "x", "host:", "host:x"]:
        server("inet server at " + value, "[inet_http_server]\nport=" + value)
    server("inet server without a port", "[inet_http_server]")
    server("inet server with a password only", "[inet_http_server]\nport=9001\npassword=x")
    server("two inet servers", "[inet_http_server]\nport=9001\n[inet_http_server:b]\nport=9002")
    server("both kinds", "[inet_http_server]\nport=9001\n[unix_http_server]\nfile=/tmp/s.sock")

    # [supervisord]
    daemon("all of supervisord", "logfile=/tmp/x.log\nlogfile_maxbytes=1MB\nlogfile_backups=2\nloglevel=debug\npidfile=/tmp/x.pid\numask=077\nnodaemon=true\nsilent=true\nminfds=2048\nminprocs=300\nnocleanup=true\nchildlogdir=/var/tmp\nuser=root\ndirectory=/tmp\nstrip_ansi=true\nidentifier=mine")
    for value in ["critical", "error", "WARN", "info", "trace", "blather", "warning", "loud"]:
        daemon("loglevel " + value, "loglevel=" + value)
    daemon("log file in no directory", "logfile=/nonexistent/x.log")
    daemon("pid file in no directory", "pidfile=/nonexistent/x.pid")
    daemon("child log directory that is not there", "childlogdir=/nonexistent")
    daemon("directory that is not there", "directory=/nonexistent")
    daemon("bad minfds", "minfds=many")
    daemon("bad umask", "umask=9")
    daemon("supervisord environment with a per cent sign", "environment=A=\"100%%\"")
    daemon("supervisord environment with the host", "environment=A=\"%(host_node_name)s\"")
    daemon("process number in supervisord", "identifier=%(process_num)d")

    # Includes.
    case("include", "[supervisord]\n[include]\nfiles=conf.d/*.conf\n", **{"conf.d/b.conf": "[program:b]\ncommand=%(here)s/run\n", "conf.d/a.conf": "[program:a]\ncommand=/bin/true\n", "conf.d/c.ini": "[program:c]\ncommand=/bin/true\n"})
    case("include of several", "[supervisord]\n[include]\nfiles=x.conf y/*.ini\n  z.conf\n", **{"x.conf": "[program:x]\ncommand=/bin/true\n", "y/y.ini": "[program:y]\ncommand=/bin/true\n", "z.conf": "[program:z]\ncommand=/bin/true\n"})
    case("include of nothing", "[supervisord]\n[include]\nfiles=none/*.conf\n")
    case("include without files", "[supervisord]\n[include]\n")
    case("include is not recursive", "[supervisord]\n[include]\nfiles=a.conf\n", **{"a.conf": "[include]\nfiles=b.conf\n[program:a]\ncommand=/bin/true\n", "b.conf": "[program:b]\ncommand=/bin/true\n"})
    case("include merges sections", "[supervisord]\n[program:w]\ncommand=/bin/true\nstartsecs=3\n[include]\nfiles=a.conf\n", **{"a.conf": "[program:w]\nstartsecs=4\npriority=1\n"})
    case("include over supervisord", "[supervisord]\nidentifier=a\n[include]\nfiles=a.conf\n", **{"a.conf": "[supervisord]\nidentifier=b\n"})
    case("include with a class", "[supervisord]\n[include]\nfiles=[!a].conf\n", **{"a.conf": "[program:a]\ncommand=/bin/true\n", "b.conf": "[program:b]\ncommand=/bin/true\n"})
    case("include of hidden files", "[supervisord]\n[include]\nfiles=*.cnf\n", **{".a.cnf": "[program:a]\ncommand=/bin/true\n"})
    case("include with an expansion", "[supervisord]\n[include]\nfiles=%(here)s/%(host_node_name)s.conf\n", **{"box.conf": "[program:a]\ncommand=/bin/true\n"})
    case("include of a broken file", "[supervisord]\n[include]\nfiles=a.conf\n", **{"a.conf": "nonsense\n"})
    case("supervisord in an included file", "[include]\nfiles=a.conf\n", **{"a.conf": "[supervisord]\n"})
    case("group across files", "[supervisord]\n[group:g]\nprograms=a,b\n[include]\nfiles=*.conf.d\n", **{"a.conf.d": "[program:a]\ncommand=/bin/true\n", "b.conf.d": "[program:b]\ncommand=/bin/true\n"})

    # Plugins.
    case("standard rpc interface", "[supervisord]\n[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n")
    case("rpc interface without a factory", "[supervisord]\n[rpcinterface:supervisor]\n")
    case("control plugin", "[supervisord]\n[ctlplugin:x]\nsupervisor.ctl_factory = nowhere:at_all\n")
    case("supervisorctl", "[supervisord]\n[supervisorctl]\nserverurl=unix:///tmp/s.sock\n")

    # Ours, which Supervisor does not see.
    program("our keys", "recycle.max_jobs=1000-2000\njobs.count=laravel\nbackoff.max=1m\nleftovers=kill\nnice=5")


def log_file(value):
    if value is Automatic:
        return "AUTO"
    return os.path.abspath(value) if value else None


def words(command):
    """What it splits the command into at each start; it is not looked at when the file is read."""
    try:
        return shlex.split(command)
    except ValueError:
        return None


def process(config, fallback, strip_ansi):
    restart = {RestartUnconditionally: "true", RestartWhenExitUnexpected: "unexpected", False: "false"}[config.autorestart]
    return {
        "name": config.name,
        "command": words(config.command),
        "directory": config.directory and os.path.join(os.getcwd(), config.directory),
        "uid": config.uid,
        "umask": config.umask,
        "priority": config.priority,
        "autostart": config.autostart,
        "autorestart": restart,
        "startsecs": config.startsecs,
        "startretries": config.startretries,
        "exitcodes": sorted(set(config.exitcodes)),
        "stopsignal": int(config.stopsignal),
        "stopwaitsecs": config.stopwaitsecs,
        "stopasgroup": config.stopasgroup,
        "killasgroup": config.killasgroup,
        "redirect_stderr": config.redirect_stderr,
        "environment": config.environment,
        "serverurl": (fallback if config.serverurl is None else config.serverurl) or None,
        "strip_ansi": strip_ansi,
        "stdout": stream(config, "stdout"),
        "stderr": None if config.redirect_stderr else stream(config, "stderr"),
    }


def stream(config, name):
    get = lambda key: getattr(config, name + "_" + key)
    path = log_file(get("logfile"))
    return {
        "logfile": path,
        # Without a file they mean nothing.
        "maxbytes": path and get("logfile_maxbytes"),
        "backups": path and get("logfile_backups"),
        "capture": get("capture_maxbytes"),
        "events": get("events_enabled"),
    }


def server_url(servers):
    """As ServerOptions.realize() finds it."""
    for config in servers:
        if "file" in config:
            return "unix://" + config["file"]
    url = None
    for config in servers:
        url = "http://%s:%s" % (config["host"] or "localhost", config["port"])
    return url


def owner(pair):
    """Without a group it stays that of who makes the socket: root's."""
    if pair is None or tuple(pair) == (-1, -1):
        return None
    return [pair[0], 0 if pair[1] == -1 else pair[1]]


def group(config, section):
    url = server_url(section.server_configs)
    processes = [process(p, url, section.strip_ansi) for p in config.process_configs]
    answer = {"name": config.name, "priority": config.priority, "processes": processes}
    answer["processes"].sort(key=lambda p: p["name"])
    if isinstance(config, options.EventListenerPoolConfig):
        names = {value: name for name, value in vars(EventTypes).items() if not name.startswith("_")}
        answer["events"] = sorted(names[event] for event in config.pool_events)
        answer["buffer_size"] = config.buffer_size
    if isinstance(config, options.FastCGIGroupConfig):
        socket = config.socket_config
        answer["socket"] = socket.url
        answer["backlog"] = socket.get_backlog()
        if socket.url.startswith("unix:"):
            answer["mode"] = socket.get_mode()
            answer["owner"] = owner(socket.get_owner())
    return answer


def server(config):
    answer = {"section": config["section"], "username": config["username"], "password": config["password"]}
    if "file" in config:
        answer.update(file=config["file"], chmod=config["chmod"], chown=owner(config["chown"]))
    else:
        answer.update(host=config["host"], port=config["port"])
    return answer


def record(files):
    directory = os.path.realpath(tempfile.mkdtemp())
    try:
        os.chdir(directory)
        for name, text in files.items():
            os.makedirs(os.path.dirname(os.path.join(directory, name)), exist_ok=True)
            with open(os.path.join(directory, name), "w", newline="") as file:
                file.write(text)
        told = options.ServerOptions()
        try:
            told.configfile = os.path.join(directory, "supervisord.conf")
            told.here = directory
            section = told.read_config(told.configfile)
            spec = {
                name: getattr(section, name)
                for name in "minfds minprocs directory user umask logfile logfile_maxbytes logfile_backups loglevel pidfile identifier "
                "nodaemon silent childlogdir nocleanup strip_ansi".split()
            }
            spec["logfile"] = options.normalize_path(spec["logfile"])
            spec["pidfile"] = options.normalize_path(spec["pidfile"])
            answer = {
                "supervisord": spec,
                "groups": sorted((group(g, section) for g in section.process_group_configs), key=lambda g: g["name"]),
                "servers": sorted((server(s) for s in section.server_configs), key=lambda s: s["section"]),
            }
        except ValueError as error:
            answer = {"error": str(error)}
        except Exception as error:  # What it does not catch: it dies with a traceback.
            answer = {"error": "%s: %s" % (type(error).__name__, error), "traceback": True}
        return json.loads(json.dumps(answer).replace(directory, "@DIR@"))
    finally:
        os.chdir("/")
        shutil.rmtree(directory)


def main():
    fill()
    names = [name for name, _ in CASES]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    cases = [{"name": name, "files": files, "answer": record(files)} for name, files in CASES]
    answer = {"supervisor": options.VERSION, "environment": ENVIRONMENT, "host": "box", "cases": cases}
    json.dump(answer, sys.stdout, indent=1, ensure_ascii=False, sort_keys=True)
    sys.stdout.write("\n")


main()
