"""A real web server on this machine that behaves as a test wants it to."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Answers each path by a behaviour, and notes the headers of every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviours, self.asked = {}, []

    def address(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        number = sum(path == self.path for path, _ in self.server.asked)
        self.server.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        self.server.behaviours[self.path.strip("/")](self, number)

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, sent=None, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content[:sent])
