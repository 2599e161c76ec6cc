"""A jump host, and addresses that only it knows."""

import asyncio
import subprocess
import threading

import asyncssh


class JumpHost:
    """An SSH server that connects on to what `knows` says, and to nothing else. It keeps its keys in `path`."""

    def __init__(self, path, user="jump"):
        path.mkdir(parents=True, exist_ok=True)
        self.user = user
        self.key = path / "jump_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        # (host, port) as clients name it: (host, port) where it is.
        self.knows = {}
        # What it was asked to connect to, in order, and the public keys that were offered to it.
        self.asked = []
        self.offered = set()
        # Set to refuse to connect anybody on.
        self.closed = False
        started = threading.Event()
        self.thread = threading.Thread(target=self.serve, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(10)

    def serve(self, started):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        started.set()
        self.loop.run_forever()

    async def listen(self):
        hop = self
        let_in = asyncssh.read_public_key(f"{self.key}.pub")

        class Server(asyncssh.SSHServer):
            def connection_made(self, connection):
                self.connection = connection

            def begin_auth(self, username):
                return True

            def public_key_auth_supported(self):
                return True

            def validate_public_key(self, username, key):
                hop.offered.add(key.get_fingerprint())
                return username == hop.user and key == let_in

            def connection_requested(self, host, port, _from_host, _from_port):
                if hop.closed:
                    raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "open failed")
                if (host, port) not in hop.knows:
                    raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "Name or service not known")
                hop.asked.append((host, port))
                return self.connection.forward_connection(*hop.knows[host, port])

        self.server = await asyncssh.listen("127.0.0.1", 0, server_factory=Server, server_host_keys=[self.host_key], login_timeout=60)
        self.port = self.server.get_port()

    def stop(self):
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)

    def options(self, prefix=""):
        """Options, or variables, that lead through it."""
        public = self.host_key.export_public_key().decode().strip()
        return {
            f"{prefix}jump_host": f"{self.user}@127.0.0.1:{self.port}",
            f"{prefix}jump_host_keys": [f"[127.0.0.1]:{self.port} {public}"],
            f"{prefix}jump_host_private_key_file": str(self.key),
        }
