#!/usr/bin/env python3
"""Records what real supervisord sends to an event listener, for tests/fixtures/supervisor/events.txt.

usage: record_events.py DIRECTORY_OF_SUPERVISORD > events.txt

Runs supervisord from that directory (target/supervisor/bin, which tests/run makes) in a temporary directory, with one
listener that writes down each header and payload and some programs that make every kind of event but TICK_60, TICK_3600 and
PROCESS_STATE_UNKNOWN. Pids are written as <pid>, times as <epoch>, so that two recordings can be compared.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xmlrpc.client

LISTENER = r'''
import json, sys
out = open(sys.argv[1], 'a', buffering=1, encoding='utf-8')
while True:
    sys.stdout.write('READY\n'); sys.stdout.flush()
    head = sys.stdin.readline()
    if not head:
        break
    size = int(dict(w.split(':') for w in head.split())['len'])
    out.write('%s\t%s\n' % (head.rstrip('\n'), json.dumps(sys.stdin.read(size), ensure_ascii=False)))
    sys.stdout.write('RESULT 2\nOK'); sys.stdout.flush()
'''

TALKER = r'''
import sys, time
out = sys.stdout.buffer
out.write(b'plain line\n'); out.flush(); time.sleep(0.3)
out.write(b'<!--XSUPERVISOR:BEGIN-->gr\xc3\xbc\xc3\x9fe \xe2\x98\x83<!--XSUPERVISOR:END-->'); out.flush(); time.sleep(0.3)
out.write(b'<!--XSUPERVISOR:BEGIN-->\xff\'"\\\n<!--XSUPERVISOR:END-->'); out.flush(); time.sleep(0.3)
sys.stderr.write('to stderr\n'); sys.stderr.flush()
time.sleep(60)
'''

CONF = '''
[supervisord]
nodaemon=true
silent=true
identifier=recorder
logfile={dir}/main.log
pidfile={dir}/pid
[unix_http_server]
file={dir}/sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[eventlistener:tape]
command={python} {dir}/listener.py {dir}/tape
events=EVENT
buffer_size=1000
startsecs=0
environment=PYTHONIOENCODING="utf-8"
[program:talker]
command={python} {dir}/talker.py
autostart=false
startsecs=0
stdout_capture_maxbytes=1MB
stdout_events_enabled=true
stderr_events_enabled=true
process_name=%(program_name)s_%(process_num)02d
[program:short]
command=sh -c "sleep 1; exit 3"
autostart=false
autorestart=false
startsecs=0
[program:hopeless]
command=false
autostart=false
startretries=1
'''


def main():
    binaries = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as place:
        for name, text in (('listener.py', LISTENER), ('talker.py', TALKER)):
            with open(os.path.join(place, name), 'w') as file:
                file.write(text)
        with open(os.path.join(place, 'conf'), 'w') as file:
            file.write(CONF.format(dir=place, python=os.path.join(binaries, 'python')))
        tape = os.path.join(place, 'tape')
        daemon = subprocess.Popen([os.path.join(binaries, 'supervisord'), '-c', os.path.join(place, 'conf')])
        try:
            drive(place, tape)
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(20)
        finally:
            if daemon.poll() is None:
                daemon.kill()
        with open(tape, encoding='utf-8') as file:
            for line in file:
                line = re.sub(r'pid:[1-9]\d*', 'pid:<pid>', line)
                print(re.sub(r'when:\d+', 'when:<epoch>', line), end='')


def drive(place, tape):
    sys.path[:0] = [p for p in (os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), 'lib', d, 'site-packages')
                                for d in os.listdir(os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), 'lib')))]
    from supervisor.xmlrpc import SupervisorTransport
    server = xmlrpc.client.ServerProxy('http://x', SupervisorTransport(None, None, 'unix://%s/sock' % place)).supervisor
    until(tape, 'SUPERVISOR_STATE_CHANGE_RUNNING')
    server.startProcess('talker:talker_00')
    until(tape, 'PROCESS_LOG_STDERR')
    server.stopProcess('talker:talker_00')
    server.startProcess('short')
    until(tape, 'PROCESS_STATE_EXITED')
    try:
        server.startProcess('hopeless', False)
    except xmlrpc.client.Fault as fault:  # it may end before the answer
        if fault.faultCode != 50:
            raise
    until(tape, 'PROCESS_STATE_FATAL')
    server.sendRemoteCommEvent('news', 'gr\u00fc\u00dfe\n\u2603')
    server.removeProcessGroup('short')
    server.addProcessGroup('short')
    until(tape, 'PROCESS_GROUP_REMOVED')
    until(tape, 'TICK_5')


def until(tape, word):
    limit = time.time() + 30
    while not (os.path.exists(tape) and word in open(tape, encoding='utf-8').read()):
        if time.time() > limit:
            raise SystemExit('no %s within 30 s; recorded so far:\n%s' % (word, open(tape, encoding='utf-8').read()))
        time.sleep(0.1)


main()
