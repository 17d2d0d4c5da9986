"""TLS between the members: a group whose certificates change under load, and who is kept out of one."""

import re
import shutil
import signal
import subprocess
import time
import unittest

import harness
import test_load
from harness import no_events, wait_until
from test_group_start import GroupCase

GEN_CERTS = harness.ROOT / "utils" / "gen-certs"


class TlsCase(GroupCase):
    """Members at 127.0.0.1 whose certificates name them, and no address."""

    def setUp(self):
        super().setUp()
        self.certs = self.scratch / "certs"
        self.gen_certs("ca", *(f"n{i}=n{i}.test" for i in (1, 2, 3)))
        for i in (1, 2, 3):
            self.install(f"n{i}", "ca", f"n{i}")

    def gen_certs(self, ca, *names, days=3650):
        subprocess.run([GEN_CERTS, "--days", str(days), self.certs / ca, *names], check=True,
                       stdin=subprocess.DEVNULL, timeout=harness.STEP_S_MAX)

    def install(self, member, ca, name):
        """Certificate and key where the member looks for them, and the CA, if it has none yet."""
        place = self.certs / member
        place.mkdir(exist_ok=True)
        for end in ("pem", "key"):
            shutil.copy(self.certs / ca / f"{name}.{end}", place / f"cert.{end}")
        if not (place / "ca.pem").exists():
            self.trust(member, ca)

    def trust(self, member, *cas):
        texts = [(self.certs / ca / "ca.pem").read_text() for ca in cas]
        (self.certs / member / "ca.pem").write_text("".join(texts))

    def member(self, i, **options):
        place = self.certs / f"n{i + 1}"
        server = super().member(i, **options)
        server.options |= {"peer-tls-cert-file": place / "cert.pem", "peer-tls-key-file": place / "cert.key",
                           "peer-tls-ca-file": place / "ca.pem", "peer-reconnect-max": "100ms"}
        return server

    def info(self, server):
        with server.client() as client:
            text = client.cmd("INFO", "peers").decode()
        return dict(line.split(":", 1) for line in text.split("\r\n") if ":" in line)

    def reload(self, server):
        """SIGHUP, until it says that it took the files."""
        before = server.text().count("peer certificate reloaded")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.text().count("peer certificate reloaded") > before, "the reload")


class Serves(TlsCase):
    run_load = test_load.Load.run_load
    judge = test_load.Load.judge
    finish = test_load.Load.finish

    def test_certificates_change_under_load(self):
        """First the CA that is to come is trusted too, then each shows a certificate of it, then the old
        one is trusted no more; after each step one is killed, so that all of its connections are new."""
        servers = [self.founder(i) for i in range(3)]
        for server in servers:
            server.options["port"] = harness.free_port()
            server.launch()
        for server in servers:
            self.assertTrue(server.started(), server.text())
        with servers[0].client() as client:  # the load wants a group in which nothing was written
            wait_until(lambda: client.cmd("GET", "nothing") is None, "a leader")
        nodes = ",".join(f"127.0.0.1:{server.port}" for server in servers)
        process, path = self.run_load(servers[0], "--nodes", nodes)
        self.gen_certs("fresh", *(f"n{i}=n{i}.test" for i in (1, 2, 3)))

        def trust_both(name):
            self.trust(name, "ca", "fresh")

        def show_fresh(name):
            self.install(name, "fresh", name)

        def trust_fresh(name):
            self.trust(name, "fresh")

        for step, change in enumerate((trust_both, show_fresh, trust_fresh)):
            for i, server in enumerate(servers):
                change(f"n{i + 1}")
                self.reload(server)
            if step == 0:
                self.assertIsNone(process.poll(), "the load has ended before anything changed")
            killed = servers[step]
            killed.kill()
            killed.start()
            for server in servers:
                wait_until(lambda s=server: self.info(s)["peers_connected"] == "2", "both others")
        self.finish(process)
        code, words = self.judge(path)
        self.assertEqual(code, 0, words)
        for i, server in enumerate(servers):
            info = self.info(server)
            self.assertEqual(info["peers_tls"], "1")
            self.assertGreaterEqual(int(info["peers_tls_generation"]), 3 - i)
            self.assertGreater(int(info["peers_tls_expires"]), time.time())
            self.assertGreater(int(info["peers_tls_handshakes"]), 3)
            self.assertGreater(int(info["peers_received_bytes"]), 0)
            self.assertEqual(info["peers_tls_reload_failures"], "0")
            self.assertNotIn("peer refused", server.text())
            server.stop()

    def test_join(self):
        first = self.member(0).start()
        second = self.member(1, join=f"127.0.0.1:{first.port}").start()
        self.says(second, "joined cluster=", "peer connected", "following leader=")
        self.settled([first, second])
        self.assertEqual(self.info(second)["peers_tls"], "1")

    def test_bad_files_keep_the_old_certificate(self):
        servers = self.found()
        self.settled(servers)
        shutil.copy(self.certs / "ca" / "n2.pem", self.certs / "n1" / "cert.pem")  # half of the pair
        servers[0].process.send_signal(signal.SIGHUP)
        self.says(servers[0], "peer certificate kept", "is not the key of the certificate")
        (self.certs / "n1" / "ca.pem").unlink()
        self.install("n1", "ca", "n1")
        (self.certs / "n1" / "ca.pem").write_text("nothing")
        servers[0].process.send_signal(signal.SIGHUP)
        wait_until(lambda: servers[0].text().count("peer certificate kept") == 2, "the second refusal")
        servers[1].kill()
        servers[1].start()
        wait_until(lambda: self.info(servers[0])["peers_connected"] == "2", "the old certificate to do")
        info = self.info(servers[0])
        self.assertEqual(info["peers_tls_generation"], "1")
        self.assertEqual(info["peers_tls_reload_failures"], "2")
        self.settled(servers)


