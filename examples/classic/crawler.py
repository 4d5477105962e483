"""A crawler: tasks fetch pages of a small site, an actor knows which were seen."""

import re
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import ray

PAGES = 40


class Site(BaseHTTPRequestHandler):
    """Page n links to 2n and 2n + 1, to its neighbour, and back to the start."""

    def do_GET(self):
        page = int(self.path.strip("/"))
        links = {one for one in (2 * page, 2 * page + 1, page + 1, 1) if one <= PAGES}
        body = "".join(f'<a href="/{one}">page {one}</a>' for one in sorted(links)).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@ray.remote(num_cpus=0)
class Seen:
    def __init__(self):
        self.pages = set()

    def only_new(self, links):
        new = [link for link in links if link not in self.pages]
        self.pages.update(new)
        return new


@ray.remote
def fetch(address, path):
    with urllib.request.urlopen(address + path) as answer:
        return re.findall('href="(.*?)"', answer.read().decode())


server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"

ray.init(num_cpus=2, log_to_driver=False)
seen = Seen.remote()
under_way = [fetch.remote(address, path) for path in ray.get(seen.only_new.remote(["/1"]))]
fetched = links = 0
while under_way:
    ready, under_way = ray.wait(under_way)
    for found in ray.get(ready):
        fetched, links = fetched + 1, links + len(found)
        under_way += [fetch.remote(address, path) for path in ray.get(seen.only_new.remote(found))]
server.shutdown()
server.server_close()
print(f"{fetched} pages, {links} links")
