#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""test-gaio-top.py GAIO-TOP MANPAGE EXPORTER: what it shows of programs, as TAP.

Most of them are here made up; EXPORTER exports in earnest.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time

import gi

gi.require_version('Gio', '2.0')
# pylint: disable=wrong-import-position
from gi.repository import Gio, GLib  # noqa: E402

import tap  # noqa: E402

TOP, MAN, EXPORTER = sys.argv[1:4]
NO_BUS = 'unix:path=/nonexistent'
QUICK = '--interval=0.01'
NOBODY = 'no program exports the statistics of its loop'
HEADINGS = ['PID', 'PROGRAM', 'MONITOR', 'HANDLERS', 'TIMERS', 'SERVED', 'ROUNDS/s',
            'CALLBACKS/s', 'WAKEUPS/s', 'TIME', '%']
DEADLY = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGABRT,
          signal.SIGTRAP)
ENTER, LEAVE = b'\x1b[?1049h\x1b[?25l', b'\x1b[?25h\x1b[?1049l'
STATS_INTERFACE = '''
<node>
  <interface name='org.gaio.Stats1'>
    <method name='GetStats'><arg type='a{sv}' direction='out'/></method>
    <method name='GetSlowest'>
      <arg type='u' direction='in'/><arg type='a(ssittt)' direction='out'/>
    </method>
  </interface>
</node>'''
INTROSPECTABLE = '''
<node>
  <interface name='org.freedesktop.DBus.Introspectable'>
    <method name='Introspect'><arg type='s' direction='out'/></method>
  </interface>
</node>'''


def interface(xml):
    return Gio.DBusNodeInfo.new_for_xml(xml).interfaces[0]


def run_top(*options, **environment):
    """A run that ends by itself."""
    return subprocess.run([TOP, *options], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False,
                          env={**os.environ, 'LC_ALL': 'C.UTF-8', **environment})


