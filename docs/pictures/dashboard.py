"""
Takes the pictures of the live dashboard, from a running sitio.

    python docs/pictures/dashboard.py docs/pictures

Needs Chromium, chromedriver, selenium, Pillow and port 8087, and takes seven minutes.
Clients send requests for five minutes; then the photo site stops, and last-good masks
the outage.
"""

import math
import random
import subprocess
import sys
import threading
import time
from base64 import b64decode
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from io import BytesIO
from pathlib import Path
from shutil import which
from socket import create_server

from PIL import Image
from selenium import webdriver

ROOT = Path(__file__).parent.parent.parent

SERVICE = """
from twisted.internet import reactor
from sitio.demo import demoService
service = demoService(reactor, 8087)
service.privilegedStartService()
service.startService()
reactor.run()
"""

#: As in a cluster, whatever the name of this host is.
SITIO = """
import socket
socket.gethostname = lambda: "photos-7d4b9c-x2k8q"
from twisted.scripts.twistd import run
run()
"""

POLICIES = ("retry:times=1", "last-good:max-age=300", "error-page:404")

#: The paths, with their relative frequencies.
PATHS = {"/": 6, "/style.css": 4, "/icon.svg": 2} | {
    f"/photos/{each}.jpg": 2
    for each in ("aurora", "dunes", "fields", "forest", "lake", "night", "ridges", "waves")
}
STRAY = ("/photos/volcano", "/robots.txt", "/favicon.ico")

#: Clients, and requests a second of all of them.
CLIENTS = 8
RATE = 90


class Load(threading.Thread):
    """A client with a varying rate; with C{calm} it requests existing pages only."""

    calm = False

    def __init__(self, port, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.port = port

    def run(self):
        connection = HTTPConnection("localhost", self.port, timeout=10)
        while True:
            path = self.random.choices(list(PATHS), list(PATHS.values()))[0]
            if not Load.calm and self.random.random() < 0.03:
                path = self.random.choice(STRAY)
            try:
                connection.request("GET", path)
                connection.getresponse().read()
            except (OSError, HTTPException):
                connection.close()
            hurry = 1 + 0.5 * math.sin(time.time() / 13) + 0.3 * math.sin(time.time() / 4)
            time.sleep(self.random.expovariate(RATE / CLIENTS * hurry))


def listen(port):
    """Read events from the start on, so that the charts have all five minutes."""
    connection = HTTPConnection("localhost", port)
    connection.request("GET", "/events")
    response = connection.getresponse()
    with suppress(OSError, HTTPException):
        while response.read1():
            pass


def freePort():
    """A free port."""
    with create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def small(png):
    """The picture with 256 colours: the most frequent and the vivid ones, and a mix."""
    image = Image.open(BytesIO(png)).convert("RGB")
    counts = sorted(image.getcolors(1 << 24), reverse=True)
    vivid = [colour for _, colour in counts if max(colour) - min(colour) > 60]
    mix = image.quantize(128, dither=Image.Dither.NONE).getpalette()
    colours = [colour for _, colour in counts[:48]] + vivid[:80] + list(zip(*[iter(mix)] * 3))
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in list(dict.fromkeys(colours))[:256] for part in colour])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


class Camera:
    """A browser that looks at the dashboard."""

    def __init__(self, port, folder):
        options = webdriver.ChromeOptions()
        # Named, or selenium looks for others elsewhere.
        options.binary_location = which("chromium") or ""
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-lcd-text"):
            options.add_argument(flag)
        self.browser = webdriver.Chrome(options, webdriver.ChromeService(which("chromedriver")))
        self.address = f"http://127.0.0.1:{port}/"
        self.folder = Path(folder)

    def take(self, name, theme, width, height, scale=1.5, script=""):
        """One picture, some seconds after the page was opened."""

        def tell(command, **more):
            return self.browser.execute_cdp_cmd(f"Emulation.{command}", more)

        tell(
            "setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=False,
        )
        tell("setScrollbarsHidden", hidden=True)
        tell("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.browser.get(self.address)
        time.sleep(4)
        self.browser.execute_script(script)
        time.sleep(1.5)
        shot = self.browser.execute_cdp_cmd("Page.captureScreenshot", {})
        path = self.folder / f"dashboard-{name}.png"
        small(b64decode(shot["data"])).save(path, optimize=True)
        print(path, path.stat().st_size)


def main(folder):
    """Take them all."""
    port, admin = freePort(), freePort()
    service = subprocess.Popen([sys.executable, "-c", SERVICE], cwd=ROOT)
    options = ["-n", "--pidfile=", "sitio", f"--port={port}", f"--admin={admin}"]
    options += ["--upstream=tcp:localhost:8087", *(f"--policy={each}" for each in POLICIES)]
    sitio = subprocess.Popen([sys.executable, "-c", SITIO, *options], cwd=ROOT)
    try:
        time.sleep(5)
        threading.Thread(target=listen, args=(admin,), daemon=True).start()
        for seed in range(CLIENTS):
            Load(port, seed).start()
        camera = Camera(admin, folder)
        time.sleep(290)
        camera.take("dark", "dark", 1280, 1330)
        Load.calm = True
        time.sleep(8)
        service.terminate()
        time.sleep(25)
        camera.take("outage-light", "light", 1280, 1000)
        camera.take("outage-dark", "dark", 1280, 1000)
        camera.take("phone-dark", "dark", 360, 780, 2)
        camera.take(
            "exchanges-dark",
            "dark",
            1280,
            700,
            script="""
            document.querySelector("#exchanges").scrollIntoView();
            document.querySelectorAll("#last td button")[1].click();
            """,
        )
        camera.browser.quit()
    finally:
        for each in (service, sitio):
            each.terminate()


if __name__ == "__main__":
    main(*sys.argv[1:])
