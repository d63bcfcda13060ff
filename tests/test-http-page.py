#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Usage: test-http-page.py DAEMON [SCREENSHOTS]. The page of the example of a web server, in a real
browser, as TAP. SCREENSHOTS is a folder to put some."""

import base64
import contextlib
import http.client
import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import tap

DAEMON = sys.argv[1]
SCREENSHOTS = sys.argv[2:]
# Only there to fail.
DEADLINE = 100
NARROW, WIDE = 400, 1100
ARGUMENTS = [
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--disable-dev-shm-usage']
KEYS = ['callbacks', 'requests', 'rounds', 'wakeups', 'cpuPermille', 'connections',
        'subscribers', 'mainContexts']

# What the page shows: the number of the event, the points of a plot, and the figures.
SHOWN = '''
const path = document.querySelector('#callbacks .line').getAttribute('d') ?? '';
return {
  state: document.body.dataset.state,
  message: getComputedStyle(document.getElementById('gone')).display !== 'none',
  id: Number(document.body.dataset.id),
  points: path.split(/[ML]/).length - 1,
  path,
  figures: Object.fromEntries(arguments[0].map(
    key => [key, document.querySelector(`#${key} output`).textContent])),
};
'''
# Elements that stick out of the window, and how far one could scroll sideways.
OVERFLOW = '''
const width = document.documentElement.clientWidth;
return [...document.querySelectorAll('body *')]
  .filter(element => element.closest('svg') === null || element.tagName === 'svg')
  .filter(element => element.getBoundingClientRect().right > width + 0.5
    || element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display === 'block')
  .map(element => element.outerHTML.slice(0, 80))
  .concat(document.documentElement.scrollWidth > width ? ['the page'] : []);
'''


def wait_until(condition):
    deadline = time.monotonic() + DEADLINE
    while not (result := condition()):
        assert time.monotonic() < deadline, 'waited too long'
        time.sleep(0.05)
    return result


class Browser:
    """Chromium, driven through WebDriver."""

    def __init__(self, folder):
        self.driver = subprocess.Popen(['chromedriver', '--port=0'], stdout=subprocess.PIPE,
                                       text=True)
        said = next(line for line in self.driver.stdout if 'successfully on port' in line)
        self.port = int(said.rstrip('.\n').split()[-1])
        options = {'args': [*ARGUMENTS, f'--user-data-dir={folder}']}
        self.session = ''
        session = self.ask('POST', '', {'capabilities': {'alwaysMatch': {
            'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}}})
        self.session = '/' + session['sessionId']

    def ask(self, method, command, parameters=None):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=DEADLINE)
        connection.request(method, f'/session{self.session}{command}',
                           None if parameters is None else json.dumps(parameters))
        value = json.load(connection.getresponse())['value']
        connection.close()
        assert not (isinstance(value, dict) and 'error' in value), value
        return value

    def run(self, script, *arguments):
        return self.ask('POST', '/execute/sync', {'script': script, 'args': arguments})

    def devtools(self, command, **parameters):
        self.ask('POST', '/goog/cdp/execute', {'cmd': command, 'params': parameters})

    def open(self, url, width=WIDE, scheme='light'):
        self.ask('POST', '/url', {'url': 'about:blank'})
        self.errors()  # those of the page before are forgotten
        self.devtools('Emulation.setDeviceMetricsOverride', width=width, height=1000,
                      deviceScaleFactor=1, mobile=width < WIDE)
        self.devtools('Emulation.setEmulatedMedia',
                      features=[{'name': 'prefers-color-scheme', 'value': scheme}])
        self.ask('POST', '/url', {'url': url})

    def shown(self):
        return self.run(SHOWN, KEYS)

    def wait_for(self, condition):
        """What is shown as soon as it is so."""
        return wait_until(lambda: condition(shown := self.shown()) and shown)

    def errors(self):
        return self.ask('POST', '/se/log', {'type': 'browser'})

    def screenshot(self, name):
        for folder in SCREENSHOTS:
            png = base64.b64decode(self.ask('GET', '/screenshot'))
            pathlib.Path(folder, f'{name}.png').write_bytes(png)

    def close(self):
        if self.session:
            self.ask('DELETE', '')
        self.driver.terminate()
        self.driver.communicate()


class Daemon:
    def __init__(self, port=0):
        self.process = subprocess.Popen([DAEMON, f'--port={port}', '--interval=100'],
                                        stdout=subprocess.PIPE, text=True)
        said = self.process.stdout.readline()
        assert said.startswith('listening on '), said
        self.url = said.split()[-1]
        self.port = int(self.url.rstrip('/').rpartition(':')[2])

    def end(self):
        self.process.terminate()
        self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0, self.process.returncode


@contextlib.contextmanager
def running_daemon():
    daemon = Daemon()
    try:
        yield daemon
    finally:
        daemon.end()


class Listener(threading.Thread):
    """Collects the events, to compare."""

    def __init__(self, daemon):
        super().__init__(daemon=True)
        self.events = {}
        connection = http.client.HTTPConnection('127.0.0.1', daemon.port, timeout=DEADLINE)
        connection.request('GET', '/events')
        self.stream = connection.getresponse()
        self.start()

    def run(self):
        with contextlib.suppress(http.client.HTTPException, OSError):
            for line in self.stream:
                if line.startswith(b'id: '):
                    number = int(line[4:])
                elif line.startswith(b'data: '):
                    self.events[number] = json.loads(line[6:])


def written(figures):
    """As the page writes them."""
    texts = {key: f'{value:,}' for key, value in figures.items()}
    texts['cpuPermille'] = f"{figures['cpuPermille'] / 10:,.1f} %"
    return texts


def is_live(shown):
    return shown['state'] == 'live'


def check_figures(browser, listener):
    """Those of several events."""
    for _ in range(5):
        last = browser.shown()['id']
        shown = browser.wait_for(lambda shown: shown['id'] > last)
        event = wait_until(lambda: listener.events.get(shown['id']))
        assert shown['figures'] == written(event), (shown['figures'], event)


def test_plot_moves_and_agrees_with_the_server():
    with running_daemon() as daemon:
        listener = Listener(daemon)
        BROWSER.open(daemon.url)
        first = BROWSER.wait_for(is_live)
        later = BROWSER.wait_for(lambda shown: shown['points'] >= first['points'] + 10)
        assert later['path'] != first['path']
        assert later['points'] - first['points'] == later['id'] - first['id'], (first, later)
        assert not later['message']
        check_figures(BROWSER, listener)
        assert not BROWSER.errors()


def test_page_comes_back_after_the_server():
    with running_daemon() as daemon:
        BROWSER.open(daemon.url)
        BROWSER.wait_for(is_live)
        for _ in range(2):
            daemon.end()
            gone = BROWSER.wait_for(lambda shown: shown['state'] == 'gone')
            assert gone['message']
            BROWSER.screenshot('gone')
            daemon.process = Daemon(daemon.port).process
            back = BROWSER.wait_for(is_live)
            assert not back['message']
            BROWSER.wait_for(lambda shown: shown['points'] > gone['points'] + 5)
        # That it could not connect meanwhile is all there is.
        for error in BROWSER.errors():
            assert 'net::ERR_' in error['message'], error


class Refusal(http.server.BaseHTTPRequestHandler):
    """Says that there is no service, to whoever asks."""

    def do_GET(self):
        self.send_error(503)
        self.server.n_asked += 1

    def log_message(self, *_):
        pass


def test_page_asks_again_after_a_refusal():
    """An EventSource gives up then."""
    with running_daemon() as daemon:
        BROWSER.open(daemon.url)
        BROWSER.wait_for(is_live)
        daemon.end()
        with http.server.ThreadingHTTPServer(('127.0.0.1', daemon.port), Refusal) as server:
            server.n_asked = 0
            threading.Thread(target=server.serve_forever).start()
            wait_until(lambda: server.n_asked >= 3)
            assert BROWSER.shown()['message']
            server.shutdown()
        daemon.process = Daemon(daemon.port).process
        BROWSER.wait_for(is_live)


def test_nothing_overflows():
    with running_daemon() as daemon:
        for width in NARROW, WIDE:
            for scheme in 'light', 'dark':
                BROWSER.open(daemon.url, width, scheme)
                BROWSER.wait_for(lambda shown: is_live(shown) and shown['points'] > 3)
                BROWSER.screenshot(f'{scheme}-{width}')
                assert BROWSER.run('return innerWidth;') == width
                assert not (sticks_out := BROWSER.run(OVERFLOW)), sticks_out
        assert not BROWSER.errors()


if not (shutil.which('chromium') and shutil.which('chromedriver')):
    print('1..0 # SKIP chromium and chromedriver are not installed')
    sys.exit()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
    BROWSER = Browser(directory)
    try:
        tap.run(globals())
    finally:
        BROWSER.close()