class Bus:
    """A session bus of one's own; its programs live in this process, each with a connection."""

    def __enter__(self):
        # It ends with this process, however that ends.
        self.daemon = subprocess.Popen(
            ['setpriv', '--pdeathsig', 'KILL',
             'dbus-daemon', '--session', '--nofork', '--nopidfile', '--print-address'],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.programs = []
        self.address = self.daemon.stdout.readline().strip()
        self.environment = {**os.environ, 'DBUS_SESSION_BUS_ADDRESS': self.address,
                            'LC_ALL': 'C.UTF-8', 'TERM': 'xterm'}
        return self

    def __exit__(self, *_):
        self.daemon.kill()
        self.daemon.wait()
        self.daemon.stdout.close()

    def top(self, *options):
        return run_top(*options, **self.environment)

    def once(self, *options):
        """The loops of a run with --once that goes well."""
        done = self.top('--once', '--json', QUICK, *options)
        assert (done.returncode, done.stderr) == (0, ''), done
        return json.loads(done.stdout)['loops']

    def table(self, *options):
        """The lines of a run with --once that goes well, but for the headings."""
        done = self.top('--once', QUICK, *options)
        assert (done.returncode, done.stderr) == (0, ''), done
        headings, *lines = done.stdout.splitlines()
        assert headings.split() == HEADINGS, headings
        return lines


class Watch:
    """A gaio-top that runs on, as JSON; leaving the block ends it."""

    def __init__(self, bus, *options):
        self.process = subprocess.Popen(
            [TOP, '--json', QUICK, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, text=True, env=bus.environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()

    def loops(self):
        """Those of the next sample."""
        return json.loads(self.process.stdout.readline())['loops']

    def wait_until(self, condition):
        while not condition(loops := self.loops()):
            pass
        return loops


class Loop:
    """An object that tells of a loop: the same counters on, in each call."""

    def __init__(self, slowest=(), answers=True, **figures):
        self.figures = {'program': GLib.Variant('s', 'made-up'), 'pid': GLib.Variant('u', 4321),
                        'monitor': GLib.Variant('s', 'epoll'), 'handlers': GLib.Variant('u', 9),
                        'dormant-handlers': GLib.Variant('u', 0), 'timers': GLib.Variant('u', 5),
                        'armed-timers': GLib.Variant('u', 2),
                        'main-contexts': GLib.Variant('u', 6),
                        'rebuilds': GLib.Variant('t', 0)}
        self.steps = {'rounds': 1000000, 'callbacks': 3000000, 'wakeups': 7000}
        for key, value in figures.items():
            self.figures[key.replace('_', '-')] = value
        self.slowest = list(slowest)
        self.answers = answers
        self.asked = 0
        self.asked_for_slowest = []

    def stats(self):
        figures = dict(self.figures)
        for key, step in self.steps.items():
            figures.setdefault(key, GLib.Variant('t', 2**40 + self.asked * step))
        if self.asked > 0:
            figures.setdefault('callback-time', GLib.Variant('t', 2000000 * self.asked))
        self.asked += 1
        return {key: value for key, value in figures.items() if value is not None}

    def on_call(self, _connection, _sender, _path, _interface, method, parameters, invocation):
        if method == 'GetSlowest':
            self.asked_for_slowest.append(parameters[0])
        if not self.answers:
            return
        if method == 'GetStats':
            answer = GLib.Variant('(a{sv})', (self.stats(),))
        else:
            answer = GLib.Variant('(a(ssittt))', (self.slowest,))
        invocation.return_value(answer)


class Program:
    """A connection to the bus that exports loops."""

    def __init__(self, bus, *loops):
        flags = Gio.DBusConnectionFlags
        self.connection = Gio.DBusConnection.new_for_address_sync(
            bus.address, flags.AUTHENTICATION_CLIENT | flags.MESSAGE_BUS_CONNECTION, None, None)
        for number, loop in enumerate(loops):
            self.export(loop, number)
        # Without a reference it would be closed.
        bus.programs.append(self)

    def export(self, loop, number):
        return self.connection.register_object(f'/org/gaio/Stats/{number}',
                                               interface(STATS_INTERFACE), loop.on_call, None, None)

    def introspect_as(self, xml):
        """Say that of /org/gaio/Stats, whatever is exported."""
        def on_call(*arguments):
            arguments[-1].return_value(GLib.Variant('(s)', (xml,)))
        self.connection.register_object('/org/gaio/Stats', interface(INTROSPECTABLE), on_call,
                                        None, None)

    def end(self):
        self.connection.close_sync(None)


class Mute:
    """A connection that never answers anything."""

    def __init__(self, bus):
        path = re.search(r'unix:path=([^,]*)', bus.address)[1]
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.sendall(b'\0AUTH EXTERNAL ' + str(os.getuid()).encode().hex().encode() +
                            b'\r\n')
        assert self.socket.recv(1000).startswith(b'OK ')
        hello = Gio.DBusMessage.new_method_call('org.freedesktop.DBus', '/org/freedesktop/DBus',
                                                'org.freedesktop.DBus', 'Hello')
        hello.set_serial(1)
        self.socket.sendall(b'BEGIN\r\n' + hello.to_blob(Gio.DBusCapabilityFlags.NONE))
        assert b':1.' in self.socket.recv(1000)


def take_terminal():
    """Before exec. A shell has what it starts in the background ignore some of the signals."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for number in DEADLY:
        signal.signal(number, signal.SIG_DFL)


class Terminal:
    """A gaio-top on a terminal of its own."""

    def __init__(self, bus, *options, columns=100, lines=20, command=(TOP,)):
        self.master, slave = os.openpty()
        self.resize(columns, lines)
        self.modes = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            [*command, *(options or (QUICK,))], stdin=slave, stdout=slave, stderr=slave,
            env=bus.environment, start_new_session=True, preexec_fn=take_terminal)
        self.slave = slave
        self.output = b''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, columns, lines):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))

    def type(self, keys):
        os.write(self.master, keys)

    def wait_for(self, pattern):
        """Read on until it matches; what comes after the match is for the next time."""
        while not (match := re.search(pattern, self.output, re.S)):
            self.output += os.read(self.master, 65536)
        self.output = self.output[match.end():]
        return match

    def frame(self):
        """The lines of the next whole picture, without what draws them."""
        picture = self.wait_for(rb'\x1b\[H((?:(?!\x1b\[H).)*)(?=\x1b\[H)')[1].decode()
        picture = re.sub(r'\x1b\[[0-9;]*[mJK]', '', picture)
        return picture.split('\r\n')

    def wait_for_end(self):
        """The status, after having read all; the terminal has to be as it was."""
        os.set_blocking(self.master, False)
        while (status := self.process.poll()) is None:
            self.read_all()
            time.sleep(0.001)
        self.read_all()
        assert self.output.endswith(LEAVE), self.output[-200:]
        assert termios.tcgetattr(self.slave) == self.modes
        return status

    def read_all(self):
        """What is there now."""
        try:
            while True:
                self.output += os.read(self.master, 65536)
        except BlockingIOError:
            pass


SLOWEST = [('handler', 'accept', 7, 10, 1000, 500), ('timer', '', -1, 4, 40000, 30000),
           ('handler', '', 23, 1, 17, 17), ('bottom-half', 'tidy', -1, 5, 0, 0)]


def test_once_prints_one_table():
    with Bus() as bus:
        Program(bus, Loop(slowest=SLOWEST))
        row, *slowest = bus.table()
        cells = row.split()
        assert cells[:6] == ['4321', 'made-up', 'epoll', '9', '5', '6'], row
        rounds, callbacks, wakeups, percent = map(float, cells[6:])
        assert rounds > 0 and abs(callbacks / rounds - 3) < 0.01, row
        assert wakeups > 0 and percent > 0, row
        assert [line.split(None, 2)[:2] for line in slowest] == [
            ['handler', 'accept'], ['timer', '-'], ['handler', 'fd']], slowest
        assert slowest[0].endswith(' 10 calls, mean 100 us, longest 500 us'), slowest
        assert slowest[1].endswith(' 4 calls, mean 10 ms, longest 30 ms'), slowest
        assert ' fd 23 ' in slowest[2], slowest


def test_program_in_earnest_is_shown():
    with Bus() as bus, subprocess.Popen([EXPORTER], stdout=subprocess.PIPE,
                                        env=bus.environment) as program:
        assert program.stdout.readline() == b'ready\n'
        try:
            [loop] = bus.once()
        finally:
            program.kill()
    # One of the two is what wakes the main context up.
    assert (loop['pid'], loop['program']) == (program.pid, 'top-exporter'), loop
    assert loop['handlers'] == 2 and loop['callbacks-per-second'] > 0, loop
    assert loop['main-contexts'] == 1, loop
    assert loop['time-percent'] > 0, loop
    kinds = {slow['kind']: slow for slow in loop['slowest']}
    assert re.fullmatch('0x[0-9a-f]+ of a GaioStatsExporter', kinds['main context']['name']), loop
    slowest = kinds['handler']
    assert slowest['name'] == 'busy', loop
    assert slowest['total-us'] >= 100 * slowest['calls'] > 0, loop


def test_rates_are_counters_over_real_time():
    with Bus() as bus:
        Program(bus, Loop())
        [loop] = bus.once()
        seconds = loop['seconds']
        for key, step in {'rounds': 1000000, 'callbacks': 3000000, 'wakeups': 7000}.items():
            assert loop[key] == 2**40 + step, loop
            assert abs(loop[key + '-per-second'] * seconds - step) < step / 1e6, loop
        assert abs(loop['time-percent'] * seconds - 200) < 1e-3, loop


def test_interval_is_between_the_samples():
    with Bus() as bus:
        Program(bus, Loop())
        begin = time.monotonic()
        bus.once('--interval=0.5')
        assert time.monotonic() - begin >= 0.5


def test_rates_need_two_samples():
    with Bus() as bus:
        Program(bus, Loop())
        with Watch(bus) as watch:
            [first] = watch.wait_until(bool)
            assert first['rounds'] == 2**40 and first['rounds-per-second'] is None, first
            assert first['seconds'] is None and first['time-percent'] is None, first
            watch.wait_until(lambda loops: loops[0]['rounds-per-second'] is not None)


def test_counter_that_has_fallen_has_no_rate():
    with Bus() as bus:
        Program(bus, loop := Loop())
        loop.steps['rounds'] = -1
        [loop] = bus.once()
        assert loop['rounds'] == 2**40 - 1 and loop['rounds-per-second'] is None, loop
        assert loop['callbacks-per-second'] > 0, loop


def test_missing_and_strange_keys_are_null():
    with Bus() as bus:
        Program(bus, Loop(monitor=None, rounds=None, timers=GLib.Variant('s', 'many'),
                          what_is_this=GLib.Variant('ai', [1])))
        [loop] = bus.once()
        assert loop['monitor'] is None and loop['rounds'] is None and loop['timers'] is None, loop
        assert loop['rounds-per-second'] is None and loop['callbacks-per-second'] > 0, loop
        cells = bus.table()[0].split()
        assert cells[2] == '-' and cells[4:7] == ['-', '6', '-'], cells


def test_several_loops_dormant_handlers_and_a_note():
    with Bus() as bus:
        Program(bus, Loop(), Loop(dormant_handlers=GLib.Variant('u', 2),
                                  monitor_note=GLib.Variant('s', 'it was refused')))
        Program(bus, Loop(pid=GLib.Variant('u', 12)))
        lines = bus.table()
        assert len(lines) == 4, lines
        assert lines[0].split()[:3] == ['12', 'made-up', 'epoll'], lines
        assert lines[1].split()[:4] == ['4321', 'made-up', '#0', 'epoll'], lines
        assert lines[2].split()[:4] == ['4321', 'made-up', '#1', 'epoll'], lines
        assert ' 9 (2 dormant) ' in lines[2], lines
        assert lines[3].strip() == 'it was refused', lines


def test_slowest_is_how_many_are_shown():
    with Bus() as bus:
        Program(bus, loop := Loop(slowest=SLOWEST))
        assert [len(bus.once(*options)[0]['slowest']) for options in
                ((), ('--slowest=1',), ('--slowest=9',))] == [3, 1, 4]
        assert loop.asked_for_slowest == [3, 3, 1, 1, 9, 9], loop.asked_for_slowest
        assert bus.once('--slowest=0')[0]['slowest'] == [] and len(loop.asked_for_slowest) == 6
        assert bus.once('--slowest=2')[0]['slowest'] == [
            {'kind': 'handler', 'name': 'accept', 'fd': 7, 'calls': 10, 'total-us': 1000,
             'longest-us': 500},
            {'kind': 'timer', 'name': '', 'fd': -1, 'calls': 4, 'total-us': 40000,
             'longest-us': 30000}]


def test_pids_choose():
    with Bus() as bus:
        programs = [Program(bus, Loop(pid=GLib.Variant('u', pid))) for pid in (3, 1, 2)]
        programs.append(Program(bus, Loop(pid=None)))
        assert [loop['pid'] for loop in bus.once('1', '3')] == [1, 3]
        assert [loop['pid'] for loop in bus.once()] == [None, 1, 2, 3]
        assert bus.top('--once', QUICK, '77').stderr == f'gaio-top: {NOBODY}\n'


def test_version_and_help_need_no_bus():
    for option, start in {'--version': 'gaio-top 1', '--help': 'Usage:'}.items():
        done = run_top(option, DBUS_SESSION_BUS_ADDRESS=NO_BUS)
        assert (done.returncode, done.stderr) == (0, '') and done.stdout.startswith(start), done


def test_manual_page_has_each_option():
    text = run_top('--help').stdout
    options = re.findall(r'--[a-z]+', text)
    assert len(options) >= 6, text
    with open(MAN, encoding='ascii') as page:
        page = page.read().replace('\\-', '-')
    for option in options:
        assert re.search(rf'^\.B[IR]? .*{option}\b', page, re.M), option
    if shutil.which('man') is not None:
        done = subprocess.run(['man', '--warnings', '-E', 'UTF-8', '-l', MAN], check=True,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.stderr == '', done.stderr


def test_bad_options_are_refused():
    with Bus() as bus:
        for option in ('--interval=0', '--interval=-1', '--interval=nan', '--interval=inf',
                       '--interval=x', '--interval=1e300', '--slowest=-1', '--slowest=x',
                       '--unheard-of', '0', '-5', '12x', '99999999999'):
            done = bus.top('--once', option)
            assert done.returncode == 2 and done.stdout == '', (option, done)
            assert done.stderr.startswith('gaio-top: '), (option, done)


def test_no_bus_is_told():
    done = run_top('--once', DBUS_SESSION_BUS_ADDRESS=NO_BUS)
    assert done.returncode == 1 and done.stdout == '', done
    assert done.stderr.startswith('gaio-top: no session bus: '), done


def test_nobody_is_told():
    with Bus() as bus:
        done = bus.top('--once', QUICK)
        assert (done.returncode, done.stderr) == (0, f'gaio-top: {NOBODY}\n'), done
        assert done.stdout.split() == HEADINGS, done
        done = bus.top('--once', '--json', QUICK)
        assert done.returncode == 0 and json.loads(done.stdout)['loops'] == [], done


def test_programs_come_and_go():
    with Bus() as bus, Watch(bus) as watch:
        assert watch.loops() == []
        one = Program(bus, Loop(program=GLib.Variant('s', 'one')))
        watch.wait_until(lambda loops: [loop['program'] for loop in loops] == ['one'])
        Program(bus, Loop(program=GLib.Variant('s', 'two')))
        watch.wait_until(lambda loops: len(loops) == 2)
        one.end()
        watch.wait_until(lambda loops: [loop['program'] for loop in loops] == ['two'])
        watch.process.terminate()
        assert watch.process.stderr.read() == f'gaio-top: {NOBODY}\n'


def test_loops_come_and_go():
    with Bus() as bus:
        program = Program(bus)
        with Watch(bus) as watch:
            for _ in range(9):
                assert watch.loops() == []
            first = program.export(Loop(), 5)
            watch.wait_until(lambda loops: [loop['object'] for loop in loops] == [5])
            program.export(Loop(), 6)
            watch.wait_until(lambda loops: [loop['object'] for loop in loops] == [5, 6])
            program.connection.unregister_object(first)
            watch.wait_until(lambda loops: [loop['object'] for loop in loops] == [6])


def test_who_has_nothing_is_asked_less_often():
    with Bus() as bus:
        asked = []
        program = Program(bus)
        program.connection.register_object(
            '/org/gaio/Stats', interface(INTROSPECTABLE),
            lambda *arguments: (asked.append(1), arguments[-1].return_value(
                GLib.Variant('(s)', ('<node/>',)))), None, None)
        with Watch(bus, '--interval=0.005') as watch:
            rounds = 0
            while len(asked) < 12:
                watch.loops()
                rounds += 1
            # In the rounds 1, 3, 6, 11, 20, 37, 54, 71, 88, 105, 122 and 139, but nobody's clock is
            # exact; without a bound it would be the round 2059.
            assert 100 < rounds < 1000, rounds


def test_who_never_answers_holds_nobody_up():
    with Bus() as bus:
        mute = Mute(bus)
        Program(bus, Loop())
        with Watch(bus) as watch:
            [loop] = bus.once()
            assert loop['rounds-per-second'] > 0
            for _ in range(20):
                watch.wait_until(lambda loops: loops and loops[0]['rounds-per-second'] is not None)
        mute.socket.close()


def test_loop_that_stops_to_answer_is_told():
    with Bus() as bus:
        Program(bus, silent := Loop(pid=GLib.Variant('u', 1)))
        Program(bus, Loop(pid=GLib.Variant('u', 2)))
        with Watch(bus) as watch:
            watch.wait_until(lambda loops: len(loops) == 2 and loops[0]['seconds'])
            silent.answers = False
            loops = watch.wait_until(lambda loops: not loops[0]['answers'])
            assert loops[0]['rounds'] is not None and loops[0]['seconds'] is None, loops
            assert loops[1]['answers'], loops
            silent.answers = True
            watch.wait_until(lambda loops: loops[0]['answers'])


def test_hostile_names_are_escaped():
    name = 'a\x1b[2J\n\t\x7f\x9b\u202e\u2028\\"\u0301é漢'
    with Bus() as bus:
        Program(bus, Loop(program=GLib.Variant('s', name), monitor=GLib.Variant('s', '\x07'),
                          monitor_note=GLib.Variant('s', name),
                          slowest=[('\r', name, -1, 1, 1, 1)]))
        lines = bus.table()
        assert len(lines) == 3, lines
        shown = r'a\x1b[2J\x0a\x09\x7f\u009b\u202e\u2028\\"\u0301é漢'
        assert lines[0].split()[1:3] == [shown[:24], r'\x07'], lines
        assert lines[1].strip() == shown, lines
        assert lines[2].split()[:2] == [r'\x0d', shown[:40]], lines
        text = bus.top('--once', '--json', QUICK).stdout
        assert json.loads(text)['loops'][0]['program'] == name, text
        assert text[-1] == '\n' and text[:-1].isprintable(), text
        bus.environment['LC_ALL'] = 'C'
        assert bus.table()[1].strip() == shown.replace('é漢', r'\u00e9\u6f22')


def test_wide_and_long_names_keep_the_columns():
    with Bus() as bus:
        for pid, name in enumerate(('漢' * 100, 'x' * 100, 'short'), 1):
            Program(bus, Loop(program=GLib.Variant('s', name), pid=GLib.Variant('u', pid)))
        lines = bus.table()
        assert lines[0].split()[1] == '漢' * 12 and lines[1].split()[1] == 'x' * 24, lines
        columns = {sum(2 if c == '漢' else 1 for c in line[:line.index('epoll')])
                   for line in lines}
        assert len(columns) == 1, lines


def test_hostile_answers_are_survived():
    with Bus() as bus:
        children = ''.join(f'<node name="{i}"/>' for i in range(1000))
        for xml in ('', '<node', '<node><node/></node>', '<node><node name="a/b"/></node>',
                    '<node><node name="-1"/><node name="4294967296"/><node name="1x"/></node>',
                    '<node><node name="4294967295"/></node>', f'<node>{children}</node>'):
            Program(bus).introspect_as(xml)
        many = Program(bus, *[Loop() for _ in range(100)])
        many.introspect_as(f'<node>{children}</node>')
        loops = bus.once()
        assert len(loops) == 64 and {loop['bus-name'] for loop in loops} == {
            many.connection.get_unique_name()}, loops


def test_closed_pipe_ends_it_quietly():
    with Bus() as bus:
        Program(bus, Loop())
        process = subprocess.Popen([TOP, QUICK], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   text=True, env=bus.environment)
        assert process.stdout.readline().split() == HEADINGS
        assert '\x1b' not in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ''
        assert process.wait() in (0, -signal.SIGPIPE)
        process.stderr.close()


def test_what_cannot_be_written_is_told():
    with Bus() as bus, open('/dev/full', 'wb') as full:
        process = subprocess.Popen([TOP, QUICK], stdout=full, stderr=subprocess.PIPE, text=True,
                                   env=bus.environment)
        assert 'gaio-top: cannot write: ' in process.stderr.read()
        assert process.wait() == 1
        process.stderr.close()


def test_bus_that_goes_away_is_told():
    with Bus() as bus:
        Program(bus, Loop())
        with Watch(bus) as watch, Terminal(bus) as terminal:
            watch.wait_until(bool)
            terminal.frame()
            bus.daemon.kill()
            assert watch.process.stderr.read() == 'gaio-top: the session bus is gone\n'
            assert watch.process.wait() == 1
            terminal.wait_for(re.escape(LEAVE) + b'gaio-top: the session bus is gone\r\n')
            assert terminal.process.wait() == 1
            assert termios.tcgetattr(terminal.slave) == terminal.modes


def test_terminal_is_drawn_and_q_restores_it():
    with Bus() as bus, Terminal(bus) as terminal:
        terminal.wait_for(re.escape(ENTER))
        assert termios.tcgetattr(terminal.slave) != terminal.modes
        lines = terminal.frame()
        assert lines[0].split() == HEADINGS and lines[1] == NOBODY, lines
        # Its answer is still awaited when all ends.
        mute = Mute(bus)
        Program(bus, Loop())
        while 'made-up' not in (lines := terminal.frame())[1]:
            pass
        terminal.type(b'x')
        terminal.frame()
        terminal.type(b'q')
        assert terminal.wait_for_end() == 0
        mute.socket.close()


def test_signals_restore_the_terminal():
    with Bus() as bus:
        for number in DEADLY:
            with Terminal(bus) as terminal:
                terminal.frame()
                if number == signal.SIGINT:
                    terminal.type(b'\x03')
                else:
                    terminal.process.send_signal(number)
                assert terminal.wait_for_end() == -number


def test_stopping_restores_the_terminal_until_it_goes_on():
    shell = ('/bin/sh', '-mc', '"$0" "$@"; stty -a; fg >/dev/null', TOP)
    with Bus() as bus, Terminal(bus, command=shell) as terminal:
        terminal.frame()
        terminal.type(b'\x1a')
        shown = terminal.wait_for(re.escape(LEAVE) + b'(.*?)' + re.escape(ENTER))[1].decode()
        assert re.search(r'(?<!-)\bicanon\b', shown) and re.search(r'(?<!-)\becho\b', shown), shown
        terminal.frame()
        terminal.type(b'q')
        assert terminal.wait_for_end() == 0


def test_window_is_never_left():
    with Bus() as bus:
        for pid in range(1, 30):
            Program(bus, Loop(pid=GLib.Variant('u', pid), program=GLib.Variant('s', '漢' * 30)))
        # Only the window makes it draw again.
        with Terminal(bus, '--interval=1000', columns=50, lines=10) as terminal:
            terminal.wait_for(rb' 9  .*\x1b\[m')
            for columns, lines in ((33, 7), (200, 5), (1, 1), (60, 12)):
                terminal.output = b''
                terminal.resize(columns, lines)
                terminal.wait_for(rb'\x1b\[H')
                terminal.resize(columns, lines - 1 if lines > 1 else 2)
                terminal.output = b'\x1b[H' + terminal.output
                frame = terminal.frame()
                assert len(frame) == lines, (columns, lines, frame)
                widths = [sum(2 if c == '漢' else 1 for c in line) for line in frame]
                assert max(widths) <= columns, (columns, frame)


def test_terminal_gets_plain_text_from_once_json_and_when_dumb():
    with Bus() as bus:
        Program(bus, Loop())
        for options, term in ((('--once', QUICK), 'xterm'), (('--json', QUICK), 'xterm'),
                              ((QUICK,), 'dumb')):
            bus.environment['TERM'] = term
            with Terminal(bus, *options) as terminal:
                assert b'\x1b' not in terminal.wait_for(b'.*made-up.*\n')[0]


if __name__ == '__main__':
    threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
    tap.run(globals())