class KeptOut(TlsCase):
    """n3 comes with what is wrong: n1 and n2 do without, and say why, as does n3."""

    def wrong(self, way):
        if way == "other CA":
            self.gen_certs("other", "n3=n3.test")
            self.install("n3", "other", "n3")
            return "certificate verify failed", "alert unknown ca"
        if way == "expired":
            self.gen_certs("ca", "old=n3.test", days=-1)
            self.install("n3", "ca", "old")
            return "certificate verify failed: certificate has expired", "alert certificate expired"
        if way == "of another":
            self.install("n3", "ca", "n2")
            words = r"the certificate is for \(n2 n2.test\), expected was one for host \(127.0.0.1\) or name \(n3\)"
            return words, words
        assert way == "without TLS"
        return "TLS: wrong version number: it may be a member without TLS", "it is TLS, which this node was not told"

    def third(self, way, **options):
        server = self.member(2, **options)
        if way == "without TLS":
            for name in [name for name in server.options if name.startswith("peer-tls-")]:
                del server.options[name]
        return server

    def matches(self, server, words):
        wait_until(lambda: re.search(words, server.text()), f"{words} in {server.text()}")

    def founding(self, way):
        here, there = self.wrong(way)
        servers = [self.founder(0).launch(), self.founder(1).launch(),
                   self.third(way, initial_cluster=self.list).launch()]
        for server in servers[:2]:
            self.waiting(server)
            self.matches(server, f'peer refused from=127.0.0.1:.*reason="(TLS: )?{here}')
        self.matches(servers[2], there)
        for server in servers:
            self.assertNotIn("bootstrap complete", server.text())

    def test_founding_other_ca(self):
        self.founding("other CA")

    def test_founding_expired(self):
        self.founding("expired")

    def test_founding_of_another(self):
        self.founding("of another")

    def test_founding_without_tls(self):
        self.founding("without TLS")

    def test_members(self):
        servers = self.found()
        self.settled(servers)
        for way in ("other CA", "expired", "of another", "without TLS"):
            with self.subTest(way=way):
                here, there = self.wrong(way)
                servers[2].kill()
                for server in servers[:2]:
                    server.kill()  # what a refusal says is logged once a minute
                    server.launch()
                for server in servers[:2]:
                    self.assertTrue(server.started(), server.text())
                servers[2] = self.third(way).launch()
                self.assertTrue(servers[2].started(), servers[2].text())
                for server in servers[:2]:
                    self.matches(server, f'peer refused from=127.0.0.1:.*reason="(TLS: )?{here}')
                self.matches(servers[2], there)
                self.settled(servers[:2])
                self.assertEqual(self.info(servers[0])["peers_connected"], "1")
                self.assertGreater(int(self.info(servers[0])["peers_refused"]), 0)
                servers[2].kill()
                self.install("n3", "ca", "n3")
        servers[2] = self.third("right").start()
        self.settled(servers)

    def test_options(self):
        good = self.certs / "n1"
        files = {"cert": good / "cert.pem", "key": good / "cert.key", "ca": good / "ca.pem"}
        for given, words in (
                ({"cert": files["cert"]}, ("peer-tls-cert-file", "peer-tls-key-file", "peer-tls-ca-file", "together")),
                ({**files, "ca": ""}, ("peer-tls-ca-file", "together")),
                ({**files, "key": good / "none"}, ("none", "No such file")),
                ({**files, "key": self.certs / "n2" / "cert.key"}, ("is not the key of",)),
                ({**files, "ca": files["key"]}, (str(files["key"]),))):
            with self.subTest(given=given):
                options = ["--dir", self.scratch / "d", "--port", 0, "--peer-port", 0]
                for name, value in given.items():
                    options += [f"--peer-tls-{name}-file", value]
                code, _, err = self.run_server(*options)
                self.assertEqual(code, 1)
                lines = no_events(err)
                self.assertEqual(len(lines), 1, err)
                for word in words:
                    self.assertIn(word, lines[0])
                self.assertFalse((self.scratch / "d").exists())


if __name__ == "__main__":
    unittest.main()
